//! Times of the cluster's as the clock of whoever reads shows them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Such as `2026-03-01 14:05:09`; `ms` is milliseconds since the Unix epoch.
pub(crate) fn local_time(ms: u64) -> String {
    in_zone(ms, TimeZone::system())
}

fn in_zone(ms: u64, zone: TimeZone) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms"), |at| at.to_zoned_datetime(zone).strftime("%F %T").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_and_an_hour() {
        assert_eq!(in_zone(1_764_000_000_000, TimeZone::UTC), "2025-11-24 16:00:00");
        assert_eq!(in_zone(u64::MAX, TimeZone::UTC), format!("{} ms", u64::MAX));
    }
}
