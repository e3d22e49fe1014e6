//! API keys, as plain functions: what making, changing or deleting one does. The head knows the SHA-256 of a secret and
//! never the secret. A key's tenant number is its own for ever: what is accounted to it is never another key's.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::Name;
use millstream_status::Priority;
use millstream_status::key::{self, KeyRequest, KeyStatus};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Most keys: they travel in every route table.
const MAX_KEYS: usize = 10_000;

/// The API keys that there are.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Keys {
    /// The highest tenant number that was ever given.
    pub last_tenant: u32,
    /// The keys.
    pub by_name: Arc<BTreeMap<Name, ApiKey>>,
}

/// An API key, as the store keeps it too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number; 0 is nobody's.
    pub tenant: u32,
    /// SHA-256 of its secret.
    pub sha256: [u8; 32],
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Its settings.
    #[serde(flatten)]
    pub settings: KeySettings,
}

/// What a key's requests may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeySettings {
    /// Requests a second.
    pub rate_per_s: Option<f64>,
    /// Requests that may come at once; without it those of a second.
    pub burst: Option<u32>,
    /// Requests under way at a time.
    pub concurrency: Option<u32>,
    /// Share beside others where requests wait.
    pub weight: u32,
    /// The highest priority of its requests.
    pub priority: Priority,
    /// Tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// What it may call, as patterns of names; empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            rate_per_s: None,
            burst: None,
            concurrency: None,
            weight: 1,
            priority: Priority::Normal,
            tokens_per_minute: None,
            tokens_per_day: None,
            models: Vec::new(),
        }
    }
}

impl KeySettings {
    /// Requests that may come at once; `None` without a rate.
    #[must_use]
    pub fn burst_in_force(&self) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked")]
        let of_a_second = |rate: f64| rate.ceil().max(1.0) as u32;
        self.rate_per_s.map(|rate| self.burst.unwrap_or_else(|| of_a_second(rate)))
    }

    /// The settings after a change.
    fn changed(&self, asked: &KeyRequest) -> Result<Self, Vec<String>> {
        let mut faults = key::faults(asked);
        let KeyRequest { rate_per_s, burst, concurrency, weight, priority, .. } = asked;
        let tokens =
            |asked: Option<u64>, now| asked.map_or(now, |asked| Some(asked).filter(|&tokens| tokens > 0));
        let count = |asked: Option<u32>, now| asked.map_or(now, |asked| Some(asked).filter(|&n| n > 0));
        let priority = priority.as_deref().and_then(Priority::from_name);
        let rate_per_s = rate_per_s.map_or(self.rate_per_s, |rate| Some(rate).filter(|&rate| rate > 0.0));
        if rate_per_s.is_none() && burst.is_some_and(|burst| burst > 0) {
            faults.push("a burst means nothing without a rate; give a rate too".to_owned());
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            rate_per_s,
            burst: count(*burst, self.burst).filter(|_| rate_per_s.is_some()),
            concurrency: count(*concurrency, self.concurrency),
            weight: weight.unwrap_or(self.weight),
            priority: priority.unwrap_or(self.priority),
            tokens_per_minute: tokens(asked.tokens_per_minute, self.tokens_per_minute),
            tokens_per_day: tokens(asked.tokens_per_day, self.tokens_per_day),
            models: asked.models.as_ref().map_or_else(|| self.models.clone(), |models| sorted(models)),
        })
    }
}

impl ApiKey {
    /// What people may see of it.
    #[must_use]
    pub fn status(&self, name: &Name) -> KeyStatus {
        let KeySettings { rate_per_s, concurrency, weight, priority, .. } = self.settings;
        KeyStatus {
            name: name.to_string(),
            tenant: self.tenant,
            rate_per_s,
            burst: self.settings.burst_in_force(),
            concurrency,
            weight,
            priority,
            tokens_per_minute: self.settings.tokens_per_minute,
            tokens_per_day: self.settings.tokens_per_day,
            models: self.settings.models.clone(),
            created_at_ms: self.created_at_ms,
        }
    }
}

