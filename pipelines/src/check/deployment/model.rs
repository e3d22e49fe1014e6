//! References to models: `name@alias`, `name:version`, `hf:org/repo@rev`, `file:path`.

use crate::ModelRef;

/// The alias that a name alone means.
const DEFAULT_ALIAS: &str = "production";

const FORMS: &str = "write `name@alias`, `name:version`, `hf:org/repo@revision` or `file:path`";

/// Reads a reference. The error says how to write one.
pub(super) fn parse(text: &str) -> Result<ModelRef, &'static str> {
    if let Some(path) = text.strip_prefix("file:") {
        let usable = !path.is_empty() && path.len() <= 1024 && !path.chars().any(char::is_control);
        return usable
            .then(|| ModelRef::File { path: path.to_owned() })
            .ok_or("write the path after `file:`");
    }
    if let Some(rest) = text.strip_prefix("hf:") {
        return hub(rest).ok_or("write `hf:org/repo@revision`; without a revision it is `main`");
    }
    if text.starts_with(['/', '.', '~'])
        || ["onnx", "safetensors", "gguf"].iter().any(|end| text.ends_with(end))
    {
        return Err("write `file:` before a path: `\"file:models/x.onnx\"`");
    }
    if let Some((name, alias)) = text.split_once('@') {
        let usable = is_word(name) && is_word(alias);
        return usable.then(|| ModelRef::Alias { name: name.into(), alias: alias.into() }).ok_or(FORMS);
    }
    if let Some((name, version)) = text.split_once(':') {
        let usable = is_word(name) && is_word(version);
        return usable.then(|| ModelRef::Version { name: name.into(), version: version.into() }).ok_or(FORMS);
    }
    is_word(text).then(|| ModelRef::Alias { name: text.into(), alias: DEFAULT_ALIAS.into() }).ok_or(FORMS)
}

fn hub(rest: &str) -> Option<ModelRef> {
    let (repo, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let (organisation, name) = repo.split_once('/')?;
    let usable =
        is_word(organisation) && is_word(name) && revision.split('/').all(is_word) && revision.len() <= 128;
    usable.then(|| ModelRef::Hub { repo: repo.to_owned(), revision: revision.to_owned() })
}

/// A letter or digit, then letters, digits, `.`, `_`, `-`; never `..`, which would climb out of a folder.
fn is_word(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    first && rest && text.len() <= 96 && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_by_table() {
        let alias = |name: &str, alias: &str| Ok(ModelRef::Alias { name: name.into(), alias: alias.into() });
        let hub =
            |repo: &str, revision: &str| Ok(ModelRef::Hub { repo: repo.into(), revision: revision.into() });
        let cases = [
            ("mini-embedder@production", alias("mini-embedder", "production")),
            ("mini-embedder", alias("mini-embedder", "production")),
            ("m:1.2", Ok(ModelRef::Version { name: "m".into(), version: "1.2".into() })),
            (
                "hf:sentence-transformers/all-MiniLM-L6-v2",
                hub("sentence-transformers/all-MiniLM-L6-v2", "main"),
            ),
            ("hf:a/b@refs/pr/1", hub("a/b", "refs/pr/1")),
            ("file:models/x.onnx", Ok(ModelRef::File { path: "models/x.onnx".into() })),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a:",
            "a b",
            "hf:",
            "hf:a",
            "hf:a/b@",
            "hf:a/..",
            "hf:a/b/c",
            "file:",
            "../x",
            "./m/iris.onnx",
            "iris.onnx",
            "é",
            "file:a\u{0}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
