//! gRPC: one HTTP/2 stream for each call, messages of raw bytes.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{IntervalStream, TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::{Calls, Done, LARGE_BYTES, PARTS_PER_S, Socket};

const WINDOW_BYTES: u32 = 16 << 20;
const MAX_BYTES: usize = LARGE_BYTES + 1024;

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[derive(Debug, Clone)]
struct Service;

struct Echo;

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

struct Parts;

impl ServerStreamingService<Bytes> for Parts {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let tick = tokio::time::interval(Duration::from_secs(1) / PARTS_PER_S);
        let parts = IntervalStream::new(tick).map(|_| Ok(Bytes::from_static(b"word")));
        std::future::ready(Ok(Response::new(Box::pin(parts))))
    }
}

impl tonic::server::NamedService for Service {
    const NAME: &'static str = "bench.Calls";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(MAX_BYTES)
                .max_encoding_message_size(MAX_BYTES);
            Ok(match request.uri().path() {
                "/bench.Calls/Echo" => grpc.unary(Echo, request).await,
                _ => grpc.server_streaming(Parts, request).await,
            })
        })
    }
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .tcp_nodelay(true)
}

fn endpoint(uri: String) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(uri)?.tcp_nodelay(true);
    Ok(endpoint.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES))
}

pub(crate) struct Grpc(Channel);

pub(crate) fn connect(socket: Socket, folder: &Path, here: &Runtime, there: &Runtime) -> Result<Grpc> {
    match socket {
        Socket::Unix => {
            let path = folder.join("grpc.sock");
            let listener = {
                let _entered = there.enter();
                UnixListener::bind(&path)?
            };
            there.spawn(server().add_service(Service).serve_with_incoming(UnixListenerStream::new(listener)));
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { std::io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            let endpoint = endpoint("http://localhost".to_owned())?;
            Ok(Grpc(here.block_on(endpoint.connect_with_connector(connector))?))
        }
        Socket::Tcp => {
            let listener = there.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            there.spawn(server().add_service(Service).serve_with_incoming(TcpListenerStream::new(listener)));
            let endpoint = endpoint(format!("http://{address}"))?;
            Ok(Grpc(here.block_on(async move { endpoint.connect().await })?))
        }
    }
}

fn client(channel: &Channel) -> tonic::client::Grpc<Channel> {
    tonic::client::Grpc::new(channel.clone())
        .max_decoding_message_size(MAX_BYTES)
        .max_encoding_message_size(MAX_BYTES)
}

impl Calls for Grpc {
    fn echo(&self, payload: Bytes) -> Done {
        let mut client = client(&self.0);
        Box::pin(async move {
            client.ready().await?;
            let path = PathAndQuery::from_static("/bench.Calls/Echo");
            Ok(client.unary(Request::new(payload), path, Raw).await?.into_inner().len())
        })
    }

    fn stream(&self) -> Done {
        let mut client = client(&self.0);
        Box::pin(async move {
            client.ready().await?;
            let path = PathAndQuery::from_static("/bench.Calls/Parts");
            let mut parts =
                client.server_streaming(Request::new(Bytes::new()), path, Raw).await?.into_inner();
            while parts.message().await?.is_some() {}
            Ok(0)
        })
    }
}
