//! What replicas of one model in one process share: its weights are read and kept once, however many replicas there are. A model
//! whose files have changed is another one. What nobody uses any more is dropped.

use std::any::Any;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::LoadError;

/// The models of a process.
#[derive(Default)]
pub struct ModelStore(Mutex<HashMap<Key, Arc<Place>>>);

/// Which model, and read for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    engine: &'static str,
    /// What of it: the same files may be read for several tasks.
    part: String,
    files: Vec<FileIdentity>,
}

/// A file as it was when it was looked at. Another content has another identity, unless somebody hides it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct FileIdentity {
    path: std::path::PathBuf,
    num_bytes: u64,
    changed: Option<SystemTime>,
}

/// Where a model is while anybody has it. Locked while it is read: whoever wants it too waits, rather than to read it once more.
#[derive(Default)]
struct Place(Mutex<Option<Weak<dyn Any + Send + Sync>>>);

impl Place {
    fn is_empty(&self) -> bool {
        // One that is being read is not.
        self.0.try_lock().is_some_and(|model| model.as_ref().is_none_or(|model| model.strong_count() == 0))
    }
}

impl ModelStore {
    /// The model in a folder as `engine` reads it for `part`: one that another replica has, else what `load` reads.
    ///
    /// # Errors
    /// What `load` says.
    pub fn get_or_load<T: Send + Sync + 'static>(
        &self,
        engine: &'static str,
        part: impl Into<String>,
        dir: &Path,
        load: impl FnOnce() -> Result<T, LoadError>,
    ) -> Result<Arc<T>, LoadError> {
        let key = Key { engine, part: part.into(), files: files_of(dir) };
        let place = {
            let mut places = self.0.lock();
            places.retain(|other, place| *other == key || Arc::strong_count(place) > 1 || !place.is_empty());
            places.entry(key).or_default().clone()
        };
        let mut kept = place.0.lock();
        let shared = kept.as_ref().and_then(Weak::upgrade).and_then(|model| model.downcast::<T>().ok());
        if let Some(model) = shared {
            return Ok(model);
        }
        let model = Arc::new(load()?);
        let any: Arc<dyn Any + Send + Sync> = model.clone();
        *kept = Some(Arc::downgrade(&any));
        Ok(model)
    }
}

/// The files of a folder as they are; what cannot be looked at will be told by whoever reads it.
fn files_of(dir: &Path) -> Vec<FileIdentity> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let identity = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let (path, changed) = (entry.path(), metadata.modified().ok());
        metadata.is_file().then_some(FileIdentity { path, num_bytes: metadata.len(), changed })
    };
    let mut files: Vec<_> = entries.filter_map(identity).collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn replicas_share_a_model_until_its_files_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        fs::write(&file, "one").unwrap();
        let store = ModelStore::default();
        let read = |part: &str| {
            let load = || Ok(fs::read_to_string(&file).unwrap());
            store.get_or_load("candle", part, dir.path(), load).unwrap()
        };
        let first = read("embed");
        assert!(Arc::ptr_eq(&first, &read("embed")));
        assert!(!Arc::ptr_eq(&first, &read("classify")), "another task reads other weights");
        fs::write(&file, "other").unwrap();
        assert_eq!((first.as_str(), read("embed").as_str()), ("one", "other"));
        drop(first);
        read("embed");
        assert_eq!(store.0.lock().len(), 1, "what nobody has is forgotten");
    }

    #[test]
    fn two_that_start_at_once_read_once_and_a_failure_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, num_loads) = (ModelStore::default(), AtomicUsize::new(0));
        let load = || {
            num_loads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
            Ok(7)
        };
        let both: Vec<Arc<i32>> = std::thread::scope(|scope| {
            let start = |_| scope.spawn(|| store.get_or_load("candle", "embed", dir.path(), load).unwrap());
            let threads: Vec<_> = (0..2).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(Arc::ptr_eq(&both[0], &both[1]));
        assert_eq!(num_loads.load(Ordering::Relaxed), 1);
        drop(both);
        let fails = || Err::<i32, _>(LoadError::Model("broken".to_owned()));
        assert!(store.get_or_load("candle", "embed", dir.path(), fails).is_err());
        assert_eq!(*store.get_or_load("candle", "embed", dir.path(), || Ok(8)).unwrap(), 8);
    }
}
