//! Pages and their blocks of code.

use std::fs;
use std::path::{Path, PathBuf};

/// Kinds of blocks: what stands after the opening fence.
pub(crate) const KINDS: [&str; 15] = [
    "toml",
    "toml fragment",
    "sh",
    "sh no-run",
    "text",
    "json",
    "console",
    "rust",
    "python",
    "python no-run",
    "javascript",
    "http",
    "yaml",
    "ini",
    "promql",
];

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A page of the documentation.
pub(crate) struct Page {
    /// Its path in the repository.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// A block of code.
pub(crate) struct Block {
    /// What stands after the opening fence.
    pub(crate) kind: String,
    /// Line of the opening fence, from 1.
    pub(crate) line: usize,
    /// Its lines, without the indentation of the fence.
    pub(crate) lines: Vec<String>,
}

impl Block {
    /// The text, with `\n` after each line.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The file that a whole pipeline is to be written to: its first line is `# NAME.toml`.
    pub(crate) fn file_name(&self) -> Option<&str> {
        let name = self.lines.first()?.strip_prefix("# ")?.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let usable = name.ends_with(".toml") && name.bytes().all(plain) && !name.starts_with('/');
        (self.kind == "toml" && usable && !name.contains("..")).then_some(name)
    }
}

impl Page {
    /// The page of that path, if there is one.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let text = fs::read_to_string(root().join(name)).ok()?;
        Some(Self { name: name.to_owned(), text })
    }

    /// All its blocks.
    ///
    /// # Panics
    /// When one has no end.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let Some((indent, fence, kind)) = fence(line) else { continue };
            let mut block = Block { kind: kind.to_owned(), line: index + 1, lines: Vec::new() };
            loop {
                let Some((_, line)) = lines.next() else {
                    panic!("{}:{}: the block has no end", self.name, block.line)
                };
                if is_end(line, fence) {
                    break;
                }
                let blanks = line.len() - line.trim_start_matches(' ').len();
                block.lines.push(line[blanks.min(indent)..].to_owned());
            }
            blocks.push(block);
        }
        blocks
    }
}

/// Indentation, length and information of an opening fence.
fn fence(line: &str) -> Option<(usize, usize, &str)> {
    let text = line.trim_start_matches(' ');
    let rest = text.trim_start_matches('`');
    let length = text.len() - rest.len();
    (length >= 3 && !rest.contains('`')).then(|| (line.len() - text.len(), length, rest.trim()))
}

fn is_end(line: &str, length: usize) -> bool {
    let line = line.trim();
    line.len() >= length && line.bytes().all(|byte| byte == b'`')
}

/// Every page whose blocks are checked.
pub(crate) fn pages() -> Vec<Page> {
    let single =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", "pipelines/models/README.md"];
    let mut names: Vec<String> = single.map(str::to_owned).into();
    for folder in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if file.ends_with(".md") {
                names.push(format!("{folder}/{file}"));
            }
        }
    }
    names.sort();
    names.iter().filter_map(|name| Page::read(name)).collect()
}

#[test]
fn blocks_are_found_with_their_lines() {
    let text = "a\n```toml\nx = 1\n```\n- b\n  ```sh no-run\n  c\n    d\n  ```\n````text\n```\n````\n";
    let page = Page { name: "p.md".to_owned(), text: text.to_owned() };
    let blocks: Vec<_> =
        page.blocks().into_iter().map(|block| (block.kind.clone(), block.line, block.text())).collect();
    let expected = [("toml", 2, "x = 1\n"), ("sh no-run", 6, "c\n  d\n"), ("text", 10, "```\n")];
    assert_eq!(blocks, expected.map(|(kind, line, text)| (kind.to_owned(), line, text.to_owned())));
}
