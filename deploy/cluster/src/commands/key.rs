//! `cluster key`: API keys and their limits. The secret is made here and shown once; the cluster learns its SHA-256 alone.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_pipelines::Name;
use millstream_proto::key::{self, KeyRequest, KeyStatus};
use millstream_proto::v1;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::{self, Output};
use crate::secret::Secret;

/// Flags of `cluster key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    action: KeyAction,
}

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key and print its secret, which nobody can show again.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        limits: KeyLimits,
    },
    /// Show the keys and their limits.
    List,
    /// Change a key's limits in place; those that are not given stay as they are.
    Set {
        /// Its name.
        #[arg(value_name = "KEY")]
        name: String,
        #[command(flatten)]
        limits: KeyLimits,
    },
    /// Delete a key: its secret is refused from then on.
    Delete {
        /// Its name.
        #[arg(value_name = "KEY")]
        name: String,
    },
}

/// Limits of an API key. They are texts here, so that all that is wrong with them is told at once.
#[derive(Debug, Args)]
pub(crate) struct KeyLimits {
    /// Requests a second in the whole cluster, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    rate: Option<String>,
    /// Requests that may come at once, or `none` for those of a second [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    burst: Option<String>,
    /// Requests under way at a time in the whole cluster, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    concurrency: Option<String>,
    /// The key's share beside others where requests wait, 1 to 1000 [default: 1 for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    weight: Option<String>,
    /// The highest priority that its requests may have: high, normal or low [default: normal for a new key].
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// Tokens a minute in the whole cluster, of prompts and answers together, such as 100k, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    tokens_per_minute: Option<String>,
    /// Tokens a day, such as 5M, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    tokens_per_day: Option<String>,
    /// What it may call, with commas between: pipelines (`rag`), deployments (`rag/generator`), what names begin with (`rag/*`), or
    /// `*` for everything [default: `*` for a new key].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Option<Vec<String>>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: KeyArgs) -> Result<(), Failure> {
    match args.action {
        KeyAction::Create { name, limits } => create(global, name, &limits).await,
        KeyAction::List => list(global).await,
        KeyAction::Set { name, limits } => set(global, name, &limits).await,
        KeyAction::Delete { name } => {
            Client::connect(global).await?.delete_key(&name).await?;
            Output::of(global).show(&json!({"deleted": name}), || format!("key {name} is deleted"))
        }
    }
}

async fn create(global: &Global, name: String, limits: &KeyLimits) -> Result<(), Failure> {
    let mut faults = Vec::new();
    faults.extend(name.parse::<Name>().err().map(|error| error.to_string()));
    let settings = checked(limits, faults)?;
    let Secret { text: secret, sha256 } = Secret::new("mk_")?;
    let request = v1::CreateKeyRequest { name, sha256: sha256.into(), settings: Some(settings.into()) };
    let status = Client::connect(global).await?.create_key(request).await?;
    let mut answer = json!(status);
    answer["secret"] = secret.clone().into();
    Output::of(global).show(&answer, || {
        // The secret alone goes to stdout, so that a script can take it from there.
        output::note(format_args!("{}; this is its secret, which is shown this once:", sentence_of(&status)));
        secret
    })
}

async fn set(global: &Global, name: String, limits: &KeyLimits) -> Result<(), Failure> {
    let settings = checked(limits, Vec::new())?;
    if settings == KeyRequest::default() {
        return Err(Failure::usage(
            "nothing to change; give --rate, --burst, --concurrency, --weight, --priority, --tokens-per-minute, --tokens-per-day or \
             --models",
        ));
    }
    let request = v1::SetKeyRequest { name, settings: Some(settings.into()) };
    let status = Client::connect(global).await?.set_key(request).await?;
    Output::of(global).show(&status, || sentence_of(&status))
}

async fn list(global: &Global) -> Result<(), Failure> {
    let keys = Client::connect(global).await?.keys().await?;
    Output::of(global).show(&json!({"keys": keys}), || match &keys[..] {
        [] => "there are no keys; `cluster key create NAME` makes one".to_owned(),
        keys => table(keys),
    })
}

