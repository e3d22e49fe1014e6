//! Which file needs which, by the paths that are written in it: `use` lines, paths in code, paths in macros.
//!
//! A name that a module hands on (`pub use`) leads to the file that defines it. What a file needs of the modules that it
//! lies in is left out: a module is made of its parts, and its parts share its types.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Visibility};

use crate::modules::Module;
use crate::uses::{Leaf, leaves};

/// Names of modules from the crate's root.
type Path = Vec<String>;

/// An arrow from a file to one that it needs, with the words in which it says so.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Which file of the crate needs which.
pub(crate) fn of(modules: &[&Module]) -> Imports {
    let mut tree = Tree::default();
    let mut written = Vec::new();
    for module in modules {
        tree.add(&module.path, &module.file, &module.items);
        let mut reader = Reader { module: module.path.clone(), written: Vec::new() };
        module.items.iter().for_each(|item| reader.visit_item(item));
        written.extend(reader.written);
    }
    let mut imports = Imports::new();
    for Written { module, segments } in written {
        let Some(to) = tree.resolve(&module, &segments) else { continue };
        let from = &tree.modules[&module].file;
        if from != to && !tree.is_around(to, &module) {
            let arrows = imports.entry(from.clone()).or_default();
            arrows.entry(to.clone()).or_insert_with(|| segments.join("::"));
        }
    }
    imports
}

/// A path as it is written, and the module in which it stands.
struct Written {
    module: Path,
    segments: Path,
}

/// Reads the paths of a file, and of the modules inside.
struct Reader {
    module: Path,
    written: Vec<Written>,
}

impl Reader {
    fn note(&mut self, segments: Path) {
        self.written.push(Written { module: self.module.clone(), segments });
    }

    /// Macros are not parsed: what looks like a path in them is taken for one.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.note(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                _ => {}
            }
            if !path.is_empty() {
                self.note(std::mem::take(&mut path));
            }
            colons = 0;
        }
        if !path.is_empty() {
            self.note(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // Handing a name on is no need of this file's own.
        if matches!(item.vis, Visibility::Inherited) {
            for leaf in leaves(item) {
                self.note(leaf.path);
            }
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.note(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// What a crate's modules define and bring in.
#[derive(Default)]
struct Tree {
    modules: BTreeMap<Path, Names>,
}

#[derive(Default)]
struct Names {
    file: String,
    defined: BTreeSet<String>,
    brought_in: Vec<Leaf>,
}

impl Tree {
    fn add(&mut self, path: &[String], file: &str, items: &[Item]) {
        let mut names = Names { file: file.to_owned(), ..Names::default() };
        for item in items {
            match item {
                Item::Use(item) => names.brought_in.extend(leaves(item)),
                Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) => {
                    let inside: Path = path.iter().cloned().chain([ident.to_string()]).collect();
                    self.add(&inside, file, items);
                }
                _ => names.defined.extend(name_of(item)),
            }
        }
        self.modules.insert(path.to_owned(), names);
    }

    /// Whether the module lies in that file's module.
    fn is_around(&self, file: &str, module: &[String]) -> bool {
        (0..module.len()).any(|end| self.modules.get(&module[..end]).is_some_and(|names| names.file == file))
    }

    /// The file that a path leads to; `None` when it is not of this crate.
    fn resolve(&self, module: &[String], segments: &[String]) -> Option<&String> {
        let (start, rest) = self.start(module, segments)?;
        self.descend(start, rest, Unknown::IsOfTheModule, MAX_STEPS)
    }

    /// The module that a path begins in, and what is left of the path.
    fn start<'a>(&self, module: &[String], segments: &'a [String]) -> Option<(Path, &'a [String])> {
        let mut start = module.to_vec();
        let mut rest = segments;
        match segments.first()?.as_str() {
            "crate" => start.clear(),
            "self" | "super" => {}
            first => {
                let child: Path = module.iter().map(String::as_str).chain([first]).map(Into::into).collect();
                return self.modules.contains_key(&child).then_some((start, rest));
            }
        }
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(start.pop()?),
                _ => break,
            }
            rest = others;
        }
        Some((start, rest))
    }

    /// Follows the path down, and through names that are handed on.
    fn descend(&self, mut at: Path, mut rest: &[String], unknown: Unknown, steps: usize) -> Option<&String> {
        while let Some((first, others)) = rest.split_first() {
            at.push(first.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
            rest = others;
        }
        let names = self.modules.get(&at)?;
        let Some((name, others)) = rest.split_first().filter(|(name, _)| !names.defined.contains(*name))
        else {
            return Some(&names.file);
        };
        let handed_on = |leaf: &Leaf| {
            let (path, unknown) = match &leaf.name {
                Some(known) if known == name => ([&leaf.path, others].concat(), Unknown::IsOfTheModule),
                Some(_) => return None,
                None => ([&leaf.path, rest].concat(), Unknown::IsNothing),
            };
            let (start, rest) = self.start(&at, &path)?;
            self.descend(start, rest, unknown, steps.checked_sub(1)?)
        };
        match (names.brought_in.iter().find_map(handed_on), unknown) {
            (Some(file), _) => Some(file),
            (None, Unknown::IsOfTheModule) => Some(&names.file),
            (None, Unknown::IsNothing) => None,
        }
    }
}

/// A name that is handed on more often leads nowhere: two modules may bring in all of each other.
const MAX_STEPS: usize = 6;

/// What a name is that a module neither defines nor brings in, such as one that a macro makes.
#[derive(Clone, Copy)]
enum Unknown {
    IsOfTheModule,
    IsNothing,
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

#[test]
fn imports_lead_to_the_file_that_defines_the_name() {
    let module = |path: &str, text: &str| Module {
        crate_number: 0,
        path: path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        file: format!("{path}.rs"),
        items: syn::parse_file(text).unwrap().items,
    };
    let modules = [
        module("", "mod a; mod b; pub use a::{x::*, A}; pub struct Root;"),
        module("a", "pub(crate) mod x; pub struct A;"),
        module("a/x", "use super::A; pub struct X;"),
        module("b", "use crate::{X as Y, Root}; fn f() { matches!(crate::a::A, std::fmt::A) }"),
    ];
    let imports = of(&modules.iter().collect::<Vec<_>>());
    let arrows: Vec<String> =
        imports.iter().flat_map(|(from, to)| to.keys().map(move |to| format!("{from} → {to}"))).collect();
    // What lies around a module is left out: `Root` for `b`, `A` for `a/x`.
    assert_eq!(arrows, ["b.rs → a.rs", "b.rs → a/x.rs"]);
}
