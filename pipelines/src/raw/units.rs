//! Durations, sizes and parts with their unit in the value: `"250ms"`, `"2GiB"`, `"5%"`.

use std::time::Duration;

/// Longest duration, so that sums of instants never overflow.
const MAX_DURATION_US: f64 = 366.0 * 86_400.0 * 1e6;

/// Largest size: 1 EiB.
const MAX_BYTES: f64 = (1_u64 << 60) as f64;

/// Units of time, in microseconds.
const TIME_UNITS: [(&str, f64); 6] =
    [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6), ("h", 3600e6), ("d", 86_400e6)];

/// Units of size, in bytes.
const SIZE_UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

/// A duration such as `250ms`, `1.5s`, `5m`, at most 366 days.
///
/// # Errors
/// How durations are written in flags, headers and parameters.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str =
        "write a number and `us`, `ms`, `s`, `m`, `h` or `d`, such as `250ms`, at most 366 days";
    duration(text).ok_or(HELP)
}

/// The same in a file. The error says how durations are written there.
pub(crate) fn parse_quoted_duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str =
        "write a number and `us`, `ms`, `s`, `m`, `h` or `d`, such as `\"250ms\"`, at most 366 days";
    duration(text).ok_or(HELP)
}

fn duration(text: &str) -> Option<Duration> {
    let micros = scaled(text, &TIME_UNITS).filter(|&micros| micros <= MAX_DURATION_US)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 366 days")]
    Some(Duration::from_micros(micros.round() as u64))
}

/// A size such as `512MiB` or `1.5GB`, in bytes, at most 1 EiB. The error says how sizes are written.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    const HELP: &str =
        "write a number and `B`, `KiB`, `MiB`, `GiB`, `TiB`, `KB`, `MB`, `GB` or `TB`, such as `\"2GiB\"`";
    let bytes = scaled(text, &SIZE_UNITS).filter(|&bytes| bytes <= MAX_BYTES).ok_or(HELP)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^60")]
    Ok(bytes.round() as u64)
}

/// A part of the requests such as `5%` or `0.1%`, in thousandths: 1 to 1000.
pub(crate) fn parse_percent(text: &str) -> Option<u16> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    let permille = (percent * 10.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 to 1000")]
    (1.0..=1000.0).contains(&permille).then_some(permille as u16)
}

/// `NUMBER UNIT`, with or without a space, in the smallest unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let number: f64 = number.parse().ok()?;
    Some(number * factor).filter(|value| value.is_finite())
}

/// A duration as it is written in files.
pub(crate) fn format_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];
    let micros = duration.as_micros();
    if micros == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        UNITS.into_iter().find(|(_, factor)| micros.is_multiple_of(*factor)).unwrap_or(UNITS[4]);
    format!("{}{unit}", micros / factor)
}

/// A size as it is written in files, rounded up to one decimal of its unit.
#[expect(clippy::cast_precision_loss, reason = "for messages")]
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    let (unit, factor) =
        SIZE_UNITS[..5].iter().rev().find(|(_, f)| bytes as f64 >= *f).unwrap_or(&SIZE_UNITS[0]);
    let tenths = (bytes as f64 / factor * 10.0).ceil() / 10.0;
    format!("{tenths}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("250ms", 250_000),
            ("2s", 2_000_000),
            ("1.5s", 1_500_000),
            ("5m", 300_000_000),
            ("1 h", 3_600_000_000),
            ("7us", 7),
            ("0s", 0),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1e9s", "1..5s", ".s", "NaNs", "999999d", "1 s s", "1S", "é1s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(format_duration(Duration::from_secs(120)), "2m");
    }

    #[test]
    fn sizes() {
        let cases =
            [("2GiB", 2 << 30), ("512 MiB", 512 << 20), ("1.5KB", 1500), ("0B", 0), ("1TiB", 1 << 40)];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "2", "2G", "2gib", "-1B", "9999999TiB", "1.2.3B"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(format_bytes(1 << 20), "1MiB");
        assert_eq!(format_bytes((1 << 20) + 1), "1.1MiB");
    }
}
