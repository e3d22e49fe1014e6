//! `[capture]`: which part of the requests is kept with its answers, where, how much of it, and what is left out.

use self::path::check_path;
use crate::fault::FaultSink;
use crate::raw::{Raw, RawValue, Reader, parse_percent};
use crate::redact::{PATH_HELP, Part, RedactedPath};
use crate::spec::Capture;
use crate::types::Type;

mod path;

/// Bytes on disk unless the file says otherwise.
const DEFAULT_MAX_BYTES: u64 = 256 << 20;
const MAX_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Most paths of `redact`.
const MAX_PATHS: usize = 64;
/// Longest URL of a sink.
const MAX_URL_LENGTH: usize = 2000;

/// The types that paths lead through.
pub(super) struct Types {
    pub(super) request: Type,
    pub(super) answer: Type,
}

/// Reads the table, which may not be there.
pub(super) fn capture(
    keys: Option<Reader<'_>>,
    types: &Types,
    faults: &mut FaultSink<'_>,
) -> Option<Capture> {
    let mut keys = keys?;
    let permille = percent(&mut keys, faults);
    let max_bytes = keys.bytes("max_size", MAX_BYTES, faults).unwrap_or(DEFAULT_MAX_BYTES);
    let redact = redact(&mut keys, types, faults);
    let sink = sink(&mut keys, faults);
    keys.finish(faults);
    Some(Capture { permille: permille?, max_bytes, redact, sink })
}

