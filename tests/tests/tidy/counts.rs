//! Sizes that make code hard to read: long files and functions, many parameters and fields, parameters that hide what
//! they are. Today's exceptions are listed in `debts.txt`: rule, file and item, count.
//!
//! Tests are left out: they are read one at a time, and tables of cases are long.

use std::collections::BTreeMap;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Block, Fields, FnArg, ImplItemFn, ItemFn, ItemImpl, ItemMod, ItemStruct, ItemTrait, TraitItemFn};
use syn::{Signature, Type, Visibility};

use crate::files::{none_of, read};
use crate::list::{Comparison, lines};
use crate::modules::{self, Module};

const LIST: &str = "tests/tests/tidy/debts.txt";

/// Lines of a file, its tests left out, from which it is a debt.
const LONG_FILE: usize = 400;
/// Lines that no file may have, its tests left out.
const MAX_FILE: usize = 500;
/// Lines of a function, from `fn` to the last brace.
const MAX_FUNCTION: usize = 60;
/// Parameters, `self` left out.
const MAX_PARAMETERS: usize = 5;
/// Fields of a struct.
const MAX_FIELDS: usize = 12;

/// Rule, file and item: how much.
type Debts = BTreeMap<String, usize>;

#[test]
fn what_is_too_large_gets_smaller() {
    let mut found = Debts::new();
    let mut faults = Vec::new();
    for module in modules::all() {
        let lines = file_lines(&read(&module.file));
        if lines > MAX_FILE {
            faults.push(format!(
                "{}: {lines} lines without tests, more than {MAX_FILE}: split it",
                module.file
            ));
        } else if lines > LONG_FILE {
            found.insert(format!("file-lines {}", module.file), lines);
        }
        count(&module, &mut found);
    }
    none_of(&faults);

    let text = read(LIST);
    let list = lines(&text);
    let listed: Debts = list.lines.iter().map(|line| entry(line)).collect();
    compare(&found, &listed).settle(LIST, &format!("{}{}", list.header, written(&found)));
}

/// The lines of a file without its tests, which come last.
fn file_lines(text: &str) -> usize {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text).lines().count()
}

fn entry(line: &str) -> (String, usize) {
    let parts = line.rsplit_once(' ').and_then(|(key, count)| Some((key.to_owned(), count.parse().ok()?)));
    parts.unwrap_or_else(|| panic!("{LIST}: `{line}` does not end in a number"))
}

fn written(debts: &Debts) -> String {
    debts.iter().map(|(key, count)| format!("{key} {count}\n")).collect()
}

fn compare(found: &Debts, listed: &Debts) -> Comparison {
    let mut comparison = Comparison::default();
    for (key, count) in found {
        match listed.get(key) {
            None => comparison.new.push(format!("{key} {count}")),
            Some(known) if count > known => {
                comparison.new.push(format!("{key} {count}, listed with {known}"))
            }
            Some(known) if count < known => {
                comparison.better.push(format!("{key} {count}, listed with {known}"))
            }
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|key| !found.contains_key(*key));
    comparison.better.extend(gone.map(|key| format!("{key}: gone")));
    comparison
}

fn count(module: &Module, debts: &mut Debts) {
    let mut counter = Counter { file: &module.file, names: Vec::new(), debts };
    module.items.iter().for_each(|item| counter.visit_item(item));
}

struct Counter<'a> {
    file: &'a str,
    names: Vec<String>,
    debts: &'a mut Debts,
}

impl Counter<'_> {
    fn inside(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.names.push(name);
        visit(self);
        self.names.pop();
    }

    fn note(&mut self, rule: &str, count: usize) {
        let key = format!("{rule} {}::{}", self.file, self.names.join("::"));
        // Two blocks may have an item of the same name: the larger one counts.
        let noted = self.debts.entry(key).or_default();
        *noted = count.max(*noted);
    }

    fn limit(&mut self, rule: &str, count: usize, max: usize) {
        if count > max {
            self.note(rule, count);
        }
    }

    fn length(&mut self, signature: &Signature, block: &Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        self.limit("function-lines", end + 1 - start, MAX_FUNCTION);
    }

    fn parameters(&mut self, signature: &Signature, visible: &Visibility) {
        let types: Vec<&Type> = signature.inputs.iter().filter_map(type_of).collect();
        self.limit("parameters", types.len(), MAX_PARAMETERS);
        let tuples = types.iter().filter(|of| matches!(of, Type::Tuple(tuple) if !tuple.elems.is_empty()));
        self.limit("tuple-parameters", tuples.count(), 0);
        if !matches!(visible, Visibility::Inherited) {
            let bools =
                types.iter().filter(|of| matches!(of, Type::Path(path) if path.path.is_ident("bool")));
            self.limit("bool-parameters", bools.count(), 0);
        }
    }
}

/// The type of a parameter; none of `self`. References are looked through.
fn type_of(parameter: &FnArg) -> Option<&Type> {
    match parameter {
        FnArg::Receiver(_) => None,
        FnArg::Typed(typed) => Some(match &*typed.ty {
            Type::Reference(reference) => &reference.elem,
            of => of,
        }),
    }
}

impl<'ast> Visit<'ast> for Counter<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.inside(item.ident.to_string(), |counter| visit::visit_item_mod(counter, item));
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.inside(item.ident.to_string(), |counter| visit::visit_item_trait(counter, item));
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let name = match &*item.self_ty {
            Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
            _ => "impl".to_owned(),
        };
        let is_of_trait = item.trait_.is_some();
        self.inside(name, |counter| {
            for item in &item.items {
                match item {
                    // What a trait's function takes is the trait's choice.
                    syn::ImplItem::Fn(item) if is_of_trait => {
                        counter.inside(item.sig.ident.to_string(), |counter| {
                            counter.length(&item.sig, &item.block);
                            counter.visit_block(&item.block);
                        });
                    }
                    _ => counter.visit_impl_item(item),
                }
            }
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.inside(item.sig.ident.to_string(), |counter| {
            counter.length(&item.sig, &item.block);
            counter.parameters(&item.sig, &item.vis);
            counter.visit_block(&item.block);
        });
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.inside(item.sig.ident.to_string(), |counter| {
            counter.length(&item.sig, &item.block);
            counter.parameters(&item.sig, &item.vis);
            counter.visit_block(&item.block);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.inside(item.sig.ident.to_string(), |counter| {
            counter.parameters(&item.sig, &Visibility::Inherited);
            if let Some(block) = &item.default {
                counter.length(&item.sig, block);
                counter.visit_block(block);
            }
        });
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        if let Fields::Named(fields) = &item.fields {
            self.inside(item.ident.to_string(), |counter| {
                counter.limit("fields", fields.named.len(), MAX_FIELDS);
            });
        }
    }
}

#[test]
fn a_debt_may_shrink_and_not_grow() {
    let debts = |entries: &[(&str, usize)]| -> Debts {
        entries.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
    };
    let listed = debts(&[("same", 1), ("less", 5), ("more", 5), ("gone", 5)]);
    let found = debts(&[("same", 1), ("less", 4), ("more", 6), ("new", 1)]);
    let comparison = compare(&found, &listed);
    assert_eq!(comparison.new, ["more 6, listed with 5", "new 1"]);
    assert_eq!(comparison.better, ["less 4, listed with 5", "gone: gone"]);
}
