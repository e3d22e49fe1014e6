//! What a deployment's file says of its inputs: the signature of a tensor model, the prompts of an embedder.

use std::collections::BTreeMap;

use crate::fault::FaultSink;
use crate::raw::{Key, Raw, Reader};
use crate::{DeclaredInputs, PortType, Task};

/// Longest prompt.
const MAX_PROMPT_BYTES: usize = 4096;
/// Most prompts.
const MAX_PROMPTS: usize = 64;

pub(super) fn inputs(
    table: &mut Reader<'_>,
    task: Option<Task>,
    faults: &mut FaultSink<'_>,
) -> DeclaredInputs {
    let signature = signature(table, task, faults);
    DeclaredInputs { signature, prompts: prompts(table, task, faults) }
}

/// `prompts = { query = "query: ", document = "passage: " }`.
fn prompts(
    table: &mut Reader<'_>,
    task: Option<Task>,
    faults: &mut FaultSink<'_>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some((_, raw)) = table.raw("prompts") else { return found };
    let label = table.label("prompts");
    if !matches!(task, None | Some(Task::Embed)) {
        let message = format!("{label} is given, but the deployment does not embed");
        faults.push(raw.span.clone(), message, "remove it; only the task `embed` has prompts");
        return found;
    }
    let Some(prompts) = raw.as_table() else {
        table.wrong_kind("prompts", raw, "a table of texts such as `{ query = \"query: \" }`", faults);
        return found;
    };
    for (key, raw) in &prompts.entries {
        let is_name =
            !key.text.is_empty() && key.text.len() <= 128 && !key.text.chars().any(char::is_control);
        match raw.as_text().filter(|text| text.len() <= MAX_PROMPT_BYTES) {
            _ if !is_name => {
                faults.push(key.span.clone(), "this is not a name of a prompt", "use a word such as `query`");
            }
            Some(_) if found.len() == MAX_PROMPTS => {
                let message = format!("{label} has more than {MAX_PROMPTS} prompts");
                faults.push(key.span.clone(), message, "leave out those that nobody asks for");
                return found;
            }
            Some(text) => drop(found.insert(key.text.clone(), text.to_owned())),
            None => {
                let wanted = format!("a text of at most {MAX_PROMPT_BYTES} bytes");
                table.wrong_kind(&format!("prompts.{}", key.text), raw, &wanted, faults);
            }
        }
    }
    found
}

/// `signature = { inputs = { features = "f32[42]" } }`.
fn signature(
    table: &mut Reader<'_>,
    task: Option<Task>,
    faults: &mut FaultSink<'_>,
) -> BTreeMap<String, PortType> {
    let mut found = BTreeMap::new();
    let Some(mut signature) = table.table("signature", faults) else { return found };
    if !matches!(task, None | Some(Task::Tensor | Task::Custom)) {
        let message = format!("{} is given, but the inputs follow from the task", table.label("signature"));
        faults.push(
            signature.span(),
            message,
            "remove it; only the tasks `tensor` and `custom` have a signature",
        );
    }
    match signature.raw("inputs") {
        None => faults.push(
            signature.span(),
            format!("{} is missing", signature.label("inputs")),
            "write `signature = { inputs = { NAME = \"f32[?]\" } }`",
        ),
        Some((_, raw)) => match raw.as_table() {
            None => signature.wrong_kind("inputs", raw, "a table of tensor types", faults),
            Some(inputs) => {
                for (key, raw) in &inputs.entries {
                    if let Some(ty) = signature_input(&signature, key, raw, faults) {
                        found.insert(key.text.clone(), ty);
                    }
                }
            }
        },
    }
    signature.finish(faults);
    found
}

fn signature_input(
    signature: &Reader<'_>,
    key: &Key,
    raw: &Raw,
    faults: &mut FaultSink<'_>,
) -> Option<PortType> {
    let label = format!("inputs.{}", key.text);
    if key.text.is_empty() || key.text.len() > 128 || key.text.chars().any(char::is_control) {
        faults.push(
            key.span.clone(),
            "this is not a name of an input",
            "use the name that the model gives its input",
        );
        return None;
    }
    let Some(text) = raw.as_text() else {
        signature.wrong_kind(&label, raw, "a tensor type such as `\"f32[42]\"`", faults);
        return None;
    };
    text.parse()
        .map_err(|help: String| {
            let message = format!("{} is `{text}`, which is not a tensor type", signature.label(&label));
            faults.push(raw.span.clone(), message, help);
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use crate::Plan;

    fn compile(settings: &str) -> Result<Plan, String> {
        let file = format!("name = \"p\"\n[deployments.d]\nmodel = \"m\"\n{settings}\n");
        Plan::compile("p.toml", &file).map_err(|faults| faults.to_string())
    }

    #[test]
    fn an_embedder_may_have_prompts() {
        let plan =
            compile("task = \"embed\"\nprompts = { query = \"query: \", \"to find\" = \"\" }").unwrap();
        let spec = plan.deployments().values().next().unwrap();
        assert_eq!(spec.inputs.prompts["query"], "query: ");
        assert_eq!(spec.inputs.prompts["to find"], "");
    }

    #[test]
    fn what_is_not_a_prompt_is_refused() {
        let long = format!("task = \"embed\"\nprompts = {{ query = \"{}\" }}", "a".repeat(5000));
        for (settings, said) in [
            ("task = \"rerank\"\nprompts = { query = \"\" }", "the deployment does not embed"),
            ("task = \"embed\"\nprompts = \"query: \"", "a table of texts"),
            ("task = \"embed\"\nprompts = { query = 1 }", "`prompts.query` is"),
            ("task = \"embed\"\nprompts = { \"\" = \"a\" }", "not a name of a prompt"),
            (&long, "a text of at most 4096 bytes"),
        ] {
            let faults = compile(settings).map(drop).unwrap_err();
            assert!(faults.contains(said), "{faults}");
        }
    }
}
