//! `autoscaling`: a table, or `"auto"`; or `replicas`, a fixed number.

use std::time::Duration;

use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader, Syntax, did_you_mean, parse};
use crate::{Autoscaling, Faults};

const MAX_REPLICAS: u32 = 10_000;
/// Most replicas of `autoscaling = "auto"`.
const AUTO_MAX_REPLICAS: u32 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// What a lone table is read as the value of.
const KEY: &str = "autoscaling";

impl Autoscaling {
    /// Reads settings that stand alone, as a pipeline's file would have them: `{ max_replicas = 8 }`, `"auto"`, the
    /// keys without braces, or the whole `autoscaling = …`. `name` is what messages call the text.
    ///
    /// # Errors
    /// All faults.
    pub fn from_text(name: &str, text: &str) -> Result<Self, Faults> {
        let trimmed = text.trim();
        let document = match trimmed {
            "auto" => format!("{KEY} = \"auto\""),
            _ if trimmed.starts_with(['{', '"', '\'']) => format!("{KEY} = {trimmed}"),
            _ if trimmed.starts_with(KEY) || trimmed.starts_with('[') => trimmed.to_owned(),
            _ if trimmed.contains('\n') => format!("[{KEY}]\n{trimmed}"),
            _ => format!("{KEY} = {{ {trimmed} }}"),
        };
        let mut faults = FaultSink::new(&document);
        let (table, syntax) = parse(&mut faults);
        let mut found = Self::default();
        if syntax == Syntax::Sound {
            let mut reader = Reader::file(&table);
            found = autoscaling(&mut reader, &mut faults);
            reader.finish(&mut faults);
        }
        match faults.into_faults(name) {
            None => Ok(found),
            Some(faults) => Err(faults),
        }
    }
}

