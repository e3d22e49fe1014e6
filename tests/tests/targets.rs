//! Every file of this folder is a test that runs: automatic discovery is off, so one that nobody listed would pass by
//! never being compiled.

use std::fs;

#[test]
fn every_file_is_listed_as_a_target_of_exactly_one_package() {
    let root = millstream_tests::root();
    let manifests = ["tests/Cargo.toml", "deploy/cluster/Cargo.toml"].map(|path| root.join(path));
    let manifests = manifests.map(|path| fs::read_to_string(path).unwrap()).join("\n");
    let mut num_files = 0;
    for entry in fs::read_dir(root.join("tests/tests")).unwrap() {
        let path = entry.unwrap().path();
        let file = if path.is_dir() { path.join("main.rs") } else { path };
        if !file.is_file() || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = file.strip_prefix(root.join("tests")).unwrap().display().to_string();
        num_files += 1;
        let targets = manifests.lines().filter(|line| {
            let path = line.strip_prefix("path = \"").and_then(|rest| rest.strip_suffix('"'));
            path.is_some_and(|path| path.strip_prefix("../../tests/").unwrap_or(path) == name)
        });
        assert_eq!(
            targets.count(),
            1,
            "list `tests/{name}` as a `[[test]]` in one of the two Cargo.toml files"
        );
    }
    assert!(num_files > 10, "the files are elsewhere by now");
}
