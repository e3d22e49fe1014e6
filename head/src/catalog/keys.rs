//! API keys in the store: one entry each, and the last tenant number, which every change of any key writes: of two
//! changes at the same time the later one is found out.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::desired::change::Refusal;
use millstream_core::desired::{ApiKey, Desired, Keys};
use millstream_pipelines::Name;

use super::{Catalog, Current, Error, Guard, MAX_ATTEMPTS, from_json, name_of, to_json};
use crate::store::{self, Expected, Store, Write};

/// Keys of API keys: `keys/NAME`.
const KEYS: &str = "keys/";
/// Key of the last tenant number.
const LAST_TENANT: &str = "last_tenant";

impl Catalog {
    /// Changes the API keys; gives the name of the key concerned, whether that changed anything, and what people ask for
    /// now. A change that changes nothing is not stored.
    pub(crate) async fn change_keys(
        &self,
        change: impl Fn(&Keys) -> Result<(Keys, Name), Refusal>,
    ) -> Result<(Name, bool, Arc<Desired>), Error> {
        let mut current = self.current.lock().await;
        for _ in 1..MAX_ATTEMPTS {
            let (keys, name) = change(&current.desired.keys)?;
            let before = &current.desired.keys;
            if keys == *before {
                return Ok((name, false, Arc::clone(&current.desired)));
            }
            let expected = current.keys_version.map_or(Expected::Absent, Expected::Version);
            let key = format!("{KEYS}{name}");
            let writes = vec![
                Write::put(LAST_TENANT, expected, to_json(&keys.last_tenant)),
                match keys.by_name.get(&name) {
                    Some(set) => Write::put(key, Expected::Any, to_json(set)),
                    None => Write::delete(key, Expected::Any),
                },
            ];
            let desired = Desired { keys, ..Desired::clone(&current.desired) };
            if self.commit(&mut current, Guard::Keys, desired, writes).await? {
                return Ok((name, true, Arc::clone(&current.desired)));
            }
        }
        Err(store::Error::Conflict { key: LAST_TENANT.to_owned() }.into())
    }
}

/// Reads the API keys.
pub(super) async fn read(store: &dyn Store, current: &mut Current) -> Result<Keys, Error> {
    let mut last_tenant = 0;
    if let Some(entry) = store.get(LAST_TENANT).await? {
        last_tenant = from_json(&entry.key, &entry.value)?;
        current.keys_version = Some(entry.version);
    }
    let mut by_name = BTreeMap::new();
    for entry in store.list(KEYS).await?.entries {
        let key: ApiKey = from_json(&entry.key, &entry.value)?;
        last_tenant = last_tenant.max(key.tenant);
        by_name.insert(name_of(&entry.key, &entry.key[KEYS.len()..])?, key);
    }
    Ok(Keys { last_tenant, by_name: Arc::new(by_name) })
}

#[cfg(test)]
mod tests {
    use millstream_proto::key::KeyRequest;

    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use millstream_core::desired::keys;

    fn create<'a>(name: &'a str, byte: u8) -> impl Fn(&Keys) -> Result<(Keys, Name), Refusal> + 'a {
        move |keys| keys::create(keys, name, &[byte; 32], &KeyRequest::default(), 5)
    }

    #[tokio::test]
    async fn keys_are_stored_and_a_change_by_somebody_else_is_read_before_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let one = Catalog::load(Arc::clone(&store)).await.unwrap();
        let other = Catalog::load(Arc::clone(&store)).await.unwrap();
        assert!(one.change_keys(create("a", 1)).await.unwrap().1);
        let (b, ..) = other.change_keys(create("b", 2)).await.unwrap();
        let asked = KeyRequest { rate_per_s: Some(0.5), ..Default::default() };
        assert!(one.change_keys(|keys| keys::set(keys, "a", &asked)).await.unwrap().1);
        assert!(one.change_keys(|keys| keys::set(keys, "b", &asked)).await.unwrap().1);
        assert!(!one.change_keys(|keys| keys::set(keys, "b", &asked)).await.unwrap().1, "nothing new");
        let loaded = Catalog::load(Arc::clone(&store)).await.unwrap().desired().await;
        assert_eq!(loaded.keys, one.desired().await.keys);
        assert_eq!((loaded.keys.by_name.len(), loaded.keys.by_name[&b].tenant), (2, 2));
        assert_eq!(loaded.keys.by_name[&b].settings.rate_per_s, Some(0.5));

        one.change_keys(|keys| keys::delete(keys, "b")).await.unwrap();
        let loaded = Catalog::load(Arc::clone(&store)).await.unwrap();
        let (c, _, desired) = loaded.change_keys(create("c", 3)).await.unwrap();
        assert_eq!(desired.keys.by_name[&c].tenant, 3, "a deleted key's number stays used");
    }
}
