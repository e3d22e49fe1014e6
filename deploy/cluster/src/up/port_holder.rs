//! Who listens on a port of this machine, as far as this user may know: from the tables in `/proc`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The state of a socket that listens, as the tables have it.
const LISTEN: &str = "0A";
/// As much of a command line as is told.
const MAX_COMMAND_CHARS: usize = 80;

/// The process that listens there: its number and command line; `None` when it is another user's.
pub(super) fn holder_of(address: SocketAddr) -> Option<String> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let tables = [table, "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables.iter().find_map(|table| inode_of(table, address))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let holds = |process: &fs::DirEntry| {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files.flat_map(|file| fs::read_link(file.path())).any(|link| link == Path::new(&wanted))
    };
    let process = processes.into_iter().find(holds)?;
    let pid = process.file_name().to_string_lossy().into_owned();
    let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let command: String = command.chars().filter(|c| !c.is_control()).take(MAX_COMMAND_CHARS).collect();
    Some(format!("process {pid} (`{command}`)"))
}

/// The number of the socket that listens on the address, or on its port of all addresses.
fn inode_of(table: &str, address: SocketAddr) -> Option<&str> {
    let port = format!("{:04X}", address.port());
    let own = match address.ip() {
        // The four bytes stand in the machine's order.
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(_) => String::new(),
    };
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (ip, its_port) = local.split_once(':')?;
        let is_it = its_port == port && (ip == own || ip.bytes().all(|byte| byte == b'0') || own.is_empty());
        (is_it && state == LISTEN).then(|| fields.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder_of(listener.local_addr().unwrap()).unwrap();
        assert!(found.starts_with(&format!("process {} (`", std::process::id())), "{found}");
    }
}
