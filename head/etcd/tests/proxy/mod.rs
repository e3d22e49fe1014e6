//! A transport that breaks: connections to a server through this are cut after some answers, in turn before an answer has reached the
//! client, and before the next request has reached the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers that a connection carries before it is cut: enough to begin, and for some operations.
const FIRST_CUT: usize = 7;
/// The next connections carry up to so many more.
const SPREAD: usize = 11;

/// A piece of a large answer, which counts for nothing: it must come through some time.
const LARGE: usize = 4 << 10;

/// Where a connection is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// The server has done what it was asked.
    BeforeAnswer,
    /// It has heard nothing of it.
    BeforeRequest,
}

/// See the module.
pub(crate) struct Proxy {
    address: SocketAddr,
    num_cut: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of that server.
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, num_cut) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&num_cut);
        tokio::spawn(async move {
            for index in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let (server, count) = (server.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let cut = if index % 2 == 0 { Cut::BeforeAnswer } else { Cut::BeforeRequest };
                    if carry(client, server, FIRST_CUT + index * 5 % SPREAD, cut).await {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { address, num_cut }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were cut.
    pub(crate) fn num_cut(&self) -> usize {
        self.num_cut.load(Ordering::Relaxed)
    }
}

/// Carries so many answers; whether it has cut the connection then.
async fn carry(mut client: TcpStream, mut server: TcpStream, mut answers: usize, cut: Cut) -> bool {
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let carried = tokio::select! {
            read = client.read(&mut request) => match (read, cut) {
                (Ok(1..), Cut::BeforeRequest) if answers == 0 => return true,
                (Ok(count @ 1..), _) => server.write_all(&request[..count]).await,
                _ => return false,
            },
            read = server.read(&mut answer) => match (read, cut) {
                (Ok(1..), Cut::BeforeAnswer) if answers == 0 => return true,
                (Ok(count @ 1..), _) => {
                    answers -= usize::from(answers > 0 && count < LARGE);
                    client.write_all(&answer[..count]).await
                }
                _ => return false,
            },
        };
        if carried.is_err() {
            return false;
        }
    }
}
