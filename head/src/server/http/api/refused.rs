//! Why an operation is not done, as the problem document that its caller gets.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_pipelines::{Fault, Faults};

use super::documents::ProblemFault;
use crate::control::Error;
use crate::server::http::own_site::problem_with;

/// See the module.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    detail: String,
    faults: Vec<ProblemFault>,
}

impl Refused {
    /// Without faults of their own.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), faults: Vec::new() }
    }

    /// With all faults of the request.
    pub(crate) fn with(status: StatusCode, detail: impl Into<String>, faults: Vec<ProblemFault>) -> Self {
        Self { status, detail: detail.into(), faults }
    }

    /// Pipeline files that are wrong.
    pub(crate) fn files(all: &[Faults]) -> Self {
        let faults = all.iter().flat_map(|file| {
            file.faults.iter().map(|fault| {
                let Fault { line, column, message, help, .. } = fault;
                ProblemFault {
                    path: file.file_name.clone(),
                    message: message.clone(),
                    line: Some(*line),
                    column: Some(*column),
                    help: Some(help.clone()).filter(|help| !help.is_empty()),
                }
            })
        });
        let faults: Vec<_> = faults.collect();
        let detail = match &faults[..] {
            [_] => "the file has a fault; see `errors`".to_owned(),
            many => format!("there are {} faults; see `errors`", many.len()),
        };
        Self::with(StatusCode::UNPROCESSABLE_ENTITY, detail, faults)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.class().http_status());
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.to_string())
    }
}

impl From<crate::leadership::NotLeading> for Refused {
    fn from(error: crate::leadership::NotLeading) -> Self {
        Error::from(error).into()
    }
}

impl From<crate::leadership::Restarting> for Refused {
    fn from(error: crate::leadership::Restarting) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        problem_with(self.status, &self.detail, self.faults)
    }
}
