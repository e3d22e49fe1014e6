//! Ids as types of their own, so that none can be taken for another. Cloning shares the text.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id of that text.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

id! {
    /// A machine running a worker; made once and kept in its data directory.
    NodeId
}
id! {
    /// One running copy of a deployment, such as `rag-embedder-5f3a91`. Never used twice.
    ReplicaId
}
id! {
    /// One process that takes HTTP requests.
    IngressId
}
id! {
    /// One client request (`x-request-id`), the same on every hop.
    RequestId
}

impl RequestId {
    /// A fresh, random id, from the thread's own generator: asking the system for each would be no small part of what a
    /// request costs.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the ingress asks for one per request; nothing decides by it"
    )]
    pub fn random() -> Self {
        let mut buffer = [0; uuid::fmt::Simple::LENGTH];
        Self::new(&*uuid::Uuid::new_v4().simple().encode_lower(&mut buffer))
    }
}
