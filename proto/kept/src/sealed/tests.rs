//! Files that are whole, and all the ways in which they are not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn written(folder: &Path) -> (KeptFile, Vec<u8>) {
    let file = KeptFile::new(folder, "orders");
    file.write("c-1", b"what was said\nlast").unwrap();
    let bytes = fs::read(file.path()).unwrap();
    (file, bytes)
}

#[test]
fn what_is_kept_comes_back_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeptFile::new(folder.path(), "orders");
    assert_eq!(file.read("c-1").unwrap(), None);
    let (file, bytes) = written(folder.path());
    let kept = file.read("c-1").unwrap().unwrap();
    assert_eq!(kept.content, b"what was said\nlast");
    assert!(kept.age() < Duration::from_secs(60), "{:?}", kept.age());
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(bytes.starts_with(b"millstream-kept 1 orders c-1 "));
    file.write("c-1", b"").unwrap();
    assert_eq!(file.load("c-1").unwrap().content, b"");
    assert!(file.write("c 1", b"").is_err());
}

#[test]
fn a_file_that_was_cut_anywhere_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (file, bytes) = written(folder.path());
    for length in 0..bytes.len() {
        fs::write(file.path(), &bytes[..length]).unwrap();
        let error = file.read("c-1").unwrap_err();
        assert!(matches!(error, Unusable::NotOne | Unusable::OtherLength { .. }), "{length}: {error}");
    }
    fs::write(file.path(), [&bytes[..], b"x"].concat()).unwrap();
    assert!(matches!(file.read("c-1"), Err(Unusable::OtherLength { .. })));
    assert_eq!(file.load("c-1"), None);
}

#[test]
fn a_bit_that_changed_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (file, bytes) = written(folder.path());
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1 << bit;
            assert!(file.open(&damaged, "c-1").is_err(), "byte {index}, bit {bit}");
        }
    }
}

#[test]
fn files_of_others_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, bytes) = written(folder.path());
    assert!(matches!(file.read("c-2"), Err(Unusable::OtherCluster { .. })));
    fs::copy(file.path(), folder.path().join("routes.kept")).unwrap();
    assert!(matches!(KeptFile::new(folder.path(), "routes").read("c-1"), Err(Unusable::NotOne)));
    let text = String::from_utf8(bytes).unwrap();
    fs::write(file.path(), text.replacen("kept 1", "kept 0", 1)).unwrap();
    let error = file.read("c-1").unwrap_err().to_string();
    assert_eq!(error, "its format has version `0`, and this program reads version 1");
    fs::write(file.path(), "{\"orders\": []}\n").unwrap();
    assert!(matches!(file.read("c-1"), Err(Unusable::NotOne)));
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    assert!(matches!(file.read("c-1"), Err(Unusable::Unreadable(_))));
}
