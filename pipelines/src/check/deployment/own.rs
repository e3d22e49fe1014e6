//! Settings of engines that run no model: `delay` and the like beside `engine = "echo"`, and the table `sim`.

use std::time::Duration;

use crate::fault::FaultSink;
use crate::raw::Reader;
use crate::{AnswerTokens, Echo, EngineKind, EngineSettings, FirstToken, NextToken, Sim};

/// Keys of `echo`, beside its `engine`.
const ECHO_KEYS: [&str; 3] = ["delay", "fail_ratio", "crash_on"];
const MAX_TIME: Duration = Duration::from_secs(600);
/// Most tokens that a simulated model holds or remembers: one prompt may take them all, and each block of it is kept.
const MAX_TOKENS: u32 = 16_777_216;

/// The settings of the deployment's engine, if it is one of these. Those of another engine are faults.
pub(super) fn settings(
    table: &mut Reader<'_>,
    engine: EngineKind,
    faults: &mut FaultSink<'_>,
) -> Option<EngineSettings> {
    if engine != EngineKind::Echo {
        for key in ECHO_KEYS {
            if let Some((name, _)) = table.raw(key) {
                let (message, help) = if engine == EngineKind::Sim {
                    (
                        format!("{} is not in the table `sim`", table.label(key)),
                        "write it into `sim = { … }`, if that has such a key",
                    )
                } else {
                    (
                        format!("{} is only for engine `echo`", table.label(key)),
                        "remove the key, or set `engine = \"echo\"`",
                    )
                };
                faults.push(name.span.clone(), message, help);
            }
        }
    }
    if engine != EngineKind::Sim
        && let Some((name, _)) = table.raw("sim")
    {
        let message = format!("{} is only for engine `sim`", table.label("sim"));
        faults.push(name.span.clone(), message, "remove the table, or set `engine = \"sim\"`");
    }
    match engine {
        EngineKind::Echo => Some(EngineSettings::Echo(echo(table, faults))),
        EngineKind::Sim => Some(EngineSettings::Sim(sim(table, faults))),
        _ => None,
    }
}

