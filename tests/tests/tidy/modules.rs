//! The module trees of all packages, parsed, without what only tests see.

use std::path::{Path, PathBuf};

use proc_macro2::TokenTree;
use syn::{Attribute, ImplItem, Item, Meta};

use crate::dependencies::{Package, packages};
use crate::files::{read, root};

/// A file and the module that it holds.
pub(crate) struct Module {
    /// Number of the crate: two targets of one package are two crates.
    pub(crate) crate_number: usize,
    /// Names of the modules from the crate's root to this one.
    pub(crate) path: Vec<String>,
    /// Path of the file in the repository.
    pub(crate) file: String,
    /// What is in it, without tests.
    pub(crate) items: Vec<Item>,
}

/// The modules of every library and binary, with those of these tests, in order.
pub(crate) fn all() -> Vec<Module> {
    let mut modules = Vec::new();
    for (crate_number, file) in packages().iter().flat_map(roots).enumerate() {
        let folder = file.parent().unwrap().to_owned();
        let module = Module { crate_number, path: Vec::new(), file: shown(&file), items: Vec::new() };
        load(module, &folder, &mut modules);
    }
    modules
}

/// The files with which a package's crates begin; integration tests but these are left out.
fn roots(package: &Package) -> Vec<PathBuf> {
    let folder = root().join(&package.folder);
    let mut roots: Vec<PathBuf> =
        ["src/lib.rs", "src/main.rs"].iter().map(|file| folder.join(file)).collect();
    let named = ["bin", "test"].iter().filter_map(|kind| package.manifest.get(*kind)?.as_array()).flatten();
    for file in named.map(|target| target["path"].as_str().unwrap()) {
        if !file.contains("tests/") || file.starts_with("tests/tidy/") {
            roots.push(folder.join(file));
        }
    }
    if let Ok(examples) = folder.join("examples").read_dir() {
        roots.extend(examples.map(|example| example.unwrap().path()));
    }
    roots.retain(|file| file.extension().is_some_and(|extension| extension == "rs") && file.is_file());
    roots.sort();
    roots.dedup();
    roots
}

/// Parses the module's file, and those of its modules. `folder` is where files of modules in it are.
fn load(mut module: Module, folder: &Path, modules: &mut Vec<Module>) {
    let parsed =
        syn::parse_file(&read(&module.file)).unwrap_or_else(|error| panic!("{}: {error}", module.file));
    module.items = without_tests(parsed.items);
    let children: Vec<Module> = files_of(&module.items, folder)
        .into_iter()
        .map(|child| Module {
            crate_number: module.crate_number,
            path: module.path.iter().chain([&child.name]).cloned().collect(),
            file: shown(&child.file),
            items: Vec::new(),
        })
        .collect();
    modules.push(module);
    for child in children {
        let folder = folder.join(child.path.last().unwrap());
        load(child, &folder, modules);
    }
}

struct Child {
    name: String,
    file: PathBuf,
}

/// The files of the modules that items declare. One with a `#[path]` belongs to another target.
fn files_of(items: &[Item], folder: &Path) -> Vec<Child> {
    let declared = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() => Some(module),
        _ => None,
    });
    declared
        .filter(|module| !module.attrs.iter().any(|attribute| attribute.path().is_ident("path")))
        .map(|module| {
            let name = module.ident.to_string();
            let beside = folder.join(format!("{name}.rs"));
            let file = if beside.is_file() { beside } else { folder.join(&name).join("mod.rs") };
            Child { name, file }
        })
        .collect()
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// The items that are there outside of tests.
fn without_tests(items: Vec<Item>) -> Vec<Item> {
    let kept = items.into_iter().filter(|item| !attributes(item).iter().any(is_for_tests));
    kept.map(|mut item| {
        match &mut item {
            Item::Mod(module) => {
                if let Some((_, items)) = &mut module.content {
                    *items = without_tests(std::mem::take(items));
                }
            }
            Item::Impl(block) => block.items.retain(|item| !impl_attributes(item).iter().any(is_for_tests)),
            _ => {}
        }
        item
    })
    .collect()
}

/// `#[cfg(test)]`, alone or among others; `#[test]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return attribute.path().is_ident("test");
    };
    let word = |word: &str| {
        let flat = list.tokens.clone().into_iter().any(|token| mentions(&token, word));
        list.path.is_ident("cfg") && flat
    };
    word("test") && !word("not")
}

fn mentions(token: &TokenTree, word: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => group.stream().into_iter().any(|token| mentions(&token, word)),
        _ => false,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn impl_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        _ => &[],
    }
}
