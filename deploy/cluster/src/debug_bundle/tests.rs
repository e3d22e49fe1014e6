use serde_json::{Value, json};

use super::*;
use crate::exit::Failure;

fn packed(bundle: Bundle) -> Vec<u8> {
    bundle.pack("millstream-debug-1", 1_000).unwrap().1
}

fn refused(bytes: &[u8]) -> String {
    Contents::unpack("x.tar.gz".into(), bytes).err().unwrap().message()
}

#[test]
fn what_is_written_can_be_read_and_secrets_are_gone() {
    let mut redaction = Redaction::default();
    redaction.learn("hunter2-hunter2");
    let mut bundle = Bundle::new(redaction);
    bundle.add("local/logs/a.log", "a log", b"token hunter2-hunter2 seen");
    bundle.add_json(file::STATUS, "the status", Ok(json!({"epoch": 3})));
    bundle.add_json::<Value>(file::SERIES, "", Err(Failure::unreachable("no hunter2-hunter2 here")));
    bundle.leave_out("answers");
    bundle.leave_out_pipelines("pipelines' files");
    assert!(bundle.has(file::STATUS) && !bundle.has(file::SERIES));
    let read = Contents::unpack("x".into(), &packed(bundle)).unwrap();
    assert_eq!(read.text("local/logs/a.log").unwrap(), "token [redacted] seen");
    assert_eq!(read.json::<Value>(file::STATUS).unwrap()["epoch"], 3);
    let missing = read.json::<Value>(file::SERIES).unwrap_err().message();
    assert_eq!(missing, "`x` has no `series.json`: no [redacted] here");
    let paths: Vec<_> = read.manifest.files.iter().map(|entry| (entry.path.as_str(), entry.bytes)).collect();
    assert_eq!(paths, [("local/logs/a.log", 21), ("status.json", 17)]);
    assert_eq!(read.manifest.left_out, ["answers", "pipelines' files"]);
    let left_out = read.text(&file::pipeline("p", 1)).unwrap_err().message();
    assert_eq!(left_out, "`x` has no `pipelines/p/1.toml`: left out: pipelines' files");
}

#[test]
fn broken_and_foreign_archives_are_refused_in_words() {
    assert!(refused(b"no archive").contains("cannot be read as a .tar.gz"));
    let mut bundle = Bundle::new(Redaction::default());
    bundle.add("a.txt", "", &vec![7; 100_000]);
    let whole = packed(bundle);
    assert!(refused(&whole[..whole.len() / 2]).contains("cannot be read as a .tar.gz"));
    let foreign = |manifest: Option<&Value>| {
        let mut archive =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        if let Some(manifest) = manifest {
            let text = manifest.to_string();
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, "folder/manifest.json", text.as_bytes()).unwrap();
        }
        refused(&archive.into_inner().unwrap().finish().unwrap())
    };
    assert_eq!(
        foreign(None),
        "`x.tar.gz` is not a bundle of `cluster debug bundle`: it has no `manifest.json`"
    );
    assert!(foreign(Some(&json!({"name": "npm"}))).contains("its `manifest.json` cannot be read"));
    let manifest = |format: &str, version: u32| {
        json!({
            "format": format, "format_version": version, "command_version": "9.0.0", "created_at_ms": 1,
            "files": [], "missing": [], "left_out": []
        })
    };
    assert!(foreign(Some(&manifest("other", 1))).contains("its manifest says `other`"));
    assert!(foreign(Some(&manifest(FORMAT, 99))).contains("read it with version 9.0.0"));
}
