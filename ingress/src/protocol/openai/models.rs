//! `GET /v1/models`, and of one model: the deployments that requests may name.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};
use serde::Serialize;

use super::super::{Exchange, Last, Problem, Protocol, Target, json};
use super::error;

/// The list.
pub(crate) const MODELS: Endpoint = Endpoint {
    methods: "GET, HEAD",
    path: "/v1/models",
    access: Access::ApiKey,
    help: "OpenAI's list of models: the deployments that `model` may name, with the task of each.",
};
/// One of them.
pub(crate) const MODEL: Endpoint = Endpoint {
    methods: "GET, HEAD",
    path: "/v1/models/{model}",
    access: Access::ApiKey,
    help: "One model of that list.",
};

/// The pages of models. They call nothing, so that the ingress answers them as it does its own; errors are in the API's form.
pub(crate) struct Models;

impl Models {
    /// The model that a path names; `None` for the list.
    pub(crate) fn named(path: &str) -> Option<&str> {
        path.strip_prefix("/v1/models/").filter(|name| !name.is_empty())
    }

    /// The list of these.
    pub(crate) fn list<'a>(models: impl Iterator<Item = (&'a str, &'static str)>) -> Response<Last> {
        let mut data: Vec<_> = models.map(|(id, task)| Model::of(id, task)).collect();
        data.sort_by(|a, b| a.id.cmp(b.id));
        json(&List { object: "list", data })
    }

    /// One of them.
    pub(crate) fn one(id: &str, task: &'static str) -> Response<Last> {
        json(&Model::of(id, task))
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    /// Clients want a number; when it was made is not known here.
    created: u64,
    owned_by: &'static str,
    /// Ours: what it does.
    task: &'static str,
}

impl<'a> Model<'a> {
    fn of(id: &'a str, task: &'static str) -> Self {
        Self { id, object: "model", created: 0, owned_by: "millstream", task }
    }
}

impl Protocol for Models {
    fn endpoints(&self) -> &'static [Endpoint] {
        // The ingress's own pages list them.
        &[]
    }

    fn takes(&self, path: &str) -> bool {
        path.starts_with("/v1/")
    }

    fn methods(&self, _: &str) -> &'static str {
        MODELS.methods
    }

    /// What nobody else takes is no route of a pipeline's either.
    fn target<'r>(&self, head: &'r Parts) -> Option<Target<'r>> {
        Some(Target::Route(head.uri.path()))
    }

    fn check_content(&self, _: &Parts) -> Result<(), Problem> {
        Ok(())
    }

    fn read(&self, _: &Parts, _: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        Err(Problem::not_found("there is nothing here"))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}
