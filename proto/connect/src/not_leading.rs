//! The answer of a head that does not lead: a gRPC status that names the one that does.

use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::heads::is_address;

/// Names the head that leads, in the answer of one that does not; empty when it knows none.
const LEADER: &str = "millstream-leader";

/// What a head says that does not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLeading {
    /// HOST:PORT of the head that does, as far as it knows.
    pub leader: Option<String>,
}

impl NotLeading {
    /// Whether an answer says so.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let leader = status.metadata().get(LEADER)?.to_str().ok()?;
        Some(Self { leader: Some(leader).filter(|leader| is_address(leader)).map(ToOwned::to_owned) })
    }

    /// The answer that says so.
    #[must_use]
    pub fn status(&self, message: impl Into<String>) -> Status {
        let mut status = Status::unavailable(message);
        let leader = MetadataValue::try_from(self.leader.as_deref().unwrap_or_default());
        status.metadata_mut().insert(LEADER, leader.unwrap_or_else(|_| MetadataValue::from_static("")));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_answers_do_not_tell_who_leads_and_bad_addresses_are_not_followed() {
        assert_eq!(NotLeading::of(&Status::unavailable("busy")), None);
        let read =
            |leader: &str| NotLeading::of(&NotLeading { leader: Some(leader.into()) }.status("no")).unwrap();
        assert_eq!(read("a:1").leader.as_deref(), Some("a:1"));
        for bad in ["no address", "a", "a:1/x", "\u{1}:2"] {
            assert_eq!(read(bad).leader, None, "{bad}");
        }
        let nobody = NotLeading { leader: None };
        assert_eq!(NotLeading::of(&nobody.status("no")), Some(nobody));
    }
}
