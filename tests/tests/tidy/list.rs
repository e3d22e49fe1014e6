//! A list of what breaks a rule today. It may only shrink.

use std::{env, fs};

use crate::files::root;

/// How a list is brought up to date.
const UPDATE: &str = "TIDY_UPDATE=1 cargo test -p millstream-tests --test tidy";

/// What a list says and what was found, compared.
#[derive(Default)]
pub(crate) struct Comparison {
    /// What breaks a rule and is not on the list.
    pub(crate) new: Vec<String>,
    /// What is on the list, and has become better or is gone.
    pub(crate) better: Vec<String>,
}

impl Comparison {
    /// Fails when something is new. Fails when something is better, too, unless an update is asked for: then it writes
    /// `shrunk`, the text of the list that is true now.
    #[track_caller]
    pub(crate) fn settle(&self, list: &str, shrunk: &str) {
        assert!(
            self.new.is_empty(),
            "\nnot in {list}, which may only shrink:\n{}\nMake it better. If that would make the code worse, add it to \
             the list by hand and say why in the commit.\n",
            self.new.join("\n")
        );
        if self.better.is_empty() {
            return;
        }
        assert!(
            asked_to_update(),
            "\nbetter than {list} says; thank you, now shrink the list with `{UPDATE}`:\n{}\n",
            self.better.join("\n")
        );
        fs::write(root().join(list), shrunk).unwrap();
    }
}

fn asked_to_update() -> bool {
    env::var_os("TIDY_UPDATE").is_some()
}

/// The comment at the top of a list, and its other lines.
pub(crate) struct Lines<'a> {
    /// The comment, with the empty line after it.
    pub(crate) header: String,
    /// The other lines.
    pub(crate) lines: Vec<&'a str>,
}

/// Takes a list's text apart.
pub(crate) fn lines(text: &str) -> Lines<'_> {
    let header: String = text
        .lines()
        .take_while(|line| line.starts_with('#') || line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let lines = text.lines().skip(header.lines().count()).collect();
    Lines { header, lines }
}
