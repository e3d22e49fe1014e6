//! Files that import each other in a circle cannot be understood one after the other: there are none.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::none_of;
use crate::imports::{self, Imports};
use crate::modules::{self, Module};

/// The files of one circle, or of several that have files in common.
type Circle = BTreeSet<String>;

#[test]
fn no_file_imports_in_a_circle() {
    let modules = modules::all();
    let mut crates: BTreeMap<usize, Vec<&Module>> = BTreeMap::new();
    for module in &modules {
        crates.entry(module.crate_number).or_default().push(module);
    }
    let found = crates.values().map(|modules| imports::of(modules)).flat_map(|imports| {
        circles(&imports).iter().map(|circle| explain(circle, &imports)).collect::<Vec<_>>()
    });
    none_of(&found.collect::<Vec<_>>());
}

/// The sets of at least two files from each of which every other can be reached.
fn circles(imports: &Imports) -> Vec<Circle> {
    let mut circles: Vec<Circle> = Vec::new();
    for file in imports.keys() {
        if circles.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let there = reached(imports, file);
        let circle: Circle =
            there.iter().filter(|other| reached(imports, other).contains(file)).cloned().collect();
        if circle.len() > 1 {
            circles.push(circle);
        }
    }
    circles
}

/// The files that can be reached from this one; itself only by a circle.
fn reached(imports: &Imports, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for to in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}

/// The arrows between the files of a circle.
fn explain(circle: &Circle, imports: &Imports) -> String {
    let mut text = String::from("files that import each other in a circle:");
    for from in circle {
        for (to, path) in imports.get(from).into_iter().flatten().filter(|(to, _)| circle.contains(*to)) {
            text.push_str(&format!("\n    {from} → {to} (`{path}`)"));
        }
    }
    text
}

#[test]
fn circles_are_found_and_chains_are_not() {
    let arrow = |to: &str| BTreeMap::from([(to.to_owned(), String::new())]);
    let chain = Imports::from([("a".to_owned(), arrow("b")), ("b".to_owned(), arrow("c"))]);
    assert!(circles(&chain).is_empty());
    let mut round = chain;
    round.insert("c".to_owned(), arrow("b"));
    assert_eq!(circles(&round), [Circle::from(["b".to_owned(), "c".to_owned()])]);
}
