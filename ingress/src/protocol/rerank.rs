//! `POST /rerank`, which two APIs have: a body with `texts` is for Text Embeddings Inference, one with `documents` for vLLM and Jina.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Exchange, Last, Problem, Protocol, cohere, tei};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/rerank",
    access: Access::ApiKey,
    help: "Reranking for clients of Text Embeddings Inference, with `texts`, and of vLLM and Jina, with `documents`.",
};

/// See the module.
pub(crate) struct Rerank;

#[derive(Deserialize)]
struct Given {
    texts: Option<IgnoredAny>,
    documents: Option<IgnoredAny>,
}

impl Protocol for Rerank {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        match serde_json::from_slice(&body) {
            Ok(Given { texts: Some(_), documents: None }) => tei::read_rerank(&body),
            Ok(Given { texts: None, documents: None }) => {
                Err(Problem::bad_field("/texts", "is missing, and so is `documents`; give one of them"))
            }
            Ok(Given { texts: Some(_), documents: Some(_) }) => {
                Err(Problem::bad_field("/texts", "is there beside `documents`; give one of them"))
            }
            // What is wrong with a body that is not read is said by what reads it.
            Ok(Given { texts: None, documents: Some(_) }) | Err(_) => cohere::read_rerank(&body),
        }
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        tei::refuse_for_both(problem, cohere::document(problem, request_id))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(body: &str) -> Option<serde_json::Value> {
        let (head, ()) = Request::post("/rerank").body(()).unwrap().into_parts();
        let problem = Rerank.read(&head, Bytes::copy_from_slice(body.as_bytes())).err()?;
        let response = Rerank.problem(&problem, &RequestId::new("r-1"));
        assert_eq!(response.status(), 400, "{body}");
        Some(serde_json::from_slice(&response.body().bytes).unwrap())
    }

    #[test]
    fn the_body_tells_whose_it_is() {
        for good in [
            r#"{"query": "q", "texts": ["a"], "truncate": true, "raw_scores": false}"#,
            r#"{"query": "q", "documents": ["a", {"text": "b"}], "texts": null}"#,
        ] {
            assert_eq!(refused(good), None, "{good}");
        }
    }

    #[test]
    fn an_error_is_for_both() {
        for (body, said) in [
            (r#"{"query": "q"}"#, "`texts`: is missing"),
            (r#"{"query": "q", "texts": ["a"], "documents": ["a"]}"#, "`texts`: is there beside"),
            (r#"{"query": "q", "texts": []}"#, "`texts`: there are none"),
            (r#"{"query": "q", "texts": ["a"], "raw_scores": true}"#, "`raw_scores`: "),
            (r#"{"query": "q", "documents": []}"#, "`documents`: there are none"),
            (r#"{"query": 1, "texts": ["a"]}"#, "`query`: "),
            ("[", "the body does not fit"),
        ] {
            let document = refused(body).unwrap();
            assert_eq!(document["error_type"], "Validation");
            for field in ["error", "message", "detail"] {
                assert!(document[field].as_str().unwrap().starts_with(said), "{body}: {document}");
            }
        }
    }
}