/// The same, each once.
fn sorted(models: &[String]) -> Vec<String> {
    let mut models = models.to_vec();
    models.sort_unstable();
    models.dedup();
    models
}

/// The keys with one more.
///
/// # Errors
/// [`Refusal::Invalid`] with all faults; [`Refusal::KeyExists`].
pub fn create(
    keys: &Keys,
    name: &str,
    sha256: &[u8],
    asked: &KeyRequest,
    now_ms: u64,
) -> Result<(Keys, Name), Refusal> {
    let mut faults = Vec::new();
    let parsed = name.parse::<Name>().map_err(|error| faults.push(error.to_string())).ok();
    let settings = KeySettings::default().changed(asked).map_err(|found| faults.extend(found)).ok();
    let sha256 = <[u8; 32]>::try_from(sha256)
        .map_err(|_| faults.push("the digest of the secret is not a SHA-256 of 32 bytes".to_owned()));
    let (Some(name), Some(settings), Ok(sha256)) = (parsed, settings, sha256) else {
        return Err(Refusal::Invalid(faults.join("\n")));
    };
    if keys.by_name.contains_key(&name) {
        let text = format!("there is a key `{name}` already; change it with `cluster key set {name}`");
        return Err(Refusal::KeyExists(text));
    }
    if keys.by_name.values().any(|key| key.sha256 == sha256) {
        return Err(Refusal::KeyExists("another key has this secret; make a new one".to_owned()));
    }
    let Some(tenant) = keys.last_tenant.checked_add(1).filter(|_| keys.by_name.len() < MAX_KEYS) else {
        return Err(Refusal::NotNow(format!("there are {MAX_KEYS} keys; delete some first")));
    };
    let mut by_name = BTreeMap::clone(&keys.by_name);
    by_name.insert(name.clone(), ApiKey { tenant, sha256, created_at_ms: now_ms, settings });
    Ok((Keys { last_tenant: tenant, by_name: Arc::new(by_name) }, name))
}

/// The keys after a change of one's settings. The same again changes nothing.
///
/// # Errors
/// [`Refusal::NoKey`]; [`Refusal::Invalid`] with all faults.
pub fn set(keys: &Keys, name: &str, asked: &KeyRequest) -> Result<(Keys, Name), Refusal> {
    let (name, key) = find(keys, name)?;
    let settings = key.settings.changed(asked).map_err(|faults| Refusal::Invalid(faults.join("\n")))?;
    let mut by_name = BTreeMap::clone(&keys.by_name);
    by_name.insert(name.clone(), ApiKey { settings, ..key.clone() });
    Ok((Keys { by_name: Arc::new(by_name), ..*keys }, name.clone()))
}

/// The keys without one; its tenant number stays used.
///
/// # Errors
/// [`Refusal::NoKey`].
pub fn delete(keys: &Keys, name: &str) -> Result<(Keys, Name), Refusal> {
    let (name, _) = find(keys, name)?;
    let mut by_name = BTreeMap::clone(&keys.by_name);
    by_name.remove(name);
    Ok((Keys { by_name: Arc::new(by_name), ..*keys }, name.clone()))
}

