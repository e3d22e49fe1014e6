//! How clients reach a pipeline: its route, what makes a request of a chat, other names.

use std::collections::BTreeMap;

use super::{About, Chat, Plan};
use crate::{Alias, Name};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// The path.
    pub(crate) route: Option<String>,
    /// What makes it a model of the chat APIs.
    pub(crate) chat: Option<Chat>,
    /// Other names, and whose they are: `None` is the pipeline, else the deployment.
    pub(crate) aliases: BTreeMap<Alias, Option<Name>>,
    /// What it is for.
    pub(crate) about: About,
    /// The same of its deployments, where their tables say something.
    pub(crate) deployments: BTreeMap<Name, About>,
}

impl Plan {
    /// Its HTTP route; `None` for a file that holds only deployments.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.parts.serving.route.as_deref()
    }

    /// How it answers conversations (`[chat]`); `None` where it does not.
    #[must_use]
    pub fn chat(&self) -> Option<&Chat> {
        self.parts.serving.chat.as_ref()
    }

    /// Names that clients may give it (`[serving] aliases`), with `None`, or one of its deployments.
    #[must_use]
    pub fn aliases(&self) -> &BTreeMap<Alias, Option<Name>> {
        &self.parts.serving.aliases
    }
}
