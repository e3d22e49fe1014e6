//! Requests without an answer of their pipelines.

use http::Response;

use crate::protocol::{Exchange, Last, Problem, Told};

/// Why a request has no answer of its pipeline's.
pub(crate) struct Refusal {
    /// Why.
    pub problem: Box<Problem>,
    /// How the request itself wants that to be said; `None` leaves it to its API.
    pub response: Option<Box<Response<Last>>>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), response: None }
    }
}

impl Refusal {
    /// Of a request that has been read.
    pub(super) fn of(exchange: &mut dyn Exchange, problem: impl Into<Problem>, told: Told<'_>) -> Self {
        let problem = Box::new(problem.into());
        Self { response: exchange.refuse(&problem, told).map(Box::new), problem }
    }
}
