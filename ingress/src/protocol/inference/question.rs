//! The methods of the service that ask for a page, and what their messages ask.

use std::borrow::Cow;

use super::super::Problem;
use super::super::wire::{Field, Fields};
use super::path::{Action, InferencePath, ModelPath};

/// A method that asks for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// One without anything to say.
    Of(Plain),
    /// Of a model, by its name and version.
    Model(Action),
    /// All models, or only those that are ready.
    Index,
}

/// A question without anything to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Live,
    Ready,
    Server,
}

/// What a message asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked<'m> {
    /// The same as a path.
    pub path: InferencePath<'m>,
    /// Whether models that are not ready are left out.
    pub only_ready: bool,
}

impl Question {
    /// The one that a method is for; `None` for other methods.
    pub(crate) fn of(method: &str) -> Option<Self> {
        match method {
            "ServerLive" => Some(Self::Of(Plain::Live)),
            "ServerReady" => Some(Self::Of(Plain::Ready)),
            "ServerMetadata" => Some(Self::Of(Plain::Server)),
            "ModelReady" => Some(Self::Model(Action::Ready)),
            "ModelMetadata" => Some(Self::Model(Action::Metadata)),
            "ModelConfig" => Some(Self::Model(Action::Config)),
            "ModelStatistics" => Some(Self::Model(Action::Statistics)),
            "RepositoryIndex" => Some(Self::Index),
            _ => None,
        }
    }

    /// Whether everybody may ask it.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Of(Plain::Live | Plain::Ready))
    }

    /// What a message asks.
    ///
    /// # Errors
    /// A problem (400) for what is no such message.
    pub(crate) fn read(self, message: &[u8]) -> Result<Asked<'_>, Problem> {
        let action = match self {
            Self::Of(Plain::Live) => return Ok(Asked { path: InferencePath::Live, only_ready: false }),
            Self::Of(Plain::Ready) => return Ok(Asked { path: InferencePath::Ready, only_ready: false }),
            Self::Of(Plain::Server) => return Ok(Asked { path: InferencePath::Server, only_ready: false }),
            Self::Index => {
                let mut only_ready = false;
                for field in Fields::of(message) {
                    if let Field { number: 2, value } = field? {
                        only_ready = value.number()? != 0;
                    }
                }
                return Ok(Asked { path: InferencePath::Index, only_ready });
            }
            Self::Model(action) => action,
        };
        let (mut name, mut version) = ("", None);
        for field in Fields::of(message) {
            match field? {
                Field { number: 1, value } => name = value.text()?,
                Field { number: 2, value } => version = Some(value.text()?).filter(|text| !text.is_empty()),
                _ => {}
            }
        }
        let path = match action {
            Action::Statistics if name.is_empty() => InferencePath::Statistics,
            action => InferencePath::Model(ModelPath { name: Cow::Borrowed(name), version, action }),
        };
        Ok(Asked { path, only_ready: false })
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::inference::{ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest};
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_ask_what_paths_ask() {
        let ready = ModelReadyRequest { name: "rag/embedder".to_owned(), version: "3".to_owned() };
        let bytes = ready.encode_to_vec();
        let asked = Question::of("ModelReady").unwrap().read(&bytes).unwrap();
        let model = |name, version, action| {
            InferencePath::Model(ModelPath { name: Cow::Borrowed(name), version, action })
        };
        assert_eq!(asked.path, model("rag/embedder", Some("3"), Action::Ready));
        let index = RepositoryIndexRequest { ready: true, ..Default::default() }.encode_to_vec();
        assert!(Question::Index.read(&index).unwrap().only_ready);
        let all = ModelStatisticsRequest::default().encode_to_vec();
        let asked = Question::of("ModelStatistics").unwrap().read(&all).unwrap();
        assert_eq!(asked.path, InferencePath::Statistics);
        assert!(Question::of("ModelConfig").unwrap().read(b"\x0a\x02\xff\xfe").is_err());
        assert_eq!(Question::of("RepositoryModelLoad"), None);
    }
}
