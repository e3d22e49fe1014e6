//! Pipeline files: the examples compile, bad files give all their faults, and no file ends the process.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_pipelines::{Action, Color, Plan, Run};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Files of a folder of this crate, in the order of their names.
fn files(folder: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_example_compiles() {
    for (name, text) in files("examples") {
        let plan =
            Plan::compile(&name, &text).unwrap_or_else(|faults| panic!("{}", faults.render(Color::Plain)));
        assert!(plan.route().is_some(), "{name}");
        assert_eq!(format!("{}.toml", plan.name()), name);
        assert!(!plan.targets().is_empty(), "{name}");
    }
}

#[test]
fn bad_files_give_all_their_faults() {
    for (name, text) in files("tests/bad") {
        let Err(faults) = Plan::compile(&name, &text) else { panic!("{name} compiles") };
        let rendered = faults.render(Color::Plain);
        insta::assert_snapshot!(name.trim_end_matches(".toml"), rendered);
        let json = serde_json::to_value(&faults.faults).unwrap();
        for key in ["line", "column", "span", "found", "message", "help"] {
            assert!(json[0].get(key).is_some(), "{key}");
        }
    }
}

/// A plan, or faults with places inside the text; never a panic.
fn compile_any(text: &str) {
    if let Err(faults) = Plan::compile("mutated.toml", text) {
        assert!(!faults.faults.is_empty());
        let num_lines = text.matches('\n').count() + 1;
        for fault in &faults.faults {
            assert!((1..=num_lines).contains(&fault.line), "{fault:?} in:\n{text}");
            assert!(fault.column >= 1, "{fault:?}");
            assert!(
                fault.span.start <= fault.span.end && fault.span.end <= text.len(),
                "{fault:?} in:\n{text}"
            );
            assert!(text.get(fault.span.clone()).is_some(), "{fault:?} cuts a character in:\n{text}");
            assert!(!fault.message.is_empty() && !fault.help.is_empty(), "{fault:?}");
        }
        assert!(!faults.render(Color::Plain).is_empty());
    }
}

/// What mutations insert: what the language gives a meaning to, and what it does not.
const PIECES: [&str; 40] = [
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\0",
    "\t",
    " ",
    "-",
    "0",
    "1.5",
    "nan",
    "inf",
    "true",
    "1979-05-27",
    "é",
    "\u{1F600}",
    "request",
    "{{",
    "}}",
    "{%",
    "%}",
    "|",
    "[0]",
    "[1:]",
    " in ",
    "op:",
    "use:",
    "9999999999999999999",
    "text",
    "\\u0041",
    "\u{2028}",
];

/// A text with one to six random changes.
fn mutate(text: &str, random: &mut StdRng) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(1..=6) {
        let at = random.random_range(0..=text.len());
        let end = (at + random.random_range(0..20)).min(text.len());
        match random.random_range(0..6) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, PIECES.choose(random).unwrap().chars())),
            2 => drop(text.splice(at..end, PIECES.choose(random).unwrap().chars())),
            3 => {
                let part = text[at..end].to_vec();
                let to = random.random_range(0..=text.len());
                text.splice(to..to, part);
            }
            4 => {
                let lines: String = text.iter().collect();
                let mut lines: Vec<&str> = lines.lines().collect();
                if lines.len() > 1 {
                    let (a, b) = (random.random_range(0..lines.len()), random.random_range(0..lines.len()));
                    lines.swap(a, b);
                }
                text = lines.join("\n").chars().collect();
            }
            _ => {
                if let Some(c) = text.get_mut(at) {
                    *c = char::from(random.random_range(0..128_u8));
                }
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn mutated_files_give_a_plan_or_faults_inside_the_text() {
    let originals: Vec<String> =
        files("examples").into_iter().chain(files("tests/bad")).map(|(_, text)| text).collect();
    for seed in 0..2000 {
        let mut random = StdRng::seed_from_u64(seed);
        let text = mutate(originals.choose(&mut random).unwrap(), &mut random);
        compile_any(&text);
    }
}

/// Stages each of which has the value of the one before twice.
fn doubling_merges(num_stages: usize) -> String {
    let stages: String = (1..num_stages)
        .map(|n| {
            format!("[stages.s{n}]\nuse = \"op:merge\"\ninputs = {{ a = \"s{0}\", b = \"s{0}\" }}\n", n - 1)
        })
        .collect();
    let last = num_stages - 1;
    format!(
        "name = \"x\"\nroute = \"/x\"\n[stages.s0]\nuse = \"op:merge\"\ninputs = {{ a = 1 }}\n{stages}[response]\nx = \"s{last}.a.a\"\n"
    )
}

#[test]
fn a_response_that_doubles_with_each_stage_is_refused() {
    let text = doubling_merges(200).replace("s199.a.a", "s199");
    let plan = Arc::new(Plan::compile("x.toml", &text).unwrap());
    let request = plan.parse_request(b"{}").unwrap();
    let (_, actions) = Run::start(plan, &request.fields, |_| 16);
    let Some(Action::Finish(Err(error))) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(error.class.as_str(), "too_large");
}

#[test]
fn texts_made_to_hurt_give_faults() {
    let long = "x".repeat(2 << 20);
    for text in [
        "[".repeat(100_000),
        "a = ".to_owned() + &"{a = ".repeat(50_000),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("a = {}", "{ a.a.a.a.a.a.a.a.a = ".repeat(70)),
        format!("name = \"{long}\""),
        format!("name = \"x\"\nroute = \"/{}\"", "x".repeat(100_000)),
        "a = 1\n".repeat(100_000),
        (0..300).map(|n| format!("[stages.s{n}]\nuse = \"op:merge\"\n")).collect(),
        format!(
            "name = \"x\"\nroute = \"/x\"\n[response]\na = \"{}1{}\"",
            "(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("name = \"x\"\nroute = \"/x\"\n[response]\na = \"{}\"", "1+".repeat(50_000)),
        format!("name = \"x\"\nroute = \"/x\"\n[response]\na = \"{}1\"", "not ".repeat(50_000)),
        format!(
            "name = \"x\"\nroute = \"/x\"\n[stages.s]\nuse = \"op:template\"\ntemplate = \"{}\"\n[response]\na = \"s\"",
            "{% if 1 %}".repeat(10_000)
        ),
        format!(
            "name = \"x\"\n[request]\na = {{ type = \"int\", enum = {:?} }}",
            (0..100_000).collect::<Vec<_>>()
        ),
        (0..100_000).map(|n| format!("key{n} = 1\n")).collect(),
        doubling_merges(200),
        "\u{feff}name = \"x\"".to_owned(),
        "\0\u{1}\u{7f}".to_owned(),
    ] {
        compile_any(&text);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_gives_a_plan_or_faults(text in "\\PC{0,200}|[\\[\\]{}=\"'.,# \nabc0-9]{0,200}") {
        compile_any(&text);
    }
}
