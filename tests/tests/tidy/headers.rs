//! What every file has: a first line that says why it exists, and nothing that is true on one machine only.

use crate::files::{ending_in, none_of};

#[test]
fn every_source_file_says_why_it_exists() {
    let mut faults = Vec::new();
    for file in ending_in(".rs") {
        // A `tests.rs` belongs to the module whose tests it holds.
        if !file.text.starts_with("//!") && !file.path.ends_with("tests.rs") {
            faults.push(format!("{}: does not open with `//!`", file.path));
        }
    }
    none_of(&faults);
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    // Put together here, as this file is one of those that are searched.
    let folders = ["root", "work"].map(|name| format!("/{name}/"));
    let mut faults = Vec::new();
    for suffix in [".rs", ".md", ".toml", ".py", ".proto", ".yml", ".json"] {
        for file in ending_in(suffix) {
            let named = folders.iter().filter(|folder| {
                // A folder of that name further down, or in an address, is not a folder of a machine.
                file.text.match_indices(*folder).any(|(at, _)| {
                    !file.text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}/*".contains(c))
                })
            });
            faults.extend(named.map(|folder| format!("{}: names `{folder}`", file.path)));
        }
    }
    none_of(&faults);
}
