//! What public APIs over gRPC have in common: messages in frames, and answers whose status is in trailers. A call's request is one
//! message and is read as every other body is; its answer is one message, or several as parts of it are made.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use millstream_proto::RequestId;
use millstream_proto::endpoint::Endpoint;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::{Code, Status};

use super::pieces::Pieces;
use super::{Exchange, Last, Problem, Protocol};

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// As much of what is wrong as goes into a status. Clients refuse metadata of more than 8 KiB, and most letters of the world take
/// nine bytes there.
const MAX_TEXT_CHARS: usize = 600;

/// A method whose request is one message. Methods differ by how that is read.
pub(crate) struct Method {
    pub(crate) endpoints: &'static [Endpoint],
    /// A request of this message.
    pub(crate) read: fn(Bytes) -> Result<Box<dyn Exchange>, Problem>,
}

impl Protocol for Method {
    fn endpoints(&self) -> &'static [Endpoint] {
        self.endpoints
    }

    fn tells_usage(&self) -> bool {
        false
    }

    fn check_content(&self, _: &Parts) -> Result<(), Problem> {
        Ok(())
    }

    fn length_of(&self) -> fn(&[u8]) -> usize {
        length_of
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        (self.read)(only_message(body)?)
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        refuse(problem)
    }
}

/// How long the message is that such a prefix announces, the prefix counted.
///
/// # Errors
/// A problem for one that is compressed.
pub(crate) fn announced(prefix: [u8; PREFIX_BYTES]) -> Result<usize, Problem> {
    let [flag, length @ ..] = prefix;
    match flag {
        0 => Ok(PREFIX_BYTES.saturating_add(u32::from_be_bytes(length) as usize)),
        _ => Err(Problem::unsupported_media(
            "compressed messages are not accepted; send them without `grpc-encoding`",
        )),
    }
}

/// How long a body of one message is, as its first bytes say; 0 for what is none.
pub(crate) fn length_of(first: &[u8]) -> usize {
    first.first_chunk().and_then(|prefix| announced(*prefix).ok()).unwrap_or(0)
}

/// The only message of a body.
///
/// # Errors
/// A problem for none, for one that is compressed or cut off, and for more than one.
pub(crate) fn only_message(mut body: Bytes) -> Result<Bytes, Problem> {
    let Some(prefix) = body.first_chunk() else {
        return Err(Problem::malformed("the call has no message"));
    };
    let announced = announced(*prefix)?;
    if announced != body.len() {
        let (length, there) = (announced - PREFIX_BYTES, body.len() - PREFIX_BYTES);
        return Err(Problem::malformed(format!(
            "the frame says that its message has {length} bytes, and {there} came"
        )));
    }
    Ok(body.split_off(PREFIX_BYTES))
}

/// A message without what stands before it, as [`announced`] told its length.
pub(crate) fn without_prefix(mut frame: Bytes) -> Bytes {
    frame.split_off(PREFIX_BYTES.min(frame.len()))
}

/// Appends a message in its frame.
pub(crate) fn frame(message: &impl Message, bytes: &mut Vec<u8>) {
    let length = message.encoded_len();
    bytes.reserve(PREFIX_BYTES + length);
    prefix(length, bytes);
    message.encode_raw(bytes);
}

/// Appends what stands before a message of that length.
fn prefix(length: usize, bytes: &mut Vec<u8>) {
    bytes.push(0);
    // Answers are bounded far below 4 GiB.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// The end of an answer: this message, and that all went well.
pub(crate) fn end(message: &impl Message) -> Last {
    let mut bytes = Vec::new();
    frame(message, &mut bytes);
    ok(bytes)
}

/// The end of an answer whose messages are in these bytes.
pub(crate) fn ok(bytes: impl Into<Last>) -> Last {
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    Last { trailers: Some(Box::new(trailers)), ..bytes.into() }
}

/// The end of an answer that has begun and cannot be finished.
pub(crate) fn failed(problem: &Problem) -> Last {
    let mut trailers = HeaderMap::new();
    // Fails for metadata that is none, and there is none.
    let _ = status(problem).add_header(&mut trailers);
    problem.add_headers(&mut trailers, Version::HTTP_2);
    Last { trailers: Some(Box::new(trailers)), ..Last::default() }
}

/// The headers of an answer.
pub(crate) fn headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])
}

/// An answer of one message.
pub(crate) fn answer(message: &impl Message) -> Response<Last> {
    whole(end(message))
}