/// The settings that the flags mean.
///
/// # Errors
/// All faults at once, those that were found before among them.
fn checked(limits: &KeyLimits, mut faults: Vec<String>) -> Result<KeyRequest, Failure> {
    let settings = KeyRequest {
        rate_per_s: limits.rate.as_deref().and_then(|text| match text {
            "none" => Some(0.0),
            _ => match text.parse::<f64>().ok().filter(|&rate| rate != 0.0) {
                Some(rate) => Some(rate),
                None => {
                    faults.push(format!(
                        "rate `{text}` is not a number of requests a second; write one above 0 such as 100 or 0.5, or `none`"
                    ));
                    None
                }
            },
        }),
        burst: count("burst", limits.burst.as_deref(), true, &mut faults),
        concurrency: count("concurrency", limits.concurrency.as_deref(), true, &mut faults),
        weight: count("weight", limits.weight.as_deref(), false, &mut faults),
        priority: limits.priority.clone(),
        tokens_per_minute: tokens("tokens-per-minute", limits.tokens_per_minute.as_deref(), &mut faults),
        tokens_per_day: tokens("tokens-per-day", limits.tokens_per_day.as_deref(), &mut faults),
        models: limits.models.as_ref().map(|names| match &names[..] {
            [all] if all == "*" => Vec::new(),
            names => names.iter().map(|name| name.trim().to_owned()).collect(),
        }),
    };
    faults.extend(key::faults(&settings));
    if faults.is_empty() { Ok(settings) } else { Err(Failure::usage(faults.join("\n"))) }
}

/// A whole number above 0; `none` is 0 where that lifts a limit.
fn count(name: &str, text: Option<&str>, may_be_none: bool, faults: &mut Vec<String>) -> Option<u32> {
    let text = text?;
    if may_be_none && text == "none" {
        return Some(0);
    }
    let number = text.parse::<u32>().ok().filter(|&number| number > 0);
    if number.is_none() {
        let or_none = if may_be_none { ", or `none`" } else { "" };
        faults.push(format!("{name} `{text}` is not a whole number above 0; give one{or_none}"));
    }
    number
}

/// What stands for thousands of tokens, millions, billions.
const UNITS: [(char, u64); 3] = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];

/// A number of tokens above 0, such as `100k` or `5M`; `none` is 0, which lifts the limit.
fn tokens(name: &str, text: Option<&str>, faults: &mut Vec<String>) -> Option<u64> {
    let text = text?;
    if text == "none" {
        return Some(0);
    }
    let is_last = |unit: char| text.chars().last().is_some_and(|last| last.eq_ignore_ascii_case(&unit));
    let unit = UNITS.iter().find(|(unit, _)| is_last(*unit));
    let (number, times) = unit.map_or((text, 1), |(_, times)| (&text[..text.len() - 1], *times));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(times));
    let places = u32::try_from(fraction.len()).ok().and_then(|places| 10_u64.checked_pow(places));
    let part = if fraction.is_empty() { Some(0) } else { fraction.parse::<u64>().ok() };
    let part = part.zip(places).and_then(|(part, places)| Some(part.checked_mul(times)? / places));
    let is_number =
        number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !number.ends_with('.');
    let sum = digits.zip(part).and_then(|(digits, part)| digits.checked_add(part));
    let sum = sum.filter(|&sum| sum > 0 && is_number);
    if sum.is_none() {
        faults.push(format!(
            "{name} `{text}` is not a number of tokens above 0; give one such as 20000, 100k or 5M, or `none`"
        ));
    }
    sum
}

/// A number of tokens as flags take it.
fn shown_tokens(tokens: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, times)| tokens >= *times && tokens.is_multiple_of(*times));
    unit.map_or_else(|| tokens.to_string(), |(unit, times)| format!("{}{unit}", tokens / times))
}

/// A key in a sentence.
fn sentence_of(key: &KeyStatus) -> String {
    let KeyStatus { name, rate_per_s, burst, concurrency, weight, priority, .. } = key;
    let mut limits = Vec::new();
    if let Some((rate, burst)) = rate_per_s.zip(*burst) {
        limits.push(format!("{rate} requests a second, {burst} at once"));
    }
    limits.extend(concurrency.map(|most| format!("{most} under way at a time")));
    limits.extend(key.tokens_per_minute.map(|tokens| format!("{} tokens a minute", shown_tokens(tokens))));
    limits.extend(key.tokens_per_day.map(|tokens| format!("{} tokens a day", shown_tokens(tokens))));
    let limits = if limits.is_empty() { "no limits".to_owned() } else { limits.join(", ") };
    let models =
        if key.models.is_empty() { String::new() } else { format!(", may call {}", key.models.join(", ")) };
    format!("key {name} has {limits}; weight {weight}, priority {}{models}", priority.as_str())
}

