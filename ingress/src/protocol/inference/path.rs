//! Paths of the protocol. A deployment's full name has a slash, which clients write as it is or as `%2F`.

use std::borrow::Cow;

use super::super::problem::shown;
use super::super::{Problem, Target};

/// What a path asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InferencePath<'p> {
    /// `/v2`: the server.
    Server,
    /// `/v2/health/live`.
    Live,
    /// `/v2/health/ready`.
    Ready,
    /// `/v2/repository/index`: all models.
    Index,
    /// `/v2/models/stats`: what was counted of all models.
    Statistics,
    /// `/v2/models/…`: one model.
    Model(ModelPath<'p>),
}

/// A path of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelPath<'p> {
    /// Its name, with the slash as it is.
    pub name: Cow<'p, str>,
    /// What stands behind `versions`.
    pub version: Option<&'p str>,
    /// What is asked of it.
    pub action: Action,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Metadata,
    Ready,
    Infer,
    Config,
    Statistics,
}

/// What a path asks about; `None` for one that the protocol does not have.
pub(crate) fn parse(path: &str) -> Option<InferencePath<'_>> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/v2" => Some(InferencePath::Server),
        "/v2/health/live" => Some(InferencePath::Live),
        "/v2/health/ready" => Some(InferencePath::Ready),
        "/v2/repository/index" => Some(InferencePath::Index),
        "/v2/models/stats" => Some(InferencePath::Statistics),
        path => path.strip_prefix("/v2/models/").and_then(model).map(InferencePath::Model),
    }
}

fn model(path: &str) -> Option<ModelPath<'_>> {
    let (rest, action) = match path.rsplit_once('/') {
        Some((rest, "infer")) => (rest, Action::Infer),
        Some((rest, "ready")) => (rest, Action::Ready),
        Some((rest, "config")) => (rest, Action::Config),
        Some((rest, "stats")) => (rest, Action::Statistics),
        _ => (path, Action::Metadata),
    };
    let versioned = rest.rsplit_once('/').and_then(|(front, version)| {
        let name = front.strip_suffix("/versions")?;
        Some((name, version))
    });
    let (name, version) = versioned.map_or((rest, None), |(name, version)| (name, Some(version)));
    if name.is_empty() {
        return None;
    }
    let name = match name.contains('%') {
        true => Cow::Owned(name.replace("%2F", "/").replace("%2f", "/")),
        false => Cow::Borrowed(name),
    };
    Some(ModelPath { name, version, action })
}

/// The revision that a version of a model is.
///
/// # Errors
/// 404: versions are numbers.
pub(super) fn revision(name: &str, version: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(version) = version else { return Ok(None) };
    version.parse().map(Some).map_err(|_| {
        let (name, version) = (shown(name), shown(version));
        Problem::not_found(format!(
            "`{name}` has no version `{version}`; versions are numbers of revisions, such as `1`"
        ))
    })
}

impl<'p> ModelPath<'p> {
    /// The revision that the path names.
    ///
    /// # Errors
    /// 404: versions are numbers.
    pub(crate) fn revision(&self) -> Result<Option<u64>, Problem> {
        revision(&self.name, self.version)
    }

    /// What it calls, where the path has the name as it is.
    pub(super) fn plain_target(&self) -> Option<Target<'p>> {
        match (&self.name, self.revision()) {
            (&Cow::Borrowed(name), Ok(version)) => Some(Target::Named { name, version }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_versions_and_actions_are_told_apart() {
        let table = [
            ("/v2/models/rag", "rag", None, Action::Metadata),
            ("/v2/models/rag/", "rag", None, Action::Metadata),
            ("/v2/models/rag/ready", "rag", None, Action::Ready),
            ("/v2/models/rag/infer", "rag", None, Action::Infer),
            ("/v2/models/rag/embedder/infer", "rag/embedder", None, Action::Infer),
            ("/v2/models/rag/embedder/config", "rag/embedder", None, Action::Config),
            ("/v2/models/rag/versions/3/stats", "rag", Some("3"), Action::Statistics),
            ("/v2/models/rag%2Fembedder/infer", "rag/embedder", None, Action::Infer),
            ("/v2/models/rag%2fembedder/versions/3", "rag/embedder", Some("3"), Action::Metadata),
            ("/v2/models/rag/versions/3/infer", "rag", Some("3"), Action::Infer),
            ("/v2/models/rag/embedder/versions/3/ready", "rag/embedder", Some("3"), Action::Ready),
            // Names that are words of the protocol.
            ("/v2/models/rag/infer/infer", "rag/infer", None, Action::Infer),
            ("/v2/models/rag%2Fready", "rag/ready", None, Action::Metadata),
            ("/v2/models/rag/versions", "rag/versions", None, Action::Metadata),
            ("/v2/models/rag/versions//infer", "rag", Some(""), Action::Infer),
        ];
        for (path, name, version, action) in table {
            let expected = ModelPath { name: name.into(), version, action };
            assert_eq!(parse(path), Some(InferencePath::Model(expected)), "{path}");
        }
        for (path, expected) in [
            ("/v2", Some(InferencePath::Server)),
            ("/v2/", Some(InferencePath::Server)),
            ("/v2/health/live", Some(InferencePath::Live)),
            ("/v2/health/ready", Some(InferencePath::Ready)),
            ("/v2/repository/index", Some(InferencePath::Index)),
            ("/v2/models/stats", Some(InferencePath::Statistics)),
            ("/v2/models", None),
            ("/v2/models/", None),
            ("/v2/rerank", None),
            ("/v2/health", None),
            ("/", None),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        let model = |version| ModelPath { name: "rag".into(), version, action: Action::Infer };
        assert_eq!(model(None).revision().unwrap(), None);
        assert_eq!(model(Some("7")).revision().unwrap(), Some(7));
        for bad in ["", "x", "-1", "1.0", "99999999999999999999999"] {
            assert_eq!(model(Some(bad)).revision().unwrap_err().status(), 404, "{bad}");
            assert_eq!(model(Some(bad)).plain_target(), None, "{bad}");
        }
        assert_eq!(model(None).plain_target(), Some(Target::Named { name: "rag", version: None }));
    }
}
