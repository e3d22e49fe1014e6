//! Every file of a folder of tests is compiled: the tests of a package are modules of one program, and a file that nobody
//! declares there would pass by never being compiled.

use crate::files::{self, ending_in, is_there};

#[test]
fn every_file_beside_a_main_is_one_of_its_modules() {
    let mut num_files = 0;
    let mut faults = Vec::new();
    for file in ending_in(".rs") {
        // The tests of a package lie in `tests/NAME.rs`, or in `tests/NAME/mod.rs` where several share it.
        let path = file.path.strip_suffix("/mod.rs").or(file.path.strip_suffix(".rs")).unwrap();
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        let main = format!("{folder}/main.rs");
        if name == "main" || !folder.ends_with("tests") || !is_there(&main) {
            continue;
        }
        num_files += 1;
        if !files::read(&main).lines().any(|line| line == format!("mod {name};")) {
            faults.push(format!("{}: `{main}` does not declare it as `mod {name};`", file.path));
        }
    }
    assert!(num_files > 20, "the tests are elsewhere by now");
    files::none_of(&faults);
}
