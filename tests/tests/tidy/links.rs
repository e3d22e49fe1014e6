//! Every relative link of a page leads to a file of the repository and, after `#`, to a heading of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{ending_in, is_there, none_of, read};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut faults = Vec::new();
    let mut headings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for page in ending_in(".md") {
        for Link { line, target } in links(&page.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let fault = |what: &str| format!("{}:{line}: `{target}` {what}", page.path);
            let Some(file) = resolved(&page.path, path) else {
                faults.push(fault("leads out of the repository"));
                continue;
            };
            if !is_there(&file) {
                faults.push(fault("is not there"));
            } else if !anchor.is_empty() && file.ends_with(".md") {
                let anchors = headings.entry(file).or_insert_with_key(|file| anchors(&read(file)));
                if !anchors.contains(anchor) {
                    faults.push(fault("names a heading that is not there"));
                }
            }
        }
    }
    none_of(&faults);
}

/// A path beside the page's, from the repository's folder.
fn resolved(page: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(page.to_owned());
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// The lines of a page outside of blocks of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let start = line.trim_start();
        let marks = &start[..start.len() - start.trim_start_matches('`').len()];
        match fence {
            None if marks.len() >= 3 => fence = Some(marks),
            None => return true,
            Some(open) if start.trim_end() == marks && marks.len() >= open.len() => fence = None,
            Some(_) => {}
        }
        false
    })
}

/// The targets of `[text](target)` and `[name]: target`.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        let text = without_code(text);
        let defined = text.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let targets = inline.map(|(target, _)| target).chain(defined.map(|(_, target)| target));
        // A title may follow the target.
        found.extend(
            targets
                .filter_map(|target| target.split_whitespace().next())
                .map(|target| Link { line, target: target.trim_matches(['<', '>']).to_owned() }),
        );
    }
    found
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors of a page's headings: lower case, spaces as hyphens, punctuation left out, equal ones numbered.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' '))?
    });
    headings
        .map(|title| {
            let anchor: String = plain(title)
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// A heading's text, links in it replaced by their words.
fn plain(title: &str) -> String {
    let mut parts = title.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

#[test]
fn links_are_found_outside_of_code_alone() {
    let text = "[a](b.md) and [c](d.md#e \"title\"), `[no](code)`\n```sh\n[no](block)\n```\n[f]: <g.md>\n";
    let link = |line, target: &str| Link { line, target: target.to_owned() };
    assert_eq!(links(text), [link(1, "b.md"), link(1, "d.md#e"), link(5, "g.md")]);
}

#[test]
fn anchors_are_made_of_headings() {
    let text = "# Two words\n## `code`, [a link](x.md) & more\n```\n# no heading\n```\n## Two words\n#no\n";
    let expected = ["two-words", "code-a-link--more", "two-words-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}