fn echo(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Echo {
    Echo {
        delay: table.duration(ECHO_KEYS[0], Duration::ZERO..=MAX_TIME, faults).unwrap_or_default(),
        fail_ratio: table.number(ECHO_KEYS[1], 0.0..=1.0, faults).unwrap_or_default(),
        crash_on: crash_on(table, faults),
    }
}

fn crash_on(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<String> {
    let (text, raw) = table.text("crash_on", faults)?;
    if text.is_empty() {
        let message = format!("{} is empty", table.label("crash_on"));
        faults.push(raw.span.clone(), message, "write a text, or leave it out");
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn sim(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Sim {
    let defaults = Sim::default();
    let Some(mut keys) = table.table("sim", faults) else { return defaults };
    let found = Sim {
        first_token: first_token(&mut keys, defaults.first_token, faults),
        next_token: next_token(&mut keys, defaults.next_token, faults),
        kv_tokens: keys.int("kv_tokens", 16..=MAX_TOKENS, faults).unwrap_or(defaults.kv_tokens),
        prefix_tokens: keys.int("prefix_tokens", 0..=MAX_TOKENS, faults).unwrap_or(defaults.prefix_tokens),
        answer_tokens: answer_tokens(&mut keys, faults),
        fail_ratio: keys.number("fail_ratio", 0.0..=1.0, faults).unwrap_or(defaults.fail_ratio),
        crash_on: crash_on(&mut keys, faults),
        seed: keys.int("seed", 0..=u32::MAX, faults).unwrap_or(defaults.seed),
    };
    keys.finish(faults);
    found
}

fn first_token(table: &mut Reader<'_>, defaults: FirstToken, faults: &mut FaultSink<'_>) -> FirstToken {
    let Some(mut keys) = table.table("first_token", faults) else { return defaults };
    let mut term = |key| keys.duration(key, Duration::ZERO..=MAX_TIME, faults).unwrap_or_default();
    let found = FirstToken {
        base: term("base"),
        per_prompt_token: term("per_prompt_token"),
        per_sequence: term("per_sequence"),
    };
    keys.finish(faults);
    found
}

fn next_token(table: &mut Reader<'_>, defaults: NextToken, faults: &mut FaultSink<'_>) -> NextToken {
    let Some(mut keys) = table.table("next_token", faults) else { return defaults };
    let mut term = |key| keys.duration(key, Duration::ZERO..=MAX_TIME, faults).unwrap_or_default();
    let found = NextToken { base: term("base"), per_sequence: term("per_sequence") };
    keys.finish(faults);
    found
}

fn answer_tokens(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<AnswerTokens> {
    let mut keys = table.table("answer_tokens", faults)?;
    let (min, max) = (keys.int("min", 1..=MAX_TOKENS, faults), keys.int("max", 1..=MAX_TOKENS, faults));
    if keys.raw("max").is_none() {
        let message = format!("{} is missing", keys.label("max"));
        faults.push(keys.span(), message, "write `answer_tokens = { min = 10, max = 200 }`");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
        && let Some((_, raw)) = keys.raw("min")
    {
        let message = format!("{} is `{min}`, more than `max`, which is `{max}`", keys.label("min"));
        faults.push(raw.span.clone(), message, "set `min` to `max` or less");
    }
    keys.finish(faults);
    max.map(|max| AnswerTokens { min: min.unwrap_or(1).min(max), max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    fn sim_of(settings: &str) -> Result<Sim, Vec<String>> {
        let text = format!("name = \"p\"\n[deployments.a]\nengine = \"sim\"\n{settings}\n");
        match Plan::compile("p.toml", &text) {
            Ok(plan) => match plan.deployments().values().next().unwrap().engine_settings.clone() {
                Some(EngineSettings::Sim(sim)) => Ok(sim),
                other => panic!("{other:?}"),
            },
            Err(faults) => Err(faults.faults.into_iter().map(|fault| fault.message).collect()),
        }
    }

    #[test]
    fn what_is_left_out_has_its_default_and_a_curve_that_is_given_is_whole() {
        assert_eq!(sim_of(""), Ok(Sim::default()));
        let sim = sim_of(
            "task = \"generate\"\n[deployments.a.sim]\nfirst_token = { per_prompt_token = \"7us\" }\nkv_tokens = 64\n\
             answer_tokens = { max = 9 }",
        )
        .unwrap();
        assert_eq!(sim.first_token.base, Duration::ZERO);
        assert_eq!(sim.first_token.per_prompt_token, Duration::from_micros(7));
        assert_eq!(sim.next_token, Sim::default().next_token);
        assert_eq!((sim.kv_tokens, sim.answer_tokens), (64, Some(AnswerTokens { min: 1, max: 9 })));
    }

    #[test]
    fn faults_name_their_key() {
        for (settings, expected) in [
            ("task = \"embed\"", "which engine `sim` does not do"),
            ("model = \"m\"", "engine `sim` runs no model"),
            ("delay = \"1ms\"", "is not in the table `sim`"),
            ("sim = 3", "`sim` is an integer, not a table"),
            ("sim = { kv_tokens = 3 }", "`sim.kv_tokens` is `3`"),
            ("sim = { fail_ratio = 2 }", "`sim.fail_ratio` is `2`"),
            ("sim = { crash_on = \"\" }", "`sim.crash_on` is empty"),
            ("sim = { first_token = { bas = \"1ms\" } }", "has a key `sim.first_token.bas` that is unknown"),
            (
                "sim = { next_token = { base = 5 } }",
                "`sim.next_token.base` is an integer, but a unit is needed",
            ),
            ("sim = { answer_tokens = { min = 5 } }", "`sim.answer_tokens.max` is missing"),
            (
                "sim = { answer_tokens = { min = 5, max = 2 } }",
                "`sim.answer_tokens.min` is `5`, more than `max`",
            ),
        ] {
            let faults = sim_of(settings).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(expected), "{settings}: {faults:?}");
        }
        let text = "name = \"p\"\n[deployments.a]\nengine = \"echo\"\nsim = { seed = 1 }\n";
        let faults = Plan::compile("p.toml", text).err().unwrap().faults;
        assert!(faults[0].message.contains("`sim` is only for engine `sim`"), "{faults:?}");
    }
}
