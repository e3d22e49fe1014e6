//! Connections to other processes of the cluster, opened with a proof.

use std::error::Error as _;
use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::handshake::{self, Refusal};
use crate::secret::Secret;

/// Opens a connection to the endpoint's address; each time it breaks and is opened again, both ends prove anew that they
/// know the secret.
///
/// # Errors
/// When nobody listens there within the endpoint's limit, or the two do not belong together ([`refusal`] tells).
pub async fn connect(endpoint: &Endpoint, secret: &Secret) -> Result<Channel, tonic::transport::Error> {
    let secret = secret.clone();
    let connector = service_fn(move |uri: Uri| {
        let secret = secret.clone();
        async move { Ok::<_, handshake::Error>(TokioIo::new(open(&uri, &secret).await?)) }
    });
    endpoint.connect_with_connector(connector).await
}

async fn open(uri: &Uri, secret: &Secret) -> Result<TcpStream, handshake::Error> {
    let address = uri.host().zip(uri.port_u16());
    let (host, port) =
        address.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address is HOST:PORT"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    prove(TcpStream::connect((host, port)).await?, secret).await
}

async fn prove(mut stream: TcpStream, secret: &Secret) -> Result<TcpStream, handshake::Error> {
    stream.set_nodelay(true)?;
    handshake::call(&mut stream, secret).await?;
    Ok(stream)
}

/// Opens a connection to `HOST:PORT` for something else than gRPC; both ends have proved that they know the secret.
///
/// # Errors
/// When nobody listens there, or the two do not belong together.
pub async fn dial(address: &str, secret: &Secret) -> Result<TcpStream, handshake::Error> {
    prove(TcpStream::connect(address).await?, secret).await
}

/// Why two ends do not belong together, if that is what an error of [`connect`] says.
#[must_use]
pub fn refusal(error: &tonic::transport::Error) -> Option<Refusal> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(handshake::Error::Refused(refusal)) = error.downcast_ref() {
            return Some(*refusal);
        }
        source = error.source();
    }
    None
}

/// The error with its causes: tonic's own text is `transport error` alone. A cause that repeats the one before is left out.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words(error);
    let mut last = text.clone();
    let mut source = error.source();
    while let Some(cause) = source {
        let this = words(cause);
        if this != last {
            text.push_str(": ");
            text.push_str(&this);
        }
        last = this;
        source = cause.source();
    }
    text
}

/// An error without what it is made of: gRPC's show their parts as the program has them.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    }
}
