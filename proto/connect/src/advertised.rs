//! Where others reach a listener.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A listener's address as others reach it; one that listens on every address gives the one that this machine's packets to `peer`
/// (`HOST:PORT`) come from.
#[must_use]
pub fn advertised(listen: SocketAddr, peer: &str) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let source = || -> io::Result<IpAddr> {
        let any: IpAddr = if listen.is_ipv4() { [0, 0, 0, 0].into() } else { listen.ip() };
        let socket = UdpSocket::bind((any, 0))?;
        // Sends nothing: it only asks the system for the route.
        socket.connect(peer)?;
        Ok(socket.local_addr()?.ip())
    };
    SocketAddr::new(source().unwrap_or([127, 0, 0, 1].into()), listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_gives_one_that_can_be_dialled() {
        let given = "127.0.0.5:7000".parse().unwrap();
        assert_eq!(advertised(given, "127.0.0.1:7400"), given);
        let any = "0.0.0.0:7000".parse().unwrap();
        assert_eq!(advertised(any, "127.0.0.1:7400"), "127.0.0.1:7000".parse().unwrap());
    }
}
