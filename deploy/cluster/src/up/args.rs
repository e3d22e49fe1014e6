//! What `cluster up` may be told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::up::entrance::EntranceArgs;
use crate::up::store::StoreArgs;
use crate::up::traces::TraceArgs;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use millstream_connect::Heads;
use millstream_pipelines::parse_duration;

/// A part that a process may play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The control plane.
    Head,
    /// Runs replicas.
    Worker,
    /// Takes HTTP requests.
    Ingress,
}

/// Flags of `cluster up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Pipeline files to deploy.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Join the cluster whose heads have these control addresses. A head of the same user on this machine is joined
    /// without more; others need their `join.token` as --token-file.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) join: Option<Heads>,
    /// Parts to play [default: head,worker,ingress; with --join: worker].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Vec<Role>,
    /// Do not deploy the bundled example at the first start.
    #[arg(long, conflicts_with = "files")]
    pub(crate) empty: bool,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How long requests under way may take when the process stops.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) drain_timeout: Duration,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) entrance: EntranceArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
    #[command(flatten)]
    pub(crate) traces: TraceArgs,
}

/// How this process's ingress meets its callers.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// Origins such as `https://agent.example` whose pages may call the tools at /mcp of this process's ingress, beside pages of this
    /// machine and of the ingress's own address.
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',', value_parser = parse_origin)]
    pub(crate) mcp_origin: Vec<String>,
    /// Log each request of this process's ingress on stderr, whatever --log says; --log-format json makes a JSON object of each.
    /// Without it those that the server failed are logged.
    #[arg(long)]
    pub(crate) access_log: bool,
    /// Memory in which this process's ingress keeps responses of `/v1/responses`, for a day at most, each for the key that asked for
    /// it; without it none are kept, and each request says the whole conversation.
    #[arg(long, value_name = "SIZE")]
    pub(crate) response_store: Option<ByteSize>,
}

/// An address to listen on: HOST:PORT, where HOST may be a name of this machine, or a port alone, which means this machine and no
/// other: another interface is always written out.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let help = "write HOST:PORT, such as `127.0.0.1:9000`, or a port of this machine alone, such as `9000`";
    let resolved = text.to_socket_addrs().map_err(|error| format!("{error}; {help}"))?;
    // A name may have addresses of both kinds; servers of the same name are then looked for at the older kind first.
    let mut resolved: Vec<_> = resolved.collect();
    resolved.sort_by_key(SocketAddr::is_ipv6);
    resolved.first().copied().ok_or_else(|| format!("`{text}` has no address; {help}"))
}

/// Where the parts of a process listen.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// HTTP address for requests; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = listen_address)]
    pub(crate) ingress: SocketAddr,
    /// gRPC address of the head.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400", value_parser = listen_address)]
    pub(crate) control: SocketAddr,
    /// HTTP address of the dashboard and REST.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8265", value_parser = listen_address)]
    pub(crate) dashboard: SocketAddr,
    /// HTTP address of this process's /metrics; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = listen_address)]
    pub(crate) admin: SocketAddr,
    /// gRPC address for replica traffic.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = listen_address)]
    pub(crate) worker: SocketAddr,
}

/// What the node of a process is called and offers.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Name of this node, unique in the cluster [default: the host name; with --join the host name and the process id].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Labels that deployments can ask for.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Declare this many GPUs instead of asking the driver; 0 hides those there are.
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<u32>,
    /// Memory of each declared GPU.
    #[arg(long, value_name = "SIZE", default_value = "80GiB", requires = "gpus")]
    pub(crate) gpu_memory: ByteSize,
    /// Model name of the declared GPUs.
    #[arg(long, value_name = "NAME", default_value = "declared", requires = "gpus")]
    pub(crate) gpu_model: String,
    /// ONNX Runtime's library; without it the usual places are searched.
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

impl UpArgs {
    /// The parts to play.
    pub(crate) fn roles(&self) -> Vec<Role> {
        match (&self.roles[..], &self.join) {
            ([], None) => vec![Role::Head, Role::Worker, Role::Ingress],
            ([], Some(_)) => vec![Role::Worker],
            (roles, _) => roles.to_vec(),
        }
    }
}

impl NodeArgs {
    /// The labels as a map; the last of equal keys counts.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

/// As browsers send it: a scheme, a host and, where it is not the usual one, a port.
fn parse_origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '*', '@', ' '])) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not an origin; write it as https://HOST or https://HOST:PORT, without a path"
        ))
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label; write it as key=value")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn names_and_ports_alone_are_addresses_of_this_machine() {
        for (text, expected) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("[::1]:9000", "[::1]:9000"),
            ("0.0.0.0:9000", "0.0.0.0:9000"),
            ("9000", "127.0.0.1:9000"),
            (":9000", "127.0.0.1:9000"),
            ("localhost:9000", "127.0.0.1:9000"),
        ] {
            assert_eq!(
                listen_address(text).map(|address| address.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for text in ["", "70000", "127.0.0.1"] {
            assert!(listen_address(text).unwrap_err().contains("write HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn joining_means_worker_unless_said_otherwise() {
        let roles = |line: &[&str]| match Cli::try_parse_from(line).unwrap().command {
            Command::Up(args) => args.roles(),
            other => panic!("{other:?}"),
        };
        assert_eq!(roles(&["cluster", "up"]), [Role::Head, Role::Worker, Role::Ingress]);
        assert_eq!(roles(&["cluster", "up", "--join", "a:1"]), [Role::Worker]);
        assert_eq!(
            roles(&["cluster", "up", "--join", "a:1", "--roles", "ingress,worker"]),
            [Role::Ingress, Role::Worker]
        );
    }

    #[test]
    fn labels_need_a_key() {
        assert_eq!(parse_label("zone=a").unwrap(), ("zone".to_owned(), "a".to_owned()));
        assert!(parse_label("zone").is_err());
        assert!(parse_label("=a").is_err());
    }
}
