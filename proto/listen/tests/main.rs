//! Real sockets: who is slow, silent or one too many, and what becomes of the others.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use millstream_listen::{ConnectionLimits, Server, bind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::service_fn;

/// Long enough for whatever is to happen.
const SOON: Duration = Duration::from_secs(10);
const LARGE: usize = 32 << 20;

/// A listener that answers `/large` with much and everything else with little.
fn start(limits: ConnectionLimits) -> (SocketAddr, Server) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let size = if request.uri().path() == "/large" { LARGE } else { 2 };
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'a'; size]))))
    });
    (address, millstream_listen::http::start(listener, limits, service))
}

fn short() -> ConnectionLimits {
    let limit = Duration::from_millis(300);
    ConnectionLimits { first_byte: limit, headers: limit, write: limit, ..ConnectionLimits::default() }
}

/// Whether the connection ends, whatever is still read of it.
async fn ends(stream: &mut TcpStream) -> bool {
    let read_all = async { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} };
    tokio::time::timeout(SOON, read_all).await.is_ok()
}

#[tokio::test]
async fn whoever_says_nothing_or_half_a_head_is_hung_up_on() {
    let (address, _server) = start(short());
    for said in ["", "GET / HT", "GET / HTTP/1.1\r\nx-long: "] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        assert!(ends(&mut stream).await, "{said}");
    }
}

#[tokio::test]
async fn whoever_does_not_take_an_answer_loses_its_connection() {
    let (address, _server) = start(short());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // A client that is slow for that long; nothing is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut num_bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap() {
        num_bytes += read;
    }
    assert!(num_bytes < LARGE, "all of it came");
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_and_no_other_of_its_connection() {
    let (address, _server) = start(short());
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let get = |path: &str| Request::get(format!("http://a{path}")).body(()).unwrap();
    let (stuck, _) = client.send_request(get("/large"), true).unwrap();
    let mut stuck = stuck.await.unwrap().into_body();
    // Its window is used up, and nothing is given back.
    let begun = async {
        let mut num_bytes = 0;
        loop {
            match stuck.data().await {
                Some(Ok(bytes)) => num_bytes += bytes.len(),
                Some(Err(error)) => return (num_bytes, error.reason()),
                None => panic!("all of it came"),
            }
        }
    };
    let (num_bytes, reason) = tokio::time::timeout(SOON, begun).await.expect("it is reset");
    assert_eq!((num_bytes, reason), (65_535, Some(h2::Reason::CANCEL)));
    let (other, _) = client.send_request(get("/"), true).unwrap();
    let mut body = other.await.unwrap().into_body();
    // The connection's own window was used up as well.
    stuck.flow_control().release_capacity(num_bytes).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "aa");
}

#[tokio::test]
async fn who_has_no_request_gives_way() {
    let (address, _server) = start(ConnectionLimits { max_connections: 3, ..ConnectionLimits::default() });
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\naa"), "{answer}");
    assert!(ends(&mut idle[0]).await, "the one that was idle for longest");
}

#[tokio::test]
async fn a_drain_waits_for_answers_and_cuts_what_does_not_end() {
    let (address, server) = start(ConnectionLimits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut all = vec![0; 1];
    stream.read_exact(&mut all).await.unwrap();
    let (_, read) = tokio::join!(server.drain(SOON), async {
        stream.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    assert!(read > LARGE);

    let (address, server) = start(ConnectionLimits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    tokio::time::timeout(SOON, server.drain(Duration::from_millis(100))).await.expect("it is cut");
}
