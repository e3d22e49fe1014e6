//! Connections that say whatever may come: each ends or is answered, and the others are served. Runs for a second in the tests;
//! `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-ingress --test integration fuzz` for a minute.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bolero::TypeGenerator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::common::{FakeWorker, Reaction, Setup};

/// A piece of what a connection says.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Request(u8),
    Header(u8, String),
    EndOfHead,
    Body,
    Chunk(u8),
    LastChunk,
    Newline,
    Preface,
    Frame { kind: u8, flags: u8, stream: u8, payload: Vec<u8> },
    Raw(Vec<u8>),
    Flush,
}

const REQUESTS: [&str; 6] = [
    "POST /echo HTTP/1.1\r\n",
    "GET /-/healthz HTTP/1.1\r\n",
    "POST /echo HTTP/1.0\r\n",
    "PUT * HTTP/1.1\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "GET http://x/-/routes HTTP/1.1\r\n",
];
const HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "connection",
    "expect",
    "upgrade",
    "x-request-timeout",
    "traceparent",
];
const VALUES: [&str; 8] =
    ["x", "17", "chunked", "application/json", "close", "100-continue", "h2c", "99999999999999999999"];

fn say(piece: &Piece, out: &mut Vec<u8>) {
    match piece {
        Piece::Request(which) => out.extend(REQUESTS[usize::from(*which) % REQUESTS.len()].bytes()),
        Piece::Header(which, free) => {
            let which = usize::from(*which);
            let value = VALUES.get(which / HEADERS.len()).copied().unwrap_or(free);
            out.extend(format!("{}: {value}\r\n", HEADERS[which % HEADERS.len()]).bytes());
        }
        Piece::EndOfHead => out.extend(b"\r\n"),
        Piece::Body => out.extend(br#"{"text": "hello"}"#),
        Piece::Chunk(length) => {
            out.extend(format!("{length:x}\r\n{}\r\n", "a".repeat(usize::from(*length))).bytes());
        }
        Piece::LastChunk => out.extend(b"0\r\n\r\n"),
        Piece::Newline => out.push(b'\n'),
        Piece::Preface => out.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Piece::Frame { kind, flags, stream, payload } => {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            out.extend(&length[1..]);
            out.extend([kind % 12, *flags, 0, 0, 0, *stream]);
            out.extend(payload);
        }
        Piece::Raw(bytes) => out.extend(bytes),
        Piece::Flush => {}
    }
}

async fn converse(address: std::net::SocketAddr, pieces: &[Piece]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        say(piece, &mut out);
        if matches!(piece, Piece::Flush) {
            // It may have been hung up on.
            let _ = stream.write_all(&std::mem::take(&mut out)).await;
        }
    }
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    // Once nothing more comes from the client, the connection ends.
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answers));
    let _ = end.await.unwrap_or_else(|_| panic!("no end after {pieces:?}"));
}

#[test]
fn whatever_a_connection_says_it_ends_and_the_others_are_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = runtime.block_on(Setup::echo(&[("echo-1", worker.address)]));
    let served = AssertUnwindSafe((runtime, setup));
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| check(&served, pieces));
    let AssertUnwindSafe((runtime, setup)) = served;
    runtime.block_on(async move { drop(setup) });
}

fn check(served: &AssertUnwindSafe<(Runtime, Setup)>, pieces: &[Piece]) {
    let (runtime, setup) = &**served;
    runtime.block_on(async {
        converse(setup.ingress.address(), pieces).await;
        assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    });
}
