//! The secrets of a cluster whose heads share a store: all of them take the same tokens, those that the first one has put there.

use serde::{Deserialize, Serialize};

use crate::store::{self, Expected, Store, Write};

/// Where they are.
pub(crate) const KEY: &str = "tokens";

/// What the processes of a cluster, and those who may change it, prove to know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of those who may change the cluster.
    pub admin: String,
    /// Of its processes.
    pub join: String,
}

impl Tokens {
    /// The tokens that the store has; one that has none takes these.
    ///
    /// # Errors
    /// Those of the store; [`store::Error::Unavailable`] too when what is there cannot be read.
    pub async fn share(self, store: &dyn Store) -> Result<Self, store::Error> {
        let text = serde_json::to_vec(&self).expect("two texts");
        match store.commit(Write::put(KEY, Expected::Absent, text).into()).await {
            Ok(_) => return Ok(self),
            // After the latter, reading tells whose tokens are there.
            Err(store::Error::Conflict { .. } | store::Error::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
        let unreadable =
            || store::Error::Unavailable(format!("its key `{KEY}` cannot be read; restore a backup"));
        let entry = store.get(KEY).await?.ok_or_else(unreadable)?;
        serde_json::from_slice(&entry.value).map_err(|_| unreadable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    fn tokens(name: &str) -> Tokens {
        Tokens { admin: format!("admin of {name}"), join: format!("join of {name}") }
    }

    #[tokio::test]
    async fn the_first_heads_tokens_are_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        for name in ["a", "b", "a"] {
            assert!(tokens(name).share(&store).await.unwrap() == tokens("a"));
        }
        store.commit(Write::put(KEY, Expected::Any, "{").into()).await.unwrap();
        assert!(tokens("a").share(&store).await.is_err(), "what cannot be read is not replaced");
    }
}
