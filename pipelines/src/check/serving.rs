//! `serving`, at the top of a file and in a deployment: names that clients may give the pipeline or the deployment beside its own.

use std::collections::BTreeMap;

use crate::fault::FaultSink;
use crate::raw::{RawTable, RawValue, Reader};
use crate::{Alias, DeploymentSpec, Name};

/// Most aliases of a pipeline or a deployment.
const MAX_ALIASES: usize = 64;

/// What the aliases are checked against.
pub(super) struct Around<'a> {
    pub(super) file: &'a RawTable,
    pub(super) pipeline: &'a Name,
    /// Those that are sound.
    pub(super) deployments: &'a BTreeMap<Name, DeploymentSpec>,
}

/// The aliases of a file, and whose they are: `None` is the pipeline.
pub(super) fn aliases(
    table: &mut Reader<'_>,
    around: &Around<'_>,
    faults: &mut FaultSink<'_>,
) -> BTreeMap<Alias, Option<Name>> {
    let mut aliases = Aliases { pipeline: around.pipeline, found: BTreeMap::new() };
    if let Some(keys) = table.table("serving", faults) {
        let span = keys.span();
        aliases.read(keys, None, faults);
        if table.raw("route").is_none() {
            let help = "give its deployments aliases: `serving = { aliases = [\"gpt-4o-mini\"] }` in `[deployments.NAME]`";
            let message = "the pipeline has `[serving]` but no `route`, so it cannot be called";
            faults.push(span, message, help);
        }
    }
    let deployments = around.file.get("deployments").and_then(|(_, raw)| raw.as_table());
    for name in around.deployments.keys() {
        let Some((key, raw)) = deployments.and_then(|table| table.get(name.as_str())) else { continue };
        let Some(mut table) = Reader::entry("deployment", key, raw, faults) else { continue };
        if let Some(keys) = table.table("serving", faults) {
            aliases.read(keys, Some(name), faults);
        }
    }
    aliases.found
}

struct Aliases<'a> {
    pipeline: &'a Name,
    found: BTreeMap<Alias, Option<Name>>,
}

impl Aliases<'_> {
    fn read(&mut self, mut keys: Reader<'_>, of: Option<&Name>, faults: &mut FaultSink<'_>) {
        if let Some((_, raw)) = keys.raw("aliases") {
            match &raw.value {
                RawValue::Array(items) if items.len() <= MAX_ALIASES => {
                    let mut texts = Vec::new();
                    for item in items {
                        match item.as_text() {
                            Some(text) => texts.push((text, item.span.clone())),
                            None => keys.wrong_kind("aliases", item, "a list of strings", faults),
                        }
                    }
                    texts.into_iter().for_each(|(text, span)| self.add(text, span, of, faults));
                }
                RawValue::Array(items) => {
                    let message = format!(
                        "{} has {} entries, more than {MAX_ALIASES}",
                        keys.label("aliases"),
                        items.len()
                    );
                    faults.push(raw.span.clone(), message, "remove some");
                }
                _ => keys.wrong_kind("aliases", raw, "a list of strings", faults),
            }
        }
        keys.finish(faults);
    }

    fn add(
        &mut self,
        text: &str,
        span: std::ops::Range<usize>,
        of: Option<&Name>,
        faults: &mut FaultSink<'_>,
    ) {
        let Ok(alias) = text.parse::<Alias>() else {
            let help = "use letters, digits, `-`, `_`, `.`, `:` and `@` between single slashes, a letter or digit first, at most 128 characters";
            faults.push(span, format!("`{text}` cannot be an alias"), help);
            return;
        };
        let own = text.strip_prefix(self.pipeline.as_str());
        if own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let help = "remove it: names of the pipeline and its deployments work beside aliases";
            let message = format!("the alias `{text}` is a name of the pipeline or a deployment of its own");
            faults.push(span, message, help);
        } else if self.found.insert(alias, of.cloned()).is_some() {
            faults.push(
                span,
                format!("the alias `{text}` is given twice in this file"),
                "remove one of the two",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Plan;

    fn file(top: &str, deployment: &str) -> String {
        format!(
            "name = \"p\"\nroute = \"/p\"\n{top}\n[deployments.e]\nengine = \"echo\"\n{deployment}\n[stages.s]\nuse = \"e\"\n\
             inputs = {{ text = \"'x'\" }}\n[response]\nanswer = \"s.text\"\n"
        )
    }

    #[test]
    fn a_pipeline_and_its_deployments_have_aliases() {
        let text = file(
            "serving = { aliases = [\"gpt-4o-mini\", \"Org/Model-1\"] }",
            "serving = { aliases = [\"writer\"] }",
        );
        let plan = Plan::compile("p.toml", &text).unwrap();
        let found: Vec<_> = plan
            .aliases()
            .iter()
            .map(|(alias, of)| (alias.as_str(), of.as_ref().map(crate::Name::as_str)))
            .collect();
        assert_eq!(found, [("Org/Model-1", None), ("gpt-4o-mini", None), ("writer", Some("e"))]);
    }

    #[test]
    fn faults_name_the_alias() {
        let aliases = |list: &str| format!("serving = {{ aliases = {list} }}");
        for (top, deployment, said) in [
            (aliases("[\"a b\"]"), String::new(), "`a b` cannot be an alias"),
            (aliases("[\"p\"]"), String::new(), "is a name of the pipeline"),
            (String::new(), aliases("[\"p/e\"]"), "is a name of the pipeline"),
            (aliases("[\"x\", \"x\"]"), String::new(), "given twice"),
            (aliases("[\"x\"]"), aliases("[\"x\"]"), "given twice"),
            (String::new(), aliases("\"x\""), "a list of strings"),
            (String::new(), aliases("[1]"), "a list of strings"),
            (String::new(), "serving = { alias = [] }".to_owned(), "alias"),
            (aliases(&format!("{:?}", vec!["x"; 65])), String::new(), "more than 64"),
        ] {
            let faults = Plan::compile("p.toml", &file(&top, &deployment)).err().unwrap().to_string();
            assert!(faults.contains(said), "{top} {deployment}: {faults}");
        }
        let alone = "name = \"p\"\n[serving]\naliases = [\"x\"]\n[deployments.e]\nengine = \"echo\"\n";
        let faults = Plan::compile("p.toml", alone).err().unwrap().to_string();
        assert!(faults.contains("but no `route`"), "{faults}");
    }
}
