//! The names that `use` lines bring in.

use syn::{ItemUse, UseTree};

/// One name that a `use` brings in.
pub(crate) struct Leaf {
    /// The path, for a glob that of the module.
    pub(crate) path: Vec<String>,
    /// The name that it has here; none for a glob.
    pub(crate) name: Option<String>,
}

/// The names that a `use` brings in, groups taken apart.
pub(crate) fn leaves(item: &ItemUse) -> Vec<Leaf> {
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        collect(&item.tree, &mut Vec::new(), &mut found);
    }
    found
}

fn collect(tree: &UseTree, prefix: &mut Vec<String>, found: &mut Vec<Leaf>) {
    let joined = |last: String| prefix.iter().cloned().chain([last]).collect();
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            collect(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect(tree, prefix, found)),
        UseTree::Glob(_) => found.push(Leaf { path: prefix.clone(), name: None }),
        UseTree::Name(name) if name.ident == "self" => {
            found.push(Leaf { path: prefix.clone(), name: prefix.last().cloned() });
        }
        UseTree::Rename(rename) if rename.ident == "self" => {
            found.push(Leaf { path: prefix.clone(), name: Some(rename.rename.to_string()) });
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            found.push(Leaf { path: joined(name.clone()), name: Some(name) });
        }
        UseTree::Rename(rename) => {
            let name = Some(rename.rename.to_string());
            found.push(Leaf { path: joined(rename.ident.to_string()), name });
        }
    }
}