/// Reads whichever of the keys is there; without any there is one replica.
pub(super) fn replicas(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Autoscaling {
    let scales = table.raw(KEY).is_some();
    let autoscaling = autoscaling(table, faults);
    let Some((name, _)) = table.raw("replicas") else { return autoscaling };
    if scales {
        let message = format!("{} is given beside `autoscaling`", table.label("replicas"));
        let help = "keep one of them: `replicas` is a fixed number, `autoscaling` bounds one that changes";
        faults.push(name.span.clone(), message, help);
    }
    let Some(replicas) = table.int("replicas", 1..=MAX_REPLICAS, faults) else { return autoscaling };
    Autoscaling { min_replicas: replicas, max_replicas: replicas, ..autoscaling }
}

/// Reads `autoscaling`; without it there is one replica.
fn autoscaling(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Autoscaling {
    let defaults = Autoscaling::default();
    let Some((_, raw)) = table.raw("autoscaling") else { return defaults };
    if let RawValue::Text(text) = &raw.value {
        if text != "auto" {
            let message = format!("{} is `{text}`", table.label("autoscaling"));
            faults.push(raw.span.clone(), message, did_you_mean(text, ["auto"]) + ", or write a table");
        }
        return Autoscaling { max_replicas: AUTO_MAX_REPLICAS, ..defaults };
    }
    let Some(mut keys) = table.table("autoscaling", faults) else { return defaults };
    let min_replicas = keys.int("min_replicas", 0..=MAX_REPLICAS, faults).unwrap_or(defaults.min_replicas);
    let max_given = keys.int("max_replicas", 1..=MAX_REPLICAS, faults);
    if let Some(max) = max_given.filter(|&max| max < min_replicas)
        && let Some((_, raw)) = keys.raw("max_replicas")
    {
        let message = format!(
            "{} is `{max}`, less than `min_replicas`, which is {min_replicas}",
            keys.label("max_replicas")
        );
        faults.push(
            raw.span.clone(),
            message,
            format!("set it to {min_replicas} or more, or lower `min_replicas`"),
        );
    }
    let found = Autoscaling {
        min_replicas,
        max_replicas: max_given.unwrap_or(defaults.max_replicas).max(min_replicas),
        target_ongoing_requests: keys
            .number("target_ongoing_requests", 0.001..=1e6, faults)
            .unwrap_or(defaults.target_ongoing_requests),
        look_back: keys
            .duration("look_back", Duration::from_millis(100)..=HOUR, faults)
            .unwrap_or(defaults.look_back),
        upscale_delay: keys
            .duration("upscale_delay", Duration::ZERO..=HOUR, faults)
            .unwrap_or(defaults.upscale_delay),
        downscale_delay: keys
            .duration("downscale_delay", Duration::ZERO..=24 * HOUR, faults)
            .unwrap_or(defaults.downscale_delay),
        idle_timeout: keys
            .duration("idle_timeout", Duration::ZERO..=24 * HOUR, faults)
            .unwrap_or(defaults.idle_timeout),
        upscaling_factor: keys
            .number("upscaling_factor", 0.001..=1000.0, faults)
            .unwrap_or(defaults.upscaling_factor),
        downscaling_factor: keys
            .number("downscaling_factor", 0.001..=1000.0, faults)
            .unwrap_or(defaults.downscaling_factor),
        upscale_tolerance: keys
            .number("upscale_tolerance", 0.0..=10.0, faults)
            .unwrap_or(defaults.upscale_tolerance),
    };
    keys.finish(faults);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = Autoscaling::from_text("flag", text).unwrap_err().faults;
        faults.into_iter().map(|fault| format!("{}; {}", fault.message, fault.help)).collect()
    }

    #[test]
    fn settings_alone_are_read_however_they_are_written() {
        for text in [
            "{ min_replicas = 0, max_replicas = 40 }",
            "min_replicas = 0, max_replicas = 40",
            "min_replicas = 0\nmax_replicas = 40\n",
            "autoscaling = { min_replicas = 0, max_replicas = 40 }",
            "[autoscaling]\nmin_replicas = 0\nmax_replicas = 40",
        ] {
            let found = Autoscaling::from_text("flag", text).unwrap();
            assert_eq!((found.min_replicas, found.max_replicas), (0, 40), "{text}");
        }
        for text in ["auto", "\"auto\"", "autoscaling = \"auto\""] {
            let found = Autoscaling::from_text("flag", text).unwrap();
            assert_eq!((found.min_replicas, found.max_replicas), (1, 100), "{text}");
        }
        assert_eq!(Autoscaling::from_text("flag", "{}").unwrap(), Autoscaling::default());
    }

    #[test]
    fn bad_settings_are_refused_with_place_and_fix_all_at_once() {
        let text = "{ min_replicas = 5, max_replicas = 2, target_ongoing_requests = nan, look_back = 3, \
                    upscaling_factor = -1, downscaling_factor = 0, replicas = 3 }";
        let found = faults(text);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found[0].contains("`autoscaling.max_replicas` is `2`, less than `min_replicas`, which is 5"));
        assert!(found[0].contains("set it to 5 or more, or lower `min_replicas`"));
        let place = Autoscaling::from_text("flag", text).unwrap_err().faults[0].column;
        assert_eq!(place, "autoscaling = { min_replicas = 5, max_replicas = ".len() + 1);
    }

    #[test]
    fn each_number_has_its_range() {
        for text in [
            "{ min_replicas = -1 }",
            "{ min_replicas = 0.5 }",
            "{ max_replicas = 0 }",
            "{ max_replicas = 10001 }",
            "{ target_ongoing_requests = 0 }",
            "{ target_ongoing_requests = -2.0 }",
            "{ target_ongoing_requests = inf }",
            "{ look_back = \"0s\" }",
            "{ upscale_delay = \"-1s\" }",
            "{ idle_timeout = \"25h\" }",
            "{ upscaling_factor = nan }",
            "\"automatic\"",
            "{ min_replicas = 1",
            "5",
        ] {
            assert_eq!(faults(text).len(), 1, "{text}: {:#?}", faults(text));
        }
    }
}
