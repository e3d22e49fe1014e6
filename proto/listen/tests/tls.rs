//! TLS on real sockets: who is let in, what is told, and what a client that stalls costs others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream_listen::tls::{self, PemFile, PemFiles, ServerCertificate};
use millstream_listen::{ConnectionLimits, Server, bind};
use millstream_test_support::{Authority, connect_tls};
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Long enough for whatever is to happen.
const SOON: Duration = Duration::from_secs(10);
const LARGE: usize = 32 << 20;

/// A listener with a certificate of that authority, which answers `/large` with much and everything else with little.
struct Secured {
    address: SocketAddr,
    _server: Server,
    _folder: TempDir,
}

fn start(authority: &Authority, limits: ConnectionLimits) -> Secured {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.issue().write(folder.path()).unwrap();
    let file = |flag, path| PemFile { flag, path };
    let files = PemFiles { certificates: file("--tls-cert", certificate), key: file("--tls-key", key) };
    let certificate = Arc::new(ServerCertificate::load(files, tls::HTTP).unwrap());
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, limits, move |connection| {
        let certificate = certificate.clone();
        async move {
            let Some(connection) = tls::accept(connection, &certificate).await else { return };
            millstream_listen::http::serve(connection, |request| async move {
                let size = if request.uri().path() == "/large" { LARGE } else { 2 };
                Response::new(Full::new(Bytes::from(vec![b'a'; size])))
            })
            .await;
        }
    });
    Secured { address, _server: server, _folder: folder }
}

fn short() -> ConnectionLimits {
    let limit = Duration::from_millis(300);
    ConnectionLimits { handshake: limit, write: limit, ..ConnectionLimits::default() }
}

async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

/// The answer over HTTP/1.1, on a connection of its own.
async fn ask(secured: &Secured, authority: &Authority) -> Bytes {
    let stream = connect_tls(dial(secured.address).await, authority.client(&["http/1.1"])).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(get("/")).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn both_kinds_of_http_are_spoken_as_the_client_asks() {
    let authority = Authority::new("a");
    let secured = start(&authority, ConnectionLimits::default());
    assert_eq!(ask(&secured, &authority).await, "aa");
    let stream =
        connect_tls(dial(secured.address).await, authority.client(&["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(get("/large")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), LARGE);
    let other = connect_tls(dial(secured.address).await, authority.client(&["spdy/1"])).await;
    assert!(other.is_err(), "no protocol in common");
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new("a");
    let secured = start(&authority, ConnectionLimits::default());
    let config = authority.client(&["http/1.1"]);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_tls(dial(secured.address).await, config.clone()).await.unwrap();
        // The tickets come with the first answer at the latest.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn half_a_handshake_ends_after_its_limit_and_keeps_nobody_waiting() {
    let authority = Authority::new("a");
    let secured = start(&authority, short());
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut stream = dial(secured.address).await;
        // The head of a record that does not come.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(ask(&secured, &authority).await, "aa");
    for mut stream in stalled {
        let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 16])).await.expect("it is closed");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}

#[tokio::test]
async fn a_handshake_gives_way_where_places_are_taken() {
    let authority = Authority::new("a");
    let secured = start(&authority, ConnectionLimits { max_connections: 2, ..ConnectionLimits::default() });
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut stream = dial(secured.address).await;
        stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(tokio::time::timeout(SOON, ask(&secured, &authority)).await.unwrap(), "aa");
}

#[tokio::test]
async fn who_speaks_clear_text_is_told_what_the_port_speaks() {
    let authority = Authority::new("a");
    let secured = start(&authority, ConnectionLimits::default());
    let mut stream = dial(secured.address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks HTTPS"), "{answer}");
}

#[tokio::test]
async fn a_client_of_another_authority_refuses_and_the_listener_goes_on() {
    let authority = Authority::new("a");
    let secured = start(&authority, ConnectionLimits::default());
    let other = Authority::new("b").client(&["http/1.1"]);
    let refused = connect_tls(dial(secured.address).await, other).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert_eq!(ask(&secured, &authority).await, "aa");
}

#[tokio::test]
async fn who_does_not_take_an_answer_loses_its_connection_over_tls_too() {
    let authority = Authority::new("a");
    let secured = start(&authority, short());
    let mut stream = connect_tls(dial(secured.address).await, authority.client(&["http/1.1"])).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // A client that is slow for that long; nothing is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (mut num_bytes, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(read @ 1..) = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap() {
        num_bytes += read;
    }
    assert!(num_bytes < LARGE, "all of it came");
}

#[tokio::test]
async fn a_listener_can_ask_for_certificates_of_clients() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let (own, clients) = (authority.issue(), authority.issue());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone())
        .build()
        .unwrap();
    let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config =
        tls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.unwrap().with_client_cert_verifier(verifier);
    let config = Arc::new(config.with_single_cert(vec![own.der.clone()], key(&own.key)).unwrap());

    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut shown) = mpsc::unbounded_channel();
    let _server = Server::start(listener, ConnectionLimits::members(), move |connection| {
        let (config, seen) = (config.clone(), seen.clone());
        async move {
            assert!(connection.client_certificates().is_empty());
            let secured = connection.secure(config).await;
            let _ = seen.send(secured.map(|secured| secured.client_certificates().to_vec()));
        }
    });
    let mut connect = async |issued: &millstream_test_support::Issued| {
        let config = rustls::ClientConfig::builder_with_provider(provider.clone());
        let config =
            config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots.clone());
        let config = config.with_client_auth_cert(vec![issued.der.clone()], key(&issued.key)).unwrap();
        let _stream = connect_tls(dial(address).await, Arc::new(config)).await;
        shown.recv().await.unwrap()
    };
    assert_eq!(connect(&clients).await.unwrap(), std::slice::from_ref(&clients.der));
    assert!(connect(&other.issue()).await.is_err(), "a certificate of another authority");
}
