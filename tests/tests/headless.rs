//! A head that is away for any length: processes that are killed meanwhile start, serve and heal without one.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, Node, UpOptions, eventually};
use serde_json::{Value, json};

/// A crash on demand, told to the client as it is.
fn pipeline() -> Echo {
    Echo::new("p").deployment("crash_on = \"boom\"\nidempotent = false")
}

/// A process with a worker and an ingress.
struct Joined {
    node: Node,
    options: UpOptions,
    ingress: String,
    http: reqwest::blocking::Client,
}

impl Joined {
    /// Joins the cluster under that name.
    fn to(cluster: &Cluster, name: &str, roles: &str) -> Result<Self> {
        let control = cluster.control();
        let options = UpOptions::new().args(&["--join", control, "--node-name", name, "--roles", roles]);
        let mut node = Node::start(&cluster.folder().join(name), &options)?;
        let ingress = address_of(&mut node);
        Ok(Self { node, options, ingress, http: cluster.http().clone() })
    }

    fn post(&self, text: &str) -> Result<(u16, Value)> {
        let url = format!("http://{}/p", self.ingress);
        let answer = self.http.post(url).json(&json!({"text": text})).send()?;
        Ok((answer.status().as_u16(), answer.json().unwrap_or_default()))
    }

    fn get(&self, path: &str) -> Result<(u16, Value)> {
        let answer = self.http.get(format!("http://{}{path}", self.ingress)).send()?;
        Ok((answer.status().as_u16(), answer.json().unwrap_or_default()))
    }

    fn until_it_answers(&self) {
        eventually("it answers the pipeline", || {
            self.post("x").ok().filter(|(status, _)| *status == 200).map(drop)
        });
    }

    /// Waits until what it was told last is on its disk: the orders with this replica, the routes to it.
    fn until_kept(&self, file: &str, replica: &str) {
        let path = self.node.data_dir().join(file);
        eventually(&format!("{file} has the replica"), || {
            String::from_utf8_lossy(&fs::read(&path).ok()?).contains(replica).then_some(())
        });
    }

    /// `kill -9`, and the same command again.
    fn restart(&mut self) -> Result<()> {
        self.node.kill();
        self.node = Node::start(self.node.data_dir(), &self.options)?;
        self.ingress = address_of(&mut self.node);
        Ok(())
    }
}

/// Where it takes requests now; nowhere without an ingress.
fn address_of(node: &mut Node) -> String {
    node.endpoints()["ingress"].as_str().unwrap_or_default().to_owned()
}

/// The only replica, once it is ready.
fn replica(cluster: &Cluster) -> Value {
    eventually("the replica is ready", || {
        let replicas = cluster.deployment("p/model")["replicas"].clone();
        (replicas.as_array()?.len() == 1 && replicas[0]["state"] == "ready").then(|| replicas[0].clone())
    })
}

/// The head is away and takes the token with it that it has left for processes of this machine, as after a reboot.
fn take_head_away(cluster: &mut Cluster) -> Result<()> {
    cluster.leader.kill();
    let left = cluster.folder().join("millstream");
    for entry in fs::read_dir(&left).with_context(|| left.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "token") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[test]
fn a_process_that_is_killed_while_the_head_is_away_serves_and_heals_again() -> Result<()> {
    let head = UpOptions::new().args(&["--roles", "head,ingress"]);
    let mut cluster = Cluster::up(&head.clone().pipeline(&pipeline()))?;
    let mut joined = Joined::to(&cluster, "only", "worker,ingress")?;
    let before = replica(&cluster);
    let epoch = cluster.status()["epoch"].as_u64();
    let id = before["id"].as_str().context("replicas have ids")?;
    joined.until_it_answers();
    joined.until_kept("orders.kept", id);
    joined.until_kept("routes.kept", id);

    take_head_away(&mut cluster)?;
    joined.restart()?;
    joined.until_it_answers();
    assert_eq!(joined.get("/-/readyz")?.0, 200);
    let routes = joined.get("/-/routes")?.1;
    assert!(routes["kept_s"].is_u64(), "{routes}");

    // It heals by itself, as with a head.
    assert_eq!(joined.post("boom")?.0, 503);
    joined.until_it_answers();
    // What heals is kept as well.
    joined.restart()?;
    joined.until_it_answers();
    let pid = joined.node.pid_number();

    cluster.restart_leader(head)?;
    let after = replica(&cluster);
    assert_eq!((&after["id"], &after["pid"]), (&before["id"], &json!(pid)), "it is adopted");
    assert_eq!(after["restarts"], 0, "nothing is started again: {after}");
    assert!(cluster.status()["epoch"].as_u64() > epoch);
    eventually("the routes are the head's again", || {
        joined.get("/-/routes").ok()?.1.get("kept_s").is_none().then_some(())
    });
    assert_eq!(joined.post("x")?.0, 200);
    Ok(())
}

#[test]
fn an_ingress_and_a_worker_of_two_processes_find_one_another_without_a_head() -> Result<()> {
    let head = UpOptions::new().args(&["--roles", "head,ingress"]);
    let mut cluster = Cluster::up(&head.pipeline(&pipeline()))?;
    // The worker listens on another port after each start: this machine's ingress finds it by its socket.
    let mut worker = Joined::to(&cluster, "worker", "worker")?;
    let mut ingress = Joined::to(&cluster, "ingress", "ingress")?;
    let id = replica(&cluster)["id"].as_str().context("replicas have ids")?.to_owned();
    ingress.until_it_answers();
    worker.until_kept("orders.kept", &id);
    ingress.until_kept("routes.kept", &id);
    take_head_away(&mut cluster)?;
    worker.restart()?;
    ingress.until_it_answers();
    ingress.restart()?;
    ingress.until_it_answers();
    worker.restart()?;
    ingress.until_it_answers();
    Ok(())
}

#[test]
fn files_that_are_damaged_or_of_others_are_ignored_and_the_process_starts() -> Result<()> {
    let head = UpOptions::new().args(&["--roles", "head,ingress"]);
    let mut cluster = Cluster::up(&head.clone().pipeline(&pipeline()))?;
    let mut joined = Joined::to(&cluster, "only", "worker,ingress")?;
    let id = replica(&cluster)["id"].as_str().context("replicas have ids")?.to_owned();
    joined.until_it_answers();
    joined.until_kept("orders.kept", &id);
    joined.until_kept("routes.kept", &id);
    take_head_away(&mut cluster)?;
    let data_dir = joined.node.data_dir().to_owned();
    for file in ["orders.kept", "routes.kept"] {
        let bytes = fs::read(data_dir.join(file))?;
        fs::write(data_dir.join(file), &bytes[..bytes.len() / 2])?;
    }
    joined.restart()?;
    eventually("it says what it does not use", || {
        let log = joined.node.log();
        ["orders.kept", "routes.kept"].iter().all(|file| log.contains(file)).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(joined.get("/-/readyz")?.0, 503);
    cluster.restart_leader(head)?;
    joined.until_it_answers();
    Ok(())
}