fn percent(keys: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<u16> {
    const HELP: &str = "write a part of the requests, 0.1% to 100%, such as `\"5%\"`";
    if keys.raw("percent").is_none() {
        faults.push(keys.span(), format!("{} is missing", keys.label("percent")), HELP);
    }
    let (text, raw) = keys.text("percent", faults)?;
    let permille = parse_percent(text);
    if permille.is_none() {
        faults.push(raw.span.clone(), format!("{} is `{text}`", keys.label("percent")), HELP);
    }
    permille
}

fn redact(keys: &mut Reader<'_>, types: &Types, faults: &mut FaultSink<'_>) -> Vec<RedactedPath> {
    let Some((_, raw)) = keys.raw("redact") else { return Vec::new() };
    let RawValue::Array(items) = &raw.value else {
        keys.wrong_kind("redact", raw, "a list such as `[\"request.question\"]`", faults);
        return Vec::new();
    };
    let label = keys.label("redact");
    if items.len() > MAX_PATHS {
        let message = format!("{label} has {} paths, more than {MAX_PATHS}", items.len());
        faults.push(raw.span.clone(), message, "name what they are in, such as `\"request\"`");
    }
    items.iter().filter_map(|item| redacted(item, &label, types, faults)).collect()
}

fn redacted(item: &Raw, label: &str, types: &Types, faults: &mut FaultSink<'_>) -> Option<RedactedPath> {
    let Some(text) = item.as_text() else {
        let message = format!("{label}: a path is {}, not a string", item.kind());
        faults.push(item.span.clone(), message, PATH_HELP);
        return None;
    };
    let Ok(path) = text.parse::<RedactedPath>() else {
        faults.push(item.span.clone(), format!("{label}: `{text}` is not a path"), help_for(text, types));
        return None;
    };
    let ty = match path.part {
        Part::Request => &types.request,
        Part::Answer => &types.answer,
    };
    match check_path(&path, ty) {
        Ok(()) => Some(path),
        Err(fault) => {
            faults.push(item.span.clone(), format!("{label}: {}", fault.message), fault.help);
            None
        }
    }
}

/// A field's name alone is what people write first.
fn help_for(text: &str, types: &Types) -> String {
    for (part, ty) in [("request", &types.request), ("answer", &types.answer)] {
        let guess = format!("{part}.{text}");
        let names_a_field = || guess.parse().is_ok_and(|path: RedactedPath| check_path(&path, ty).is_ok());
        if *ty != Type::Any && names_a_field() {
            return format!("did you mean `{guess}`?");
        }
    }
    PATH_HELP.to_owned()
}

fn sink(keys: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<String> {
    let (text, raw) = keys.text("sink", faults)?;
    if let Some(help) = url_fault(text) {
        faults.push(raw.span.clone(), format!("{} is `{text}`", keys.label("sink")), help);
        return None;
    }
    if let Some((key, _)) = keys.raw("max_size") {
        let message = format!("{} has no meaning with a `sink`", keys.label("max_size"));
        faults.push(key.span.clone(), message, "remove it: nothing is kept on disk then");
    }
    Some(text.to_owned())
}

/// What is wrong with the URL of a receiver.
fn url_fault(url: &str) -> Option<&'static str> {
    const FORM: &str = "write it as `\"http://HOST:PORT/PATH\"`";
    if url.starts_with("https://") {
        return Some(
            "there is no TLS: name a receiver on this network by `http://`, or one that passes on by TLS",
        );
    }
    let Some(rest) = url.strip_prefix("http://") else { return Some(FORM) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("a password does not belong into a pipeline file: whoever reads it sees it");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_good = url.len() <= MAX_URL_LENGTH
        && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte))
        && !host.is_empty()
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (!is_good).then_some(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Plan};

    fn compiled(capture: &str) -> Result<Option<Capture>, Faults> {
        let text = format!(
            "name = \"p\"\nroute = \"/p\"\n[request]\nquestion = \"text\"\n\
             documents = [{{ text = \"text\", id = \"int\" }}]\n[deployments.m]\nengine = \"echo\"\n[stages.s]\nuse = \"m\"\n\
             inputs = {{ text = \"request.question\", documents = \"request.documents\" }}\n\
             [response]\nanswer = \"s.text\"\n[capture]\n{capture}\n"
        );
        Plan::compile("p.toml", &text).map(|plan| plan.capture().cloned())
    }

    #[test]
    fn a_part_is_enough() {
        let capture = compiled("percent = \"5%\"").unwrap().unwrap();
        let expected = Capture { permille: 50, max_bytes: 256 << 20, redact: vec![], sink: None };
        assert_eq!(capture, expected);
        let whole =
            "percent = \"100%\"\nmax_size = \"1GiB\"\nredact = [\"request.documents[].text\", \"answer\"]";
        let capture = compiled(whole).unwrap().unwrap();
        assert_eq!((capture.permille, capture.max_bytes, capture.redact.len()), (1000, 1 << 30, 2));
        let words = "100% of the requests, at most 1GiB on disk at each ingress, without `request.documents[].text`, `answer`";
        assert_eq!(capture.to_string(), words);
        let sink = compiled("percent = \"0.1%\"\nsink = \"http://[::1]:8080/events?a=b\"").unwrap().unwrap();
        assert_eq!((sink.permille, sink.sink.as_deref()), (1, Some("http://[::1]:8080/events?a=b")));
        assert_eq!(sink.to_string(), "0.1% of the requests, sent to `http://[::1]:8080/events?a=b`");
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        for (capture, message, help) in [
            ("", "`capture.percent` is missing", "such as `\"5%\"`"),
            ("percent = 5", "not a string", "write a string"),
            ("percent = \"5\"", "`capture.percent` is `5`", "0.1% to 100%"),
            ("percent = \"0%\"", "`capture.percent` is `0%`", "0.1% to 100%"),
            ("percent = \"5%\"\nmax_size = \"1KiB\"", "`capture.max_size` is `1KiB`", "1MiB or more"),
            ("percent = \"5%\"\nredact = \"answer\"", "is a string, not a list", "a list such as"),
            ("percent = \"5%\"\nredact = [1]", "a path is an integer", "request.question"),
            (
                "percent = \"5%\"\nredact = [\"question\"]",
                "is not a path",
                "did you mean `request.question`?",
            ),
            (
                "percent = \"5%\"\nredact = [\"request.qestion\"]",
                "`request` has no field `qestion`",
                "did you mean `request.question`?",
            ),
            (
                "percent = \"5%\"\nredact = [\"request.documents.text\"]",
                "is a list",
                "`request.documents[].text`",
            ),
            (
                "percent = \"5%\"\nredact = [\"answer.txt\"]",
                "`answer` has no field `txt`",
                "there is only `answer.answer`",
            ),
            ("percent = \"5%\"\nsink = \"https://a/\"", "`capture.sink` is", "there is no TLS"),
            ("percent = \"5%\"\nsink = \"http://\"", "`capture.sink` is", "http://HOST:PORT/PATH"),
            ("percent = \"5%\"\nsink = \"http://a b/\"", "`capture.sink` is", "http://HOST:PORT/PATH"),
            ("percent = \"5%\"\nsink = \"http://a:x/\"", "`capture.sink` is", "http://HOST:PORT/PATH"),
            ("percent = \"5%\"\nsink = \"http://u:p@a/\"", "`capture.sink` is", "a password does not"),
            ("percent = \"5%\"\nsink = \"http://a/\"\nmax_size = \"1MiB\"", "has no meaning", "remove it"),
            ("percent = \"5%\"\nsample = 1", "has a key `capture.sample`", "use one of"),
        ] {
            let Err(faults) = compiled(capture) else { panic!("{capture} was taken") };
            let fault = &faults.faults[0];
            assert_eq!(faults.faults.len(), 1, "{capture}: {faults}");
            assert!(fault.message.contains(message) && fault.help.contains(help), "{capture}: {fault:?}");
        }
        let faults =
            compiled("percent = \"5\"\nredact = [\"request.a\", \"answer.b\"]\nsize = 1").unwrap_err();
        assert_eq!(faults.faults.len(), 4, "all at once: {faults}");
    }

    #[test]
    fn a_file_without_a_route_has_no_requests_to_capture() {
        let text = "name = \"p\"\n[deployments.m]\nengine = \"echo\"\n[capture]\npercent = \"5%\"\n";
        let Err(faults) = Plan::compile("p.toml", text) else { panic!("it was taken") };
        assert!(faults.faults[0].message.contains("has a `[capture]` but no `route`"), "{faults}");
    }
}
