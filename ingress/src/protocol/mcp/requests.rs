//! What a body asks for: of the server itself, of a tool, or nothing.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use millstream_pipelines::Plan;
use millstream_proto::Value;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::call::CallExchange;
use super::message::{self, Body, Id, Message, Request, RpcError, answer, list, response};
use super::version::{self, Era, VERSION};
use super::{result, tools};
use crate::protocol::{Asked, Callable, Exchange, Last, Problem, Told, accepts};

/// What is to be done for a message.
enum Task {
    /// Nothing.
    Nothing,
    /// It is done.
    Done { id: Option<Id>, outcome: Result<Vec<u8>, RpcError> },
    /// Tell the tools after that one.
    List { id: Id, cursor: Option<String> },
    /// Call one.
    Call(Box<CallExchange>),
}

/// Reads a body. What is wrong with it is an answer as well.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Box<dyn Exchange> {
    let body = message::read(body);
    let era = match Era::of(headers) {
        Ok(era) => era,
        Err(error) => {
            let id = match body {
                Body::One(Message::Request(Request { id, .. })) => Some(id),
                _ => None,
            };
            let refusal = with_status(error.status(), answer(id.as_ref(), &Err(error)));
            return Box::new(OwnExchange::Done(Some(refusal)));
        }
    };
    let messages = match body {
        Body::One(message) => {
            return match task(headers, era, message) {
                Task::Call(call) => call,
                task => Box::new(OwnExchange::One { task: Some(task), era }),
            };
        }
        Body::Batch(messages) if era == Era::Batches => messages,
        Body::Batch(_) => {
            let error = RpcError::invalid_request("batches are of revision 2025-03-26 alone");
            return Box::new(OwnExchange::One {
                task: Some(Task::Done { id: None, outcome: Err(error) }),
                era,
            });
        }
    };
    batch(messages.into_iter().map(|message| task(headers, era, message)), era)
}

/// The requests of a batch. What costs is done for one of them: an HTTP request is one request to keys, limits and queues.
fn batch(tasks: impl Iterator<Item = Task>, era: Era) -> Box<dyn Exchange> {
    let mut done = Vec::new();
    let mut costly = None;
    for task in tasks {
        match task {
            Task::Nothing => {}
            Task::Done { id, outcome } => done.push(answer(id.as_ref(), &outcome)),
            Task::List { .. } | Task::Call(_) if costly.is_none() => costly = Some(task),
            Task::List { id, .. } => done.push(answer(Some(&id), &Err(one_of_a_batch()))),
            Task::Call(call) => done.push(answer(Some(call.id()), &Err(one_of_a_batch()))),
        }
    }
    match costly {
        Some(Task::Call(call)) => Box::new(call.among(done)),
        costly => Box::new(OwnExchange::Batch { done, costly, era }),
    }
}

fn one_of_a_batch() -> RpcError {
    RpcError::invalid_request(
        "one `tools/list` or `tools/call` of a batch is answered; send the others by themselves",
    )
}

fn task(headers: &HeaderMap, era: Era, message: Message) -> Task {
    let request = match message {
        Message::Request(request) => request,
        Message::Other => return Task::Nothing,
        Message::Bad(id, error) => return Task::Done { id, outcome: Err(error) },
    };
    let check = || match era {
        Era::Alone => version::check_alone(headers, &request),
        // One that says by its body that it is newer, where what stands between has lost its headers.
        _ if headers.get(VERSION).is_none() && version::is_alone(&request) => {
            Err(RpcError::header_mismatch(format!("the header `{VERSION}` is missing")))
        }
        _ => Ok(()),
    };
    if let Err(error) = check() {
        return Task::Done { id: Some(request.id), outcome: Err(error) };
    }
    let outcome = match &*request.method {
        "tools/call" => match call(headers, era, &request) {
            Ok(call) => return Task::Call(Box::new(call)),
            Err(error) => Err(error),
        },
        "tools/list" => match read_params::<ListParams<'_>>(&request) {
            Ok(ListParams { cursor }) => {
                return Task::List { cursor: cursor.map(Cow::into_owned), id: request.id };
            }
            Err(error) => Err(error),
        },
        "initialize" if era != Era::Alone => read_params::<InitializeParams<'_>>(&request)
            .map(|params| result::own(result::initialized(&params.version), era)),
        "server/discover" if era == Era::Alone => Ok(result::kept(result::discovered(), era)),
        "ping" => Ok(result::own(json!({}), era)),
        method => Err(RpcError::no_method(method)),
    };
    Task::Done { id: Some(request.id), outcome }
}

