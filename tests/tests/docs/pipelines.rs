//! Blocks of TOML: pipelines that compile, whole or once a fragment is completed.

use millstream_pipelines::{Color, Plan};
use toml::{Table, Value};

use crate::docs::page::{Block, Page};

/// What does not compile, with its place in the page.
pub(crate) fn fault(page: &Page, block: &Block) -> Option<String> {
    let (before, after) = if block.kind == "toml fragment" {
        match block.text().parse::<Table>() {
            Ok(table) => completion(&table),
            Err(error) => return Some(format!("{}:{}: not TOML: {error}", page.name, block.line)),
        }
    } else {
        (String::new(), String::new())
    };
    // As many lines before it as on the page, so that the places of faults are those of the page.
    let blank = "\n".repeat(block.line.saturating_sub(before.lines().count()));
    let text = format!("{blank}{before}{}{after}", block.text());
    let faults = Plan::compile(&page.name, &text).err()?;
    Some(format!(
        "{}:{}: the pipeline does not compile:\n{}",
        page.name,
        block.line,
        faults.render(Color::Plain)
    ))
}

/// What a file needs around these tables: text before and after them.
fn completion(fragment: &Table) -> (String, String) {
    let mut before = String::new();
    let mut after = String::new();
    let stages = fragment.get("stages").and_then(Value::as_table).cloned().unwrap_or_default();
    let deployments = fragment.get("deployments").and_then(Value::as_table).cloned().unwrap_or_default();
    if !fragment.contains_key("name") {
        before += "name = \"fragment\"\n";
    }
    // A file of deployments alone needs neither route nor response.
    let answers = ["stages", "request", "response", "capture"].iter().any(|key| fragment.contains_key(*key));
    if answers && !fragment.contains_key("route") {
        before += "route = \"/fragment\"\n";
    }
    if answers && !fragment.contains_key("request") {
        after +=
            "[request]\ntext = \"text\"\ntexts = \"text[]\"\nquestion = \"text\"\ndocuments = \"text[]\"\n";
    }
    let mut added = Vec::new();
    for stage in stages.values() {
        let Some(name) = stage.get("use").and_then(Value::as_str) else { continue };
        let is_elsewhere = name.contains('/') || name.starts_with("op:");
        if !is_elsewhere && !deployments.contains_key(name) && !added.contains(&name) {
            added.push(name);
            after += &format!("[deployments.{name}]\n{}\n", settings(stage));
        }
    }
    if !answers && deployments.is_empty() {
        after += "[deployments.model]\nengine = \"echo\"\n";
    }
    if answers && !fragment.contains_key("response") {
        after += "[response]\n";
        for name in stages.keys() {
            after += &format!("value_of_{name} = \"{name}\"\n");
        }
        if stages.is_empty() {
            after += "done = \"true\"\n";
        }
    }
    (before, after)
}

/// Settings of a deployment that takes the inputs of this stage.
fn settings(stage: &Value) -> &'static str {
    let given = |name: &str| {
        stage.get(name).is_some() || stage.get("inputs").is_some_and(|inputs| inputs.get(name).is_some())
    };
    if given("prompt") || given("messages") {
        "task = \"generate\"\nmodel = \"mini-generator\""
    } else if given("documents") {
        "task = \"rerank\"\nmodel = \"mini-reranker\""
    } else if given("texts") {
        "task = \"embed\"\nmodel = \"mini-embedder\""
    } else {
        "engine = \"echo\""
    }
}

#[test]
fn fragments_compile_once_they_are_completed() {
    let fault_of = |kind: &str, text: &str| {
        let lines = text.lines().map(str::to_owned).collect();
        let page = Page { name: "p.md".to_owned(), text: String::new() };
        fault(&page, &Block { kind: kind.to_owned(), line: 7, lines })
    };
    for good in [
        "[deployments.x]\ntask = \"embed\"\nmodel = \"file:x\"\nbatch = { max_size = 4 }",
        "[stages.embed]\nuse = \"embedder\"\ninputs = { texts = \"request.texts\" }\nhedge = \"p95\"",
        "[stages.a]\nuse = \"generator\"\nprompt = \"{{ request.question }}\"\n[stages.b]\nuse = \"op:merge\"\ninputs = { x = \"a.text\" }",
        "[request]\ntop_k = { type = \"int\", default = 3 }",
        "[response]\nanswer = \"request.text\"",
        "[stages.far]\nuse = \"search/embedder\"\ninputs = { texts = \"request.texts\" }",
        "[deployments.m]\nengine = \"echo\"\n[stages.s]\nuse = \"m\"\ninputs = { text = \"request.text\" }\n[response]\nt = \"s.text\"",
    ] {
        assert_eq!(fault_of("toml fragment", good), None, "{good}");
    }
    let fault = fault_of(
        "toml fragment",
        "[stages.embed]\nuse = \"embedder\"\ninputs = { texts = \"request.text\" }",
    );
    assert!(fault.as_ref().is_some_and(|fault| fault.contains("p.md:10:")), "{fault:?}");
    assert!(
        fault_of("toml", "[response]\nanswer = \"request.text\"")
            .is_some_and(|fault| fault.contains("p.md:"))
    );
}
