//! Real etcd: a cluster of one or several members, each a process of its own, killed when dropped.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::wait::eventually;

/// Members of an etcd cluster.
pub struct Etcd {
    members: Vec<Member>,
    dir: TempDir,
}

struct Member {
    arguments: Vec<String>,
    client: String,
    child: Option<Child>,
}

impl Etcd {
    /// One member; returns once it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::of(1)
    }

    /// So many members; returns once they have a leader.
    #[must_use]
    pub fn of(count: usize) -> Self {
        Self::with(count, "http", &[])
    }

    /// One member that speaks TLS: `flags` say with which certificates.
    #[must_use]
    pub fn with_tls(flags: &[&str]) -> Self {
        Self::with(1, "https", flags)
    }

    fn with(count: usize, scheme: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder for etcd");
        let ports = free_ports(2 * count);
        let peer = |index: usize| format!("http://127.0.0.1:{}", ports[count + index]);
        let all: Vec<_> = (0..count).map(|index| format!("m{index}={}", peer(index))).collect();
        let members = (0..count).map(|index| {
            let client = format!("127.0.0.1:{}", ports[index]);
            let url = format!("{scheme}://{client}");
            let folder = dir.path().join(format!("m{index}")).display().to_string();
            let arguments = [
                ("--name", format!("m{index}")),
                ("--data-dir", folder),
                ("--listen-client-urls", url.clone()),
                ("--advertise-client-urls", url),
                ("--listen-peer-urls", peer(index)),
                ("--initial-advertise-peer-urls", peer(index)),
                ("--initial-cluster", all.join(",")),
            ];
            let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            let arguments = arguments.chain(flags.iter().map(ToString::to_string)).collect();
            Member { arguments, client, child: None }
        });
        let mut etcd = Self { members: members.collect(), dir };
        (0..count).for_each(|index| etcd.restart(index));
        (0..count).for_each(|index| etcd.wait_serves(index));
        etcd
    }

    /// HOST:PORT of each member, by commas.
    #[must_use]
    pub fn members(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| member.client.as_str()).collect();
        members.join(",")
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a member that was killed; its data is as it was.
    pub fn restart(&mut self, index: usize) {
        let log = File::options().create(true).append(true).open(self.log_of(index)).expect("a log for etcd");
        let member = &mut self.members[index];
        let child = Command::new("etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd is installed (Debian's package etcd-server)");
        member.child = Some(child);
    }

    fn log_of(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{index}.log"))
    }

    /// Waits until the member says that it serves, which it does once there is a leader.
    fn wait_serves(&mut self, index: usize) {
        let log = self.log_of(index);
        let child = &mut self.members[index].child;
        eventually("etcd serves", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().ok()?) {
                panic!("etcd ended with {status}:\n{text}");
            }
            text.contains("ready to serve client requests").then_some(())
        });
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}

/// Ports that nobody listened on just now.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}