#[derive(Deserialize)]
struct ListParams<'b> {
    #[serde(borrow)]
    cursor: Option<Cow<'b, str>>,
}

#[derive(Deserialize)]
struct InitializeParams<'b> {
    #[serde(borrow, rename = "protocolVersion")]
    version: Cow<'b, str>,
}

#[derive(Deserialize)]
struct CallParams<'b> {
    #[serde(borrow)]
    name: Cow<'b, str>,
    #[serde(borrow)]
    arguments: Option<&'b RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Meta<'b> {
    #[serde(borrow, rename = "progressToken")]
    token: Option<&'b RawValue>,
}

/// `params`, where none is as good as an empty object.
fn read_params<'r, T: Deserialize<'r>>(request: &'r Request) -> Result<T, RpcError> {
    let params = if request.params.is_empty() { b"{}" } else { &request.params[..] };
    serde_json::from_slice(params).map_err(|error| {
        let text: String = error.to_string().chars().take(300).collect();
        RpcError::invalid_params(format!("the `params` of `{}` do not fit: {text}", request.method))
    })
}

fn call(headers: &HeaderMap, era: Era, request: &Request) -> Result<CallExchange, RpcError> {
    let CallParams { name, arguments, meta } = read_params(request)?;
    let arguments = arguments.map_or("{}", RawValue::get);
    if !arguments.starts_with('{') {
        return Err(RpcError::invalid_params("`arguments` must be an object"));
    }
    let arguments = match arguments {
        "{}" => Bytes::from_static(b"{}"),
        given => request.params.slice_ref(given.as_bytes()),
    };
    let token = meta.map(RawValue::get).filter(|meta| meta.starts_with('{'));
    let token = token.and_then(|meta| serde_json::from_str::<Meta<'_>>(meta).ok()?.token);
    let token = match token {
        Some(token) => {
            let text = "`progressToken` must be a whole number or a short text";
            Some(Id::of(token).ok_or_else(|| RpcError::invalid_params(text))?)
        }
        None => None,
    };
    let progress = token.filter(|_| accepts(headers, "text/event-stream"));
    Ok(CallExchange::new(request.id.clone(), name.into_owned(), arguments, progress, era))
}

/// A body that calls nothing.
enum OwnExchange {
    /// Its answer.
    Done(Option<Response<Last>>),
    /// One message; it is there until it has been done.
    One { task: Option<Task>, era: Era },
    /// Several: the answers that are there, and what is still to be done.
    Batch { done: Vec<Vec<u8>>, costly: Option<Task>, era: Era },
}

impl Exchange for OwnExchange {
    fn own_answer(&mut self, callable: &mut Callable<'_>) -> Option<Response<Last>> {
        match self {
            Self::Done(refusal) => refusal.take(),
            Self::One { task, era } => {
                let Some((id, outcome)) = finish(task.take()?, callable, *era) else {
                    return Some(with_status(StatusCode::ACCEPTED, Vec::new()));
                };
                let status = match &outcome {
                    // Older clients read the error of a request from an answer that went well.
                    Err(error) if *era == Era::Alone || id.is_none() => error.status(),
                    _ => StatusCode::OK,
                };
                Some(with_status(status, answer(id.as_ref(), &outcome)))
            }
            Self::Batch { done, costly, era } => {
                let costly = costly.take().and_then(|task| finish(task, callable, *era));
                done.extend(costly.map(|(id, outcome)| answer(id.as_ref(), &outcome)));
                if done.is_empty() {
                    return Some(with_status(StatusCode::ACCEPTED, Vec::new()));
                }
                Some(response(list(done)))
            }
        }
    }

    fn ask(&self, _: &Plan) -> Result<Asked, Problem> {
        Err(Problem::not_found("the message calls no tool"))
    }

    fn answer(&mut self, _: &Value, _: Told<'_>) -> Response<Last> {
        response(Vec::new())
    }
}

/// Whose answer, and what it is.
type Outcome = (Option<Id>, Result<Vec<u8>, RpcError>);

fn finish(task: Task, callable: &mut Callable<'_>, era: Era) -> Option<Outcome> {
    match task {
        Task::Done { id, outcome } => Some((id, outcome)),
        Task::List { id, cursor } => {
            let page = tools::page(callable, cursor.as_deref());
            Some((Some(id), page.map(|page| result::kept(page, era))))
        }
        Task::Nothing | Task::Call(_) => None,
    }
}

/// An answer with that status; without a body where there are no bytes.
fn with_status(status: StatusCode, bytes: Vec<u8>) -> Response<Last> {
    let mut response = if bytes.is_empty() { Response::new(Last::default()) } else { response(bytes) };
    *response.status_mut() = status;
    response
}
