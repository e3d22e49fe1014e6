//! Where a model's file keeps weights outside itself. A model may come from anywhere; it must not make the process read
//! files beyond its own folder.
//!
//! The file is protobuf (onnx.proto of the ONNX specification): this walks the messages that can hold tensors and skips
//! all else, weights included, without reading them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use millstream_engine::LoadError;
use millstream_model_files::open;

/// Graphs within graphs deeper than this are refused.
const MAX_DEPTH: usize = 64;
/// Longest name of an external file.
const MAX_LOCATION_BYTES: u64 = 4096;

/// The external files of the model in `file`, each within the folder of that file.
///
/// # Errors
/// [`LoadError::Model`] when a name leads out of the folder, a file is missing, or `file` is not protobuf.
pub(crate) fn external_files(file: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let broken = |error: &io::Error| {
        LoadError::Model(format!("`{}` is not an ONNX model: {error}; fetch the model anew", file.display()))
    };
    let source = open(file)?;
    let end = source.metadata().map_err(|error| broken(&error))?.len();
    let mut walker = Walker { source: BufReader::new(source), at: 0, locations: Vec::new() };
    walker.message(Kind::Model, end, 0).map_err(|error| broken(&error))?;
    walker.locations.sort_unstable();
    walker.locations.dedup();
    let folder = file.parent().unwrap_or(Path::new("."));
    walker.locations.iter().map(|location| resolve(folder, location)).collect()
}

/// The file that a location names: a plain file of the folder, by a plain name. ONNX Runtime reads other names in ways of its own, one of
/// them as an address in memory.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, LoadError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+ ".contains(&byte);
    if location.is_empty()
        || location.starts_with('.')
        || location.contains("_ORT_")
        || !location.bytes().all(is_plain)
    {
        return Err(LoadError::Model(format!(
            "the model keeps weights in `{location}`, which is not in its own folder, or no plain name of a file; use a model that \
             keeps its weights beside it"
        )));
    }
    let path = folder.join(location);
    open(&path)?;
    Ok(path)
}

/// Messages of onnx.proto on the way to a tensor.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Training,
    SparseTensor,
    Tensor,
    Entry,
}

/// The message in field `number` of a message, if tensors can be in it.
fn child(kind: Kind, number: u64) -> Option<Kind> {
    Some(match (kind, number) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 20) => Kind::Training,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Training, 1 | 2) => Kind::Graph,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) => Kind::Tensor,
        (Kind::Graph, 15) => Kind::SparseTensor,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
        (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
        (Kind::Tensor, 13) => Kind::Entry,
        _ => return None,
    })
}

struct Walker<R> {
    source: R,
    at: u64,
    locations: Vec<String>,
}

impl<R: Read + Seek> Walker<R> {
    /// Reads the message that ends at `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("it is nested too deeply"));
        }
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint()?;
            let length = match tag & 7 {
                0 => {
                    self.varint()?;
                    continue;
                }
                1 => 8,
                2 => self.varint()?,
                5 => 4,
                _ => return Err(invalid("it has a field of an unknown kind")),
            };
            let stop = self
                .at
                .checked_add(length)
                .filter(|stop| *stop <= end)
                .ok_or_else(|| invalid("it is cut off"))?;
            match (kind, tag >> 3, child(kind, tag >> 3)) {
                (Kind::Entry, 1, _) if tag & 7 == 2 => key = self.text(length)?,
                (Kind::Entry, 2, _) if tag & 7 == 2 => value = self.text(length)?,
                (_, _, Some(kind)) if tag & 7 == 2 => self.message(kind, stop, depth + 1)?,
                _ => self.skip_to(stop)?,
            }
        }
        if key == "location" {
            self.locations.push(value);
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("it has a number that is too long"))
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > MAX_LOCATION_BYTES {
            return Err(invalid("it has a file name that is too long"));
        }
        let mut text = String::new();
        (&mut self.source).take(length).read_to_string(&mut text)?;
        self.at += length;
        Ok(text)
    }

    fn skip_to(&mut self, stop: u64) -> io::Result<()> {
        let distance = i64::try_from(stop - self.at).map_err(|_| invalid("it is cut off"))?;
        self.source.seek(SeekFrom::Current(distance))?;
        self.at = stop;
        Ok(())
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A protobuf field with bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    /// A model with one weight that lies in `location`.
    fn model(location: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let offset = [field(1, b"offset"), field(2, b"0")].concat();
        let tensor = [field(8, b"weight"), field(13, &entry), field(13, &offset)].concat();
        [vec![1 << 3, 8], field(2, b"maker"), field(7, &[field(2, b"graph"), field(5, &tensor)].concat())]
            .concat()
    }

    fn check(location: &str) -> Result<Vec<PathBuf>, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("model.onnx"), model(location)).unwrap();
        std::fs::write(folder.join("weights.bin"), "w").unwrap();
        std::fs::write(folder.join("sub/weights.bin"), "w").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
        external_files(&folder.join("model.onnx"))
    }

    #[test]
    fn weights_stay_in_the_models_own_folder() {
        assert_eq!(check("weights.bin").unwrap().len(), 1);
        for (outside, reason) in [
            ("../secret", "not in its own folder"),
            ("/etc/passwd", "not in its own folder"),
            ("./sub/weights.bin", "no plain name"),
            ("sub/../../secret", "not in its own folder"),
            ("*/_ORT_MEM_ADDR_/*", "no plain name"),
            ("_ORT_MEM_ADDR_", "no plain name"),
            ("link", "is a link"),
            ("sub", "is no plain file"),
            ("", "no plain name"),
        ] {
            let error = check(outside).unwrap_err().to_string();
            assert!(error.contains(reason), "{outside}: {error}");
        }
        assert!(check("missing.bin").unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn broken_files_are_errors_and_end() {
        let whole = model("weights.bin");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        for end in 1..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            // Whatever it says, it neither panics nor finds a file that is not there.
            let _ = external_files(&path);
        }
        std::fs::write(&path, [0xff; 64]).unwrap();
        assert!(external_files(&path).unwrap_err().to_string().contains("is not an ONNX model"));
        let mut deep = Vec::new();
        for _ in 0..100 {
            deep = field(5, &field(6, &deep[deep.len().saturating_sub(100)..]));
            deep = field(1, &deep);
        }
        std::fs::write(&path, field(7, &deep[..deep.len().min(120)])).unwrap();
        let _ = external_files(&path);
    }
}
