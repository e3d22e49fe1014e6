//! Processes that join a cluster: with which token, to which heads, and what crosses the network meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;
use millstream_proto::v1;
use millstream_proto::v1::control_service_client::ControlServiceClient;
use millstream_tests::{Cluster, Echo, Node, UpOptions, eventually};
use tonic::Request;

fn node_names(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status();
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().filter_map(|node| node["name"].as_str().map(ToOwned::to_owned)).collect()
}

/// A worker of another user: nothing is left for it in a folder that it can read.
fn join_as_another_user(folder: &std::path::Path, heads: &str, args: &[&str]) -> Result<Node> {
    let options = UpOptions::new().args(&["--join", heads, "--node-name", "guest"]).args(args);
    Node::start(&folder.join("elsewhere/guest"), &options)
}

#[test]
fn another_user_joins_with_the_token_file_and_with_no_other() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let folder = tempfile::tempdir()?;
    let wrong = folder.path().join("wrong.token");
    fs::write(&wrong, "not-the-token")?;
    let wrong = wrong.display().to_string();
    let guest = join_as_another_user(folder.path(), cluster.control(), &["--token-file", &wrong])?;
    eventually("the worker says that its token is wrong", || {
        guest.log().contains("the join token here is not the one of the cluster there").then_some(())
    });
    assert_eq!(node_names(&cluster).len(), 1);
    drop(guest);

    let silent = join_as_another_user(folder.path(), cluster.control(), &[])?;
    eventually("it says what it waits for", || silent.log().contains("--token-file").then_some(()));
    assert_eq!(node_names(&cluster).len(), 1);
    drop(silent);

    let right = cluster.leader.data_dir().join("join.token").display().to_string();
    let _guest = join_as_another_user(folder.path(), cluster.control(), &["--token-file", &right])?;
    eventually("the worker is a node", || node_names(&cluster).contains(&"guest".to_owned()).then_some(()));
    Ok(())
}

#[test]
fn an_admin_token_is_no_join_token() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let folder = tempfile::tempdir()?;
    let admin = cluster.leader.data_dir().join("admin.token").display().to_string();
    let guest = join_as_another_user(folder.path(), cluster.control(), &["--token-file", &admin])?;
    eventually("the worker says that its token is wrong", || {
        guest.log().contains("the join token here is not the one").then_some(())
    });
    Ok(())
}

#[test]
fn heads_that_are_not_there_are_passed_over() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("p"))?;
    let heads = format!("127.0.0.1:1,{}", cluster.control());
    let token = cluster.leader.data_dir().join("join.token").display().to_string();
    let folder = tempfile::tempdir()?;
    let roles = ["--token-file", &token, "--roles", "worker,ingress"];
    let mut guest = join_as_another_user(folder.path(), &heads, &roles)?;
    eventually("the worker is a node", || node_names(&cluster).contains(&"guest".to_owned()).then_some(()));
    let url = format!("http://{}/p", guest.endpoints()["ingress"].as_str().unwrap_or_default());
    eventually("its ingress has the routes", || {
        let answer = cluster.http().post(&url).json(&serde_json::json!({"text": "x"})).send().ok()?;
        answer.status().is_success().then_some(())
    });
    let status = cluster.command(&["status", "--cluster", &heads]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    // What has joined is asked about by its own data directory too.
    let nobody = cluster.command(&["status", "--cluster", "127.0.0.1:1,127.0.0.1:2"]);
    assert_eq!(nobody.status.code(), Some(4));
    cluster.leader.kill();
    Ok(())
}

#[test]
fn a_node_of_one_cluster_is_kept_out_of_another() -> Result<()> {
    let one = Cluster::serving(&Echo::new("p"))?;
    let other = Cluster::serving(&Echo::new("p"))?;
    let token = |cluster: &Cluster| cluster.leader.data_dir().join("join.token").display().to_string();
    let folder = tempfile::tempdir()?;
    let guest = join_as_another_user(folder.path(), one.control(), &["--token-file", &token(&one)])?;
    let cluster_id = guest.data_dir().join("cluster_id");
    eventually("the worker knows where it belongs", || cluster_id.exists().then_some(()));
    drop(guest);
    let guest = join_as_another_user(folder.path(), other.control(), &["--token-file", &token(&other)])?;
    eventually("the worker says that it belongs elsewhere", || {
        guest.log().contains("belongs to another cluster").then_some(())
    });
    assert_eq!(node_names(&other).len(), 1);
    Ok(())
}

#[test]
fn a_cluster_whose_store_is_lost_begins_anew_with_its_own_worker() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("p"))?;
    cluster.leader.kill();
    fs::remove_file(cluster.leader.data_dir().join("head.redb"))?;
    cluster.restart_leader(UpOptions::new().pipeline(&Echo::new("q")))?;
    cluster.wait_ready();
    Ok(())
}

/// Passes connections on, and keeps all that was said on them.
struct Tap {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn before(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (target, ears) = (target.to_owned(), heard.clone());
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(callee) = TcpStream::connect(&target) else { return };
                let (Ok(to), Ok(from)) = (callee.try_clone(), caller.try_clone()) else { return };
                pass_on(caller, to, ears.clone());
                pass_on(callee, from, ears.clone());
            }
        });
        Ok(Self { address, heard })
    }

    fn heard(&self, token: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        let is_plain = heard.windows(token.len()).any(|window| window == token.as_bytes());
        let bits: String = heard.iter().map(|byte| format!("{byte:08b}")).collect();
        is_plain || bits.contains(&in_a_header(token))
    }
}

/// The bits of a token of hexadecimal digits in a header of HTTP/2, where the text is Huffman coded (RFC 7541, appendix B).
fn in_a_header(token: &str) -> String {
    let code = |digit: char| match digit {
        '0'..='2' => format!("{:05b}", digit as u32 - '0' as u32),
        '3'..='9' => format!("{:06b}", digit as u32 - '3' as u32 + 0b01_1001),
        'a' => "00011".to_owned(),
        'b' => "100011".to_owned(),
        'c' => "00100".to_owned(),
        'd' => "100100".to_owned(),
        'e' => "00101".to_owned(),
        'f' => "100101".to_owned(),
        other => panic!("`{other}` is not a digit of a token"),
    };
    token.chars().map(code).collect()
}

/// A call of a program that shows the admin token, as gRPC clients without a handshake do.
fn show(token: &str, address: &str) -> Result<()> {
    let mut request = Request::new(v1::StatusRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut client = ControlServiceClient::connect(format!("http://{address}")).await?;
        client.status(request).await?;
        Ok(())
    })
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            heard.lock().unwrap().extend(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn no_token_crosses_the_network() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let tap = Tap::before(cluster.control())?;
    let status = cluster.command(&["status", "--cluster", &tap.address]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let token = |name: &str| fs::read_to_string(cluster.leader.data_dir().join(name));
    let folder = tempfile::tempdir()?;
    let file = cluster.leader.data_dir().join("join.token").display().to_string();
    let _guest = join_as_another_user(folder.path(), &tap.address, &["--token-file", &file])?;
    eventually("the worker is a node", || node_names(&cluster).contains(&"guest".to_owned()).then_some(()));
    for name in ["admin.token", "join.token"] {
        assert!(!tap.heard(token(name)?.trim()), "{name}");
    }
    show(&token("admin.token")?, &tap.address)?;
    assert!(tap.heard(&token("admin.token")?), "it would have been heard");
    Ok(())
}
