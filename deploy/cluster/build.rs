//! Lists the bundled models for `include_bytes!`, so that one binary serves the bundled example on any machine.
//! The files are in the repository; nothing is downloaded.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script by the environment")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Folders of `pipelines/models/` that go into the binary.
const BUNDLED: [&str; 4] = ["mini-embedder", "mini-reranker", "mini-generator", "tabular-classifier"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../pipelines/models").canonicalize()?;
    println!("cargo:rerun-if-changed={}", root.display());
    let mut table = String::from("&[\n");
    for model in BUNDLED {
        let mut files = Vec::new();
        collect(&root.join(model), &mut files)?;
        files.sort();
        for file in files {
            println!("cargo:rerun-if-changed={}", file.display());
            let name =
                file.strip_prefix(&root)?.to_str().ok_or("a bundled file's name is not UTF-8")?.to_owned();
            writeln!(table, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())?;
        }
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("bundled_models.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    Ok(())
}