fn table(keys: &[KeyStatus]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "NAME",
        "RATE",
        "BURST",
        "CONCURRENCY",
        "TOKENS/MIN",
        "TOKENS/DAY",
        "WEIGHT",
        "PRIORITY",
        "MODELS",
        "CREATED",
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for key in keys {
        let created = UNIX_EPOCH.checked_add(Duration::from_millis(key.created_at_ms)).unwrap_or(UNIX_EPOCH);
        table.add_row([
            key.name.clone(),
            or_dash(key.rate_per_s.map(|rate| format!("{rate}/s"))),
            or_dash(key.burst.map(|burst| burst.to_string())),
            or_dash(key.concurrency.map(|most| most.to_string())),
            or_dash(key.tokens_per_minute.map(shown_tokens)),
            or_dash(key.tokens_per_day.map(shown_tokens)),
            key.weight.to_string(),
            key.priority.as_str().to_owned(),
            or_dash(Some(key.models.join(",")).filter(|models| !models.is_empty())),
            humantime::format_rfc3339_seconds(created).to_string(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use millstream_proto::call::Priority;

    use super::*;

    fn limits([rate, burst, concurrency, weight, priority]: [&str; 5]) -> KeyLimits {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let [rate, burst, concurrency, weight, priority] =
            [rate, burst, concurrency, weight, priority].map(given);
        let (tokens_per_minute, tokens_per_day, models) = Default::default();
        KeyLimits { rate, burst, concurrency, weight, priority, tokens_per_minute, tokens_per_day, models }
    }

    #[test]
    fn flags_become_settings_and_all_faults_come_at_once() {
        let settings = checked(&limits(["0.5", "none", "8", "2", "High"]), vec![]).unwrap();
        let expected = KeyRequest {
            rate_per_s: Some(0.5),
            burst: Some(0),
            concurrency: Some(8),
            weight: Some(2),
            priority: Some("High".into()),
            ..KeyRequest::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(checked(&limits([""; 5]), vec![]).unwrap(), KeyRequest::default());
        for bad in
            [["0", "0", "-1", "none", "soon"], ["-3", "1.5", "x", "1001", ""], ["NaN", "", "", "0", "x"]]
        {
            let failure = format!("{:?}", checked(&limits(bad), vec!["before".into()]).unwrap_err());
            for (text, name) in bad.iter().zip(["rate", "burst", "concurrency", "weight", "priority"]) {
                assert!(text.is_empty() || failure.contains(name), "{failure}");
            }
            assert!(failure.contains("before"));
        }
    }

    #[test]
    fn tokens_are_numbers_with_units() {
        let parsed = |text| {
            let mut faults = Vec::new();
            let found = tokens("tokens-per-day", Some(text), &mut faults);
            assert_eq!(found.is_none(), faults.len() == 1, "{text} {faults:?}");
            found
        };
        for (text, expected) in [
            ("20000", 20_000),
            ("100k", 100_000),
            ("100K", 100_000),
            ("1.5M", 1_500_000),
            ("2g", 2_000_000_000),
        ] {
            assert_eq!(parsed(text), Some(expected), "{text}");
        }
        assert_eq!(parsed("none"), Some(0));
        for bad in [
            "",
            "k",
            "0",
            "0k",
            "-1",
            "+1",
            "1.5.5k",
            "1.k",
            ".5M",
            "x",
            "1e3",
            "99999999999999999999",
            "9999999999999G",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        for (tokens, expected) in [(999, "999"), (1_000, "1k"), (5_000_000, "5M"), (1_500_000, "1500k")] {
            assert_eq!(shown_tokens(tokens), expected);
        }
    }

    #[test]
    fn a_star_alone_lifts_the_limit_of_models() {
        let with = |names: &[&str]| {
            let models = Some(names.iter().map(|&name| name.to_owned()).collect());
            checked(&KeyLimits { models, ..limits([""; 5]) }, vec![])
        };
        assert_eq!(with(&["*"]).unwrap().models, Some(vec![]));
        assert_eq!(with(&["rag", " rag/*"]).unwrap().models, Some(vec!["rag".into(), "rag/*".into()]));
        assert!(format!("{:?}", with(&["Rag"]).unwrap_err()).contains("`Rag` is not the name of a pipeline"));
    }

    #[test]
    fn a_table_and_a_sentence_tell_the_limits() {
        let key = KeyStatus {
            name: "team-a".into(),
            tenant: 3,
            rate_per_s: Some(2.5),
            burst: Some(5),
            concurrency: None,
            weight: 2,
            priority: Priority::High,
            tokens_per_minute: Some(100_000),
            tokens_per_day: Some(1_234_567),
            models: vec!["rag".into(), "rag/*".into()],
            created_at_ms: 1_700_000_000_000,
        };
        let sentence = "key team-a has 2.5 requests a second, 5 at once, 100k tokens a minute, 1234567 tokens a day; \
                        weight 2, priority high, may call rag, rag/*";
        assert_eq!(sentence_of(&key), sentence);
        let table = table(&[key]);
        for part in
            ["CONCURRENCY", "team-a", "2.5/s", "-", "100k", "rag,rag/*", "high", "2023-11-14T22:13:20Z"]
        {
            assert!(table.contains(part), "{table}");
        }
    }
}