fn find<'a>(keys: &'a Keys, name: &str) -> Result<(&'a Name, &'a ApiKey), Refusal> {
    let found = keys.by_name.iter().find(|(there, _)| there.as_str() == name);
    found.ok_or_else(|| {
        let there: Vec<_> = keys.by_name.keys().map(|name| format!("`{name}`")).collect();
        Refusal::NoKey(match there.is_empty() {
            true => {
                format!("there is no key `{name}`, and no other either; make one with `cluster key create`")
            }
            false => format!("there is no key `{name}`; there are {}", there.join(", ")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rate: f64) -> KeyRequest {
        KeyRequest { rate_per_s: Some(rate), ..Default::default() }
    }

    #[test]
    fn tenant_numbers_are_never_used_again() {
        let (keys, a) = create(&Keys::default(), "a", &[1; 32], &settings(2.5), 7).unwrap();
        let (keys, _) = delete(&keys, "a").unwrap();
        let (keys, _) = create(&keys, "a", &[2; 32], &settings(2.5), 8).unwrap();
        let key = &keys.by_name[&a];
        assert_eq!((key.tenant, key.created_at_ms, keys.last_tenant), (2, 8, 2));
        assert_eq!(key.status(&a).burst, Some(3), "a second's worth");
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_zero_lifts_a_limit() {
        let asked = KeyRequest {
            rate_per_s: Some(10.0),
            burst: Some(20),
            concurrency: Some(4),
            weight: Some(2),
            priority: Some("high".into()),
            tokens_per_minute: Some(100),
            tokens_per_day: Some(5000),
            models: Some(vec!["rag/*".into(), "a".into(), "a".into()]),
        };
        let (keys, a) = create(&Keys::default(), "a", &[1; 32], &asked, 7).unwrap();
        let (same, _) = set(&keys, "a", &KeyRequest::default()).unwrap();
        assert_eq!(same, keys);
        let (faster, _) = set(&keys, "a", &settings(30.0)).unwrap();
        let found = &faster.by_name[&a];
        let expected = KeySettings { rate_per_s: Some(30.0), ..keys.by_name[&a].settings.clone() };
        assert_eq!((&found.settings, found.sha256, found.tenant), (&expected, [1; 32], 1));
        let (lifted, _) = set(&keys, "a", &settings(0.0)).unwrap();
        assert_eq!(lifted.by_name[&a].settings.rate_per_s, None);
        assert_eq!(lifted.by_name[&a].settings.burst, None, "it leaves with the rate");
        let none = KeyRequest {
            concurrency: Some(0),
            tokens_per_day: Some(0),
            models: Some(Vec::new()),
            ..Default::default()
        };
        let lifted = set(&keys, "a", &none).unwrap().0.by_name[&a].settings.clone();
        assert_eq!(
            (lifted.concurrency, lifted.tokens_per_minute, lifted.tokens_per_day),
            (None, Some(100), None)
        );
        assert_eq!(
            (&keys.by_name[&a].settings.models[..], lifted.models.len()),
            (&["a".to_owned(), "rag/*".to_owned()][..], 0)
        );
    }

    #[test]
    fn keys_of_an_earlier_version_have_no_limits_of_tokens() {
        let old = r#"{"rate_per_s":null,"burst":null,"concurrency":null,"weight":1,"priority":"normal"}"#;
        let read: KeySettings = serde_json::from_str(old).unwrap();
        assert_eq!(read, KeySettings::default());
        assert_eq!(serde_json::to_string(&read).unwrap(), old, "and an earlier version reads them back");
    }

    #[test]
    fn what_makes_no_sense_is_refused_all_at_once() {
        let burst = KeyRequest { burst: Some(5), weight: Some(0), ..Default::default() };
        let text = create(&Keys::default(), "A b", &[1; 31], &burst, 7).unwrap_err().to_string();
        for part in ["`A b` is not a name", "weight 0", "a burst means nothing", "32 bytes"] {
            assert!(text.contains(part), "{text}");
        }
        let (keys, _) = create(&Keys::default(), "a", &[1; 32], &settings(1.0), 7).unwrap();
        let again = create(&keys, "a", &[2; 32], &settings(1.0), 7).unwrap_err().to_string();
        assert!(again.contains("`cluster key set a`"), "{again}");
        assert!(matches!(create(&keys, "b", &[1; 32], &settings(1.0), 7), Err(Refusal::KeyExists(_))));
        let unknown = delete(&keys, "b").unwrap_err().to_string();
        assert_eq!(unknown, "there is no key `b`; there are `a`");
        assert!(
            set(&Keys::default(), "b", &settings(1.0)).unwrap_err().to_string().contains("no other either")
        );
    }
}
