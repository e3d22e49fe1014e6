//! The captures of one pipeline on disk: files of JSON lines, numbered, of which the oldest go ([`room`]). Only the owner
//! can read them. What is written is whole: both events of a capture, or nothing.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::room;

/// How names of files end.
const EXTENSION: &str = "jsonl";

/// See the module.
pub(super) struct Ring {
    folder: PathBuf,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// The newest of them, once this process has begun it: one of an earlier process may end in half a line.
    open: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    number: u64,
    bytes: u64,
}

/// What became of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// They are in the ring.
    Kept,
    /// They are more than a file of the ring may have.
    TooLarge,
}

impl Ring {
    /// The ring in this folder, which is made if it is not there.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if let Some(number) = number_of(&entry.path()) {
                segments.push(Segment { number, bytes: entry.metadata()?.len() });
            }
        }
        segments.sort_by_key(|segment| segment.number);
        Ok(Self { folder, segments: segments.into(), open: None })
    }

    /// Writes lines, each with its end, so that all files together have at most `max_bytes`.
    pub(super) fn append(&mut self, lines: &[u8], max_bytes: u64) -> io::Result<Appended> {
        if self.is_gone() {
            *self = Self::open(std::mem::take(&mut self.folder))?;
        }
        let mut sizes: Vec<u64> = self.segments.iter().map(|segment| segment.bytes).collect();
        let is_new = self.open.is_none();
        if is_new {
            sizes.push(0);
        }
        let room = room::make(&sizes, lines.len() as u64, max_bytes);
        let Some(room) = room else { return Ok(Appended::TooLarge) };
        for _ in 0..room.num_deleted {
            self.delete_oldest()?;
        }
        if is_new || room.begins {
            self.begin()?;
        }
        self.write(lines)?;
        Ok(Appended::Kept)
    }

    /// Whether somebody has deleted the file that is written to.
    fn is_gone(&self) -> bool {
        self.open.as_ref().is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0))
    }

    fn delete_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        match fs::remove_file(self.path_of(oldest.number)) {
            // Somebody else has.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            deleted => deleted?,
        }
        self.segments.pop_front();
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |newest| newest.number + 1);
        let path = self.path_of(number);
        self.open = Some(OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?);
        self.segments.push_back(Segment { number, bytes: 0 });
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let (Some(file), Some(newest)) = (&mut self.open, self.segments.back_mut()) else { return Ok(()) };
        match file.write_all(lines) {
            Ok(()) => {
                newest.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A full disk may have taken a part. Where that cannot be taken back, the next lines begin a new file.
                if file.set_len(newest.bytes).is_err() {
                    newest.bytes = file.metadata().map_or(newest.bytes, |metadata| metadata.len());
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.{EXTENSION}"))
    }
}

/// The number of a file of a ring; none of another file.
fn number_of(path: &Path) -> Option<u64> {
    let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION);
    path.file_stem().filter(|_| is_ours)?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const MAX: u64 = 8 * 100;

    fn line(number: usize) -> Vec<u8> {
        format!("{{\"n\":{number:>40}}}\n").into_bytes()
    }

    fn files(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_newest_captures_are_there_within_the_bound_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("captures/p");
        let mut ring = Ring::open(folder.clone()).unwrap();
        for number in 0..100 {
            assert_eq!(ring.append(&line(number), MAX).unwrap(), Appended::Kept);
            let total: u64 = files(&folder).iter().map(|(_, text)| text.len() as u64).sum();
            assert!(total <= MAX, "{total}");
        }
        let text: String = files(&folder).into_iter().map(|(_, text)| text).collect();
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap();
        let numbers: Vec<u64> = text.lines().map(number).collect();
        assert_eq!(numbers, (numbers[0]..100).collect::<Vec<_>>(), "the newest, in order");
        assert!(numbers.len() >= 14, "{numbers:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert!(files(&folder).iter().all(|(name, _)| mode(&folder.join(name)) == 0o600));
        assert_eq!(ring.append(&[b'x'; 101], MAX).unwrap(), Appended::TooLarge);
    }

    #[test]
    fn a_restart_goes_on_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_owned();
        Ring::open(folder.clone()).unwrap().append(&line(1), MAX).unwrap();
        // As a power cut leaves it, and files that are not the ring's.
        fs::write(folder.join("00000004.jsonl"), "{\"n\":").unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        let mut ring = Ring::open(folder.clone()).unwrap();
        for number in 2..40 {
            ring.append(&line(number), MAX).unwrap();
        }
        let files = files(&folder);
        assert!(files.iter().all(|(name, _)| name != "00000001.jsonl"), "the oldest has gone: {files:?}");
        let lines =
            files.iter().filter(|(name, _)| name.ends_with("jsonl")).flat_map(|(_, text)| text.lines());
        assert!(
            lines.clone().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
            "{files:?}"
        );
        assert!(lines.last().is_some_and(|line| line.contains("39")));
        assert!(files.iter().any(|(name, _)| name == "notes.txt"));
    }

    #[test]
    fn what_somebody_deletes_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("p");
        let mut ring = Ring::open(folder.clone()).unwrap();
        ring.append(&line(1), MAX).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        ring.append(&line(2), MAX).unwrap();
        assert_eq!(files(&folder), [("00000001.jsonl".to_owned(), String::from_utf8(line(2)).unwrap())]);
    }
}
