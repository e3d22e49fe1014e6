//! Reads files that a person names: whole, and within a size.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Reads a file; `what` says in messages what it was to be, such as "pipeline file".
pub(crate) fn read_file(what: &str, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let read = || {
        // Opening a pipe would wait for its other end.
        if !fs::metadata(path)?.is_file() {
            bail!("it is not a file");
        }
        read_at_most(File::open(path)?, max_bytes)
    };
    read().with_context(|| format!("cannot read {what} `{}`", path.display()))
}

/// Reads a file that must be text; see [`read_file`].
pub(crate) fn read_text(what: &str, path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read_file(what, path, max_bytes)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("cannot read {what} `{}`: it is not UTF-8 text (byte {at})", path.display())
    })
}

/// Reads standard input, which must be text; `what` is what it was to be.
pub(crate) fn read_stdin(what: &str, max_bytes: u64) -> Result<String> {
    let read = || Ok::<_, anyhow::Error>(String::from_utf8(read_at_most(std::io::stdin(), max_bytes)?)?);
    read().with_context(|| format!("cannot read {what} from standard input"))
}

/// Reads to the end, unless that is too far away.
pub(crate) fn read_at_most(from: impl Read, max_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        bail!("it has more than {max_bytes} bytes");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let reason = |path: &Path| format!("{:#}", read_text("trace", path, 3).unwrap_err());
        assert!(reason(folder.path()).ends_with("it is not a file"));
        assert!(reason(&path).starts_with(&format!("cannot read trace `{}`: ", path.display())));
        fs::write(&path, b"a\xe9").unwrap();
        assert!(reason(&path).ends_with("it is not UTF-8 text (byte 1)"));
        fs::write(&path, "four").unwrap();
        assert!(reason(&path).ends_with("it has more than 3 bytes"));
        fs::write(&path, "yes").unwrap();
        assert_eq!(read_text("trace", &path, 3).unwrap(), "yes");
    }
}
