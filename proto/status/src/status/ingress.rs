//! An ingress as it is shown: its URL, and what its operator accepted when other machines were let in.

use std::fmt::{self, Display, Formatter};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process that takes HTTP requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IngressStatus {
    /// Name of its node.
    pub name: String,
    /// Where it takes requests.
    #[serde(flatten)]
    pub entrance: Entrance,
    /// Number of the route table that it has confirmed. Each term of a head counts its tables from 1; 0: none yet.
    pub routes_version: u64,
}

/// Where and how an ingress takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entrance {
    /// HOST:PORT it listens on.
    pub address: String,
    /// What is spoken there.
    #[serde(default)]
    pub scheme: Scheme,
    /// What its operator accepted by flags, where other machines can reach it.
    #[serde(default)]
    pub accepted_risks: Vec<AcceptedRisk>,
}

impl Entrance {
    /// The URL of a path there.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.scheme.url(&self.address, path)
    }
}

/// An ingress in clear text, of which nothing was accepted.
impl From<String> for Entrance {
    fn from(address: String) -> Self {
        Self { address, scheme: Scheme::Http, accepted_risks: Vec::new() }
    }
}

impl From<&str> for Entrance {
    fn from(address: &str) -> Self {
        Self::from(address.to_owned())
    }
}

/// What an ingress speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Clear text.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The URL of a path at HOST:PORT.
    #[must_use]
    pub fn url(self, address: impl Display, path: &str) -> String {
        format!("{self}://{address}{path}")
    }
}

impl Display for Scheme {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// What can go wrong at an ingress that other machines reach, and was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedRisk {
    /// Requests, answers and keys can be read and changed on the way.
    ClearText,
    /// Whoever reaches it can call everything that is served.
    Anonymous,
}

impl Display for AcceptedRisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClearText => "clear text: what is said can be read and changed on the way",
            Self::Anonymous => "no API key is asked for: whoever reaches it can call every model",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_an_older_head_is_one_of_clear_text() {
        let old = r#"{"name": "a", "address": "127.0.0.1:8000", "routes_version": 3}"#;
        let status: IngressStatus = serde_json::from_str(old).unwrap();
        assert_eq!(status.entrance, Entrance::from("127.0.0.1:8000"));
        assert_eq!(status.entrance.url("/rag"), "http://127.0.0.1:8000/rag");
        let secure = Entrance { scheme: Scheme::Https, ..status.entrance };
        assert_eq!(secure.url(""), "https://127.0.0.1:8000");
        assert_eq!(serde_json::to_value(&secure).unwrap()["scheme"], "https");
    }
}
