//! Parts of the documentation that are made from the code. A test compares each with the page; with `UPDATE_DOCS=1` it
//! writes the page instead.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// Tests of one process may write to one page.
static WRITING: Mutex<()> = Mutex::new(());

/// Checks that the page has this text between the lines `<!-- MARK: written by a test -->` and `<!-- end of MARK -->`, or
/// writes it there.
///
/// # Panics
/// When the page differs, or has no such lines.
pub(crate) fn written(page: &str, mark: &str, text: &str) {
    let _one_at_a_time = WRITING.lock().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let (start, end) = (format!("<!-- {mark}: written by a test -->\n"), format!("<!-- end of {mark} -->"));
    let found = fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(&start).unwrap_or_else(|| panic!("{page} has no line `{start}`"));
    let (now, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} has no line `{end}`"));
    if std::env::var_os("UPDATE_DOCS").is_none() {
        assert_eq!(now, text, "docs/{page}: run this test with UPDATE_DOCS=1, and look at what it writes");
    } else if now != text {
        // A page as it should be is not touched: tests of other processes read it meanwhile.
        fs::write(&path, format!("{before}{start}{text}{end}{after}")).unwrap();
    }
}

/// Checks that a file of the documentation has this text as a whole, or writes it.
///
/// # Panics
/// When the file differs.
pub(crate) fn written_whole(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/{file}: run this test with UPDATE_DOCS=1, and look at what it writes");
}

/// A table; `|` in cells is escaped.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&head.map(str::to_owned)) + &line(&[const { "---" }; N].map(str::to_owned));
    for row in rows {
        table += &line(&row.map(|cell| cell.replace('|', r"\|")));
    }
    table
}
