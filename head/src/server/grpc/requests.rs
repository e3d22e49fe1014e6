//! What control requests mean, beyond what protocol buffers check.

use millstream_core::desired::{Mode, NodeRequest};
use millstream_pipelines::Name;
use millstream_proto::v1::change_node_request::Change;
use millstream_proto::v1::deploy_request::Beside;
use millstream_proto::v1::{DeployRequest, PipelineFile};

use crate::control::Error;
use crate::control::deploy::Text;

/// What is asked of a node.
pub(super) fn node_request(change: Change) -> Result<NodeRequest, Error> {
    match change {
        Change::Cordon => Ok(NodeRequest::Cordon),
        Change::Drain => Ok(NodeRequest::Drain),
        Change::Uncordon => Ok(NodeRequest::Uncordon),
        Change::Unspecified => {
            Err(Error::Invalid("what is to become of the node is missing, or not known to this head".into()))
        }
    }
}

/// A pipeline's name.
pub(super) fn name(text: &str) -> Result<Name, Error> {
    text.parse().map_err(|error| Error::Invalid(format!("{error}")))
}

/// The texts to deploy, and how requests are to come to them.
pub(super) fn texts(request: DeployRequest) -> Result<(Vec<Text>, Option<Mode>), Error> {
    let DeployRequest { files, beside } = request;
    let part = |what: &str, permille: u32| {
        u16::try_from(permille).ok().filter(|permille| (1..=1000).contains(permille)).ok_or_else(|| {
            Error::Invalid(format!(
                "a {what} cannot have {permille} thousandths of the requests; give 0.1% to 100%"
            ))
        })
    };
    let mode = match beside {
        None => None,
        Some(Beside::CanaryPermille(permille)) => Some(Mode::Canary { permille: part("canary", permille)? }),
        Some(Beside::ShadowPermille(permille)) => Some(Mode::Shadow { permille: part("shadow", permille)? }),
    };
    let texts = files.into_iter().map(|file| {
        let PipelineFile { file_name, source, source_dir } = file;
        Text { file_name, source, source_dir }
    });
    Ok((texts.collect(), mode))
}
