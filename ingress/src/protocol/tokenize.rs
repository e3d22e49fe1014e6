//! `POST /tokenize`, which two APIs have: a body with `inputs` is for Text Embeddings Inference, one with `prompt` or `messages` for
//! vLLM.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Exchange, Last, Problem, Protocol, openai, tei};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/tokenize",
    access: Access::ApiKey,
    help: "Texts to tokens for clients of Text Embeddings Inference, with `inputs`, and of vLLM, with `prompt` or `messages`, by the tokenizer of the only deployment that has one, or of the one that `model` names.",
};

/// See the module.
pub(crate) struct Tokenize;

#[derive(Deserialize)]
struct Given {
    inputs: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
}

impl Protocol for Tokenize {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        match serde_json::from_slice(&body) {
            Ok(Given { inputs: Some(_), prompt: None, messages: None }) => tei::read_tokenize(&body),
            Ok(Given { inputs: None, prompt: None, messages: None }) => Err(Problem::bad_field(
                "/inputs",
                "is missing, and so are `prompt` and `messages`; give one of them",
            )),
            Ok(Given { inputs: Some(_), .. }) => {
                Err(Problem::bad_field("/inputs", "is there beside `prompt` or `messages`; give one of them"))
            }
            // What is wrong with a body that is not read is said by what reads it.
            Ok(_) | Err(_) => openai::read_tokenize(&body),
        }
    }

    /// vLLM's fields are those that its older versions have beside `error`, which is a text in the other API.
    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        let more = json!({ "object": "error", "message": problem.text(), "type": problem.name() });
        tei::refuse_for_both(problem, more)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(body: &str) -> Option<serde_json::Value> {
        let (head, ()) = Request::post("/tokenize").body(()).unwrap().into_parts();
        let problem = Tokenize.read(&head, Bytes::copy_from_slice(body.as_bytes())).err()?;
        let response = Tokenize.problem(&problem, &RequestId::new("r-1"));
        assert_eq!(response.status(), 400, "{body}");
        Some(serde_json::from_slice(&response.body().bytes).unwrap())
    }

    #[test]
    fn the_body_tells_whose_it_is() {
        for good in [
            r#"{"inputs": "a", "add_special_tokens": false, "prompt_name": "query"}"#,
            r#"{"inputs": ["a", "b"], "prompt": null}"#,
            r#"{"prompt": "a", "return_token_strs": true, "model": "p/d"}"#,
            r#"{"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": true}"#,
        ] {
            assert_eq!(refused(good), None, "{good}");
        }
    }

    #[test]
    fn an_error_is_for_both() {
        for (body, said) in [
            ("{}", "`inputs`: is missing"),
            (r#"{"inputs": "a", "prompt": "a"}"#, "`inputs`: is there beside"),
            (r#"{"inputs": []}"#, "`inputs`: there is no text"),
            (
                r#"{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}"#,
                "`prompt`: is there beside",
            ),
            (r#"{"prompt": ["a"]}"#, "`prompt`: "),
            (r#"{"messages": []}"#, "`messages`: there are none"),
            (r#"{"prompt": "a", "tools": [1]}"#, "`tools`: "),
            (
                r#"{"messages": [{"role": "user"}], "add_generation_prompt": false}"#,
                "`add_generation_prompt`",
            ),
            ("[", "the body does not fit"),
        ] {
            let document = refused(body).unwrap();
            assert_eq!(
                (&document["error_type"], &document["object"]),
                (&json!("Validation"), &json!("error"))
            );
            for field in ["error", "message"] {
                assert!(document[field].as_str().unwrap().starts_with(said), "{body}: {document}");
            }
        }
    }
}
