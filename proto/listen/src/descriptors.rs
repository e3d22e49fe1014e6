//! The file descriptors of this process, the last of which may be left to others than the clients' connections.

use std::os::fd::{AsRawFd as _, RawFd};

use tokio_util::either::Either;

use crate::connection::Socket;

/// Most descriptors that are left to others.
const MAX_RESERVED: u64 = 256;

/// How many files and sockets this process may have open.
pub(crate) struct Descriptors {
    /// The first of the numbers that are left to others.
    reserved_from: u64,
}

impl Descriptors {
    /// As the limit of the process is now.
    pub(crate) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.unwrap_or(u64::MAX);
        Self { reserved_from: limit - (limit / 4).min(MAX_RESERVED) }
    }

    /// Whether so many are open that this connection got one of the last. The system gives the lowest number that is free.
    pub(crate) fn are_short(&self, socket: &Socket) -> bool {
        u64::try_from(number_of(socket)).is_ok_and(|number| number >= self.reserved_from)
    }
}

fn number_of(socket: &Socket) -> RawFd {
    match socket {
        Either::Left(tcp) => tcp.as_raw_fd(),
        Either::Right(unix) => unix.as_raw_fd(),
    }
}

/// The same socket under the lowest number that is free.
pub(crate) fn renumbered(socket: Socket) -> std::io::Result<Socket> {
    Ok(match socket {
        Either::Left(tcp) => Either::Left(tokio::net::TcpStream::from_std(tcp.into_std()?.try_clone()?)?),
        Either::Right(unix) => {
            Either::Right(tokio::net::UnixStream::from_std(unix.into_std()?.try_clone()?)?)
        }
    })
}