/// An answer of one message, and behind its fields others that have these bytes, all of that number.
pub(crate) fn answer_with(message: &impl Message, number: u32, contents: Vec<Pieces>) -> Response<Last> {
    let sizes: Vec<_> = contents.iter().map(Pieces::num_bytes).collect();
    let key = (number << 3) | 2;
    let of_field = |size: &usize| encoded_len_varint(key.into()) + encoded_len_varint(*size as u64) + size;
    let length = message.encoded_len() + sizes.iter().map(of_field).sum::<usize>();
    let mut pieces = Pieces::default();
    let bytes = pieces.tail();
    prefix(length, bytes);
    message.encode_raw(bytes);
    for (content, size) in contents.into_iter().zip(sizes) {
        encode_varint(key.into(), pieces.tail());
        encode_varint(size as u64, pieces.tail());
        pieces.append(content);
    }
    whole(ok(pieces))
}

fn whole(last: Last) -> Response<Last> {
    let mut response = Response::new(last);
    *response.headers_mut() = headers();
    response
}

/// The answer to a call that has none: headers alone, as gRPC has it.
pub(crate) fn refuse(problem: &Problem) -> Response<Last> {
    status(problem).into_http::<Bytes>().map(|_| Last::default())
}

/// The answer to a call of a method that there is not.
pub(crate) fn unimplemented(text: &str) -> Response<Last> {
    Status::unimplemented(text).into_http::<Bytes>().map(|_| Last::default())
}

fn status(problem: &Problem) -> Status {
    let text: String = problem.text().chars().take(MAX_TEXT_CHARS).collect();
    Status::new(code_of(problem), text)
}

/// The code of a problem (`google.rpc.Code`).
pub(crate) fn code_of(problem: &Problem) -> Code {
    match problem.status() {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::CONFLICT => Code::Aborted,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        // A full queue is told apart from a replica that is not there, as between the processes of a cluster.
        StatusCode::SERVICE_UNAVAILABLE if problem.is_overload() => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_whole_message() {
        let message = |bytes: &'static [u8]| only_message(Bytes::from_static(bytes));
        assert_eq!(message(b"\0\0\0\0\x02hi").unwrap(), "hi");
        assert_eq!(message(b"\0\0\0\0\0").unwrap(), "");
        for (bytes, code, reason) in [
            (&b""[..], Code::InvalidArgument, "no message"),
            (b"\0\0\0\0", Code::InvalidArgument, "no message"),
            (b"\x01\0\0\0\x02hi", Code::Unimplemented, "compressed"),
            (b"\0\0\0\0\x03hi", Code::InvalidArgument, "has 3 bytes, and 2 came"),
            (b"\0\xff\xff\xff\xffhi", Code::InvalidArgument, "has 4294967295 bytes, and 2 came"),
            (b"\0\0\0\0\x01hi", Code::InvalidArgument, "has 1 bytes, and 2 came"),
        ] {
            let problem = message(bytes).unwrap_err();
            assert_eq!(code_of(&problem), code, "{bytes:?}");
            assert!(problem.detail().contains(reason), "{}", problem.detail());
        }
    }

    #[test]
    fn an_answer_that_breaks_off_says_why_in_its_trailers() {
        let failed = failed(&Problem::shutting_down());
        let trailers = failed.trailers.unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(trailers["x-millstream-refused"], "shutting-down");
    }

    #[test]
    fn contents_go_behind_the_message() {
        use millstream_proto::inference::ModelInferResponse;
        let contents = [Bytes::from_static(b"small"), Bytes::from(vec![7; 100_000]), Bytes::new()];
        let message = ModelInferResponse { id: "a".to_owned(), ..Default::default() };
        let pieces = contents.clone().map(|bytes| {
            let mut pieces = Pieces::default();
            pieces.push(&bytes);
            pieces
        });
        let Last { bytes, more, trailers } = answer_with(&message, 6, pieces.into()).into_body();
        assert_eq!(more[0].as_ptr(), contents[1].as_ptr(), "it is not copied");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        let all = std::iter::once(bytes).chain(more).flatten().collect::<Vec<u8>>();
        let message = only_message(all.into()).unwrap();
        let found = ModelInferResponse::decode(message).unwrap();
        assert_eq!((&*found.id, &found.raw_output_contents[..]), ("a", &contents[..]));
    }

    #[test]
    fn a_refusal_is_headers_of_a_bounded_size() {
        let response = refuse(&Problem::malformed("é".repeat(100_000)));
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::OK, &HeaderValue::from_static("3"))
        );
        assert!(response.headers()["grpc-message"].len() < 6000);
        assert_eq!(response.body(), &Last::default());
    }
}
