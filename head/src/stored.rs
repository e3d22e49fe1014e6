//! What a store's file says while no head has it open: decisions and pipelines' texts, for whoever looks for an error. Keys and
//! tokens are not read.

use std::path::Path;
use std::sync::Arc;

use millstream_proto::event::Event;

use crate::catalog;
use crate::events::EventLog;
use crate::store::embedded::{EmbeddedStore, OpenError};
use crate::store::{self, Store as _};

pub use crate::catalog::StoredText;
pub use crate::store::embedded::FILE_NAME;

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    /// The newest decisions, the oldest first.
    pub events: Vec<Arc<Event>>,
    /// The texts of the kept revisions, by pipeline and number.
    pub texts: Vec<StoredText>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] store::Error),
}

/// Reads the store in a folder. Opening may repair it: pass a copy.
///
/// # Errors
/// When it is damaged, or in use.
pub async fn read(folder: &Path) -> Result<Stored, Error> {
    let folder = folder.to_owned();
    // It is read as a whole and verified.
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&folder)).await;
    let store = opened.map_err(|error| store::Error::Unavailable(error.to_string()))??;
    let events = EventLog::of(&store.list(&[EventLog::PREFIX]).await?).about("", 0);
    let texts = catalog::texts(&store.list(&[catalog::REVISIONS]).await?);
    Ok(Stored { events, texts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expected, Write};

    #[tokio::test]
    async fn decisions_and_texts_are_read_without_a_head() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = EmbeddedStore::open(dir.path()).unwrap();
            let event = r#"{"sequence":7,"at_ms":5,"pipeline":"p","kind":"deployed","revision":2}"#;
            let text = r#"{"number":2,"file_name":"p.toml","source":"name = \"p\"","source_dir":"/","created_at_ms":5,"reuses":{}}"#;
            let key = "events/00000000000000000001/00000000000000000007";
            for (key, value) in [(key, event), ("revisions/p/2", text), ("keys/alice", "{}")] {
                store.commit(Write::put(key, Expected::Any, value).into()).await.unwrap();
            }
        }
        let found = read(dir.path()).await.unwrap();
        assert_eq!((found.events.len(), found.events[0].sequence), (1, 7));
        let text = &found.texts[0];
        assert_eq!((text.pipeline.as_str(), text.revision, text.source.as_str()), ("p", 2, "name = \"p\""));
        std::fs::write(dir.path().join(FILE_NAME), "no store").unwrap();
        assert!(matches!(read(dir.path()).await, Err(Error::Open(_))));
    }
}
