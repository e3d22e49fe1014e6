//! The fence between two heads: the highest term that this worker has obeyed, and what older ones may still say:
//! nothing. Pure; keeping it on disk is left to `identity`.

/// The highest epoch seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochGate {
    highest: u64,
}

/// What becomes of a message of some epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Of the current leader: obey.
    Current,
    /// Of a new leader: remember its epoch, then obey.
    Newer,
    /// Of a head that no longer leads: refuse.
    Older,
}

impl EpochGate {
    /// With what was remembered; 0 on a new node.
    pub fn new(highest: u64) -> Self {
        Self { highest }
    }

    /// The highest epoch seen.
    pub fn highest(self) -> u64 {
        self.highest
    }

    /// Judges a message and remembers a newer epoch.
    pub fn admit(&mut self, epoch: u64) -> Verdict {
        match epoch.cmp(&self.highest) {
            std::cmp::Ordering::Less => Verdict::Older,
            std::cmp::Ordering::Equal => Verdict::Current,
            std::cmp::Ordering::Greater => {
                self.highest = epoch;
                Verdict::Newer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_refused_for_ever() {
        let mut gate = EpochGate::new(3);
        let verdicts = [3, 2, 5, 4, 5, 3].map(|epoch| gate.admit(epoch));
        use Verdict::{Current, Newer, Older};
        assert_eq!(verdicts, [Current, Older, Newer, Older, Current, Older]);
        assert_eq!(gate.highest(), 5);
    }
}
