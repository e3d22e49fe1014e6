//! Real processes of the `cluster` command.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::prometheus::Page;
use crate::{cluster_binary, eventually, pss_mib_of, run_cluster};

/// How a process is brought up.
#[derive(Clone)]
pub struct UpOptions {
    args: Vec<String>,
    files: Vec<PathBuf>,
    pipelines: Vec<String>,
    /// Where it takes requests: on this machine unless changed.
    pub ingress: String,
    control: String,
    max_descriptors: Option<u32>,
}

impl Default for UpOptions {
    fn default() -> Self {
        let free = "127.0.0.1:0".to_owned();
        Self {
            args: Vec::new(),
            files: Vec::new(),
            pipelines: Vec::new(),
            ingress: free.clone(),
            control: free,
            max_descriptors: None,
        }
    }
}

impl UpOptions {
    /// No flags beyond free ports and a data directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds flags.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Lets it open so many files and sockets at a time.
    #[must_use]
    pub fn max_descriptors(mut self, max: u32) -> Self {
        self.max_descriptors = Some(max);
        self
    }

    /// Adds a pipeline to deploy: the text of its file.
    #[must_use]
    pub fn pipeline(mut self, text: &(impl Display + ?Sized)) -> Self {
        self.pipelines.push(text.to_string());
        self
    }

    /// Adds a pipeline file to deploy.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }
}

/// The `cluster` command, under this limit of descriptors.
fn command(max_descriptors: Option<u32>) -> Command {
    let Some(max) = max_descriptors else { return Command::new(cluster_binary()) };
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &max.to_string()]).arg(cluster_binary());
    command
}

/// A process of `cluster up`; killed when dropped.
pub struct Node {
    child: Child,
    data_dir: PathBuf,
}

impl Node {
    /// Starts `cluster up` on free ports with this data directory.
    pub fn start(data_dir: &Path, options: &UpOptions) -> Result<Self> {
        let _ = fs::remove_file(data_dir.join("endpoints.json"));
        fs::create_dir_all(data_dir)?;
        let mut files = options.files.clone();
        for (index, text) in options.pipelines.iter().enumerate() {
            let path = data_dir.join(format!("pipeline-{index}.toml"));
            fs::write(&path, text)?;
            files.push(path);
        }
        let log = fs::File::options().create(true).append(true).open(data_dir.join("stderr.log"))?;
        let out = fs::File::options().create(true).append(true).open(data_dir.join("stdout.log"))?;
        let child = command(options.max_descriptors)
            .arg("up")
            .arg("--data-dir")
            .arg(data_dir)
            .args([
                "--ingress",
                &options.ingress,
                "--control",
                &options.control,
                "--dashboard",
                "127.0.0.1:0",
            ])
            .args(if options.args.iter().any(|arg| arg == "--log") { &[][..] } else { &["--log", "info"] })
            .args(&options.args)
            .args(&files)
            // Where a head leaves its join token: processes of one test share a folder, and tests share none.
            .env("XDG_RUNTIME_DIR", data_dir.parent().unwrap_or(data_dir))
            .env("TMPDIR", data_dir.parent().unwrap_or(data_dir))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .context("starting `cluster up`")?;
        Ok(Self { child, data_dir: data_dir.to_owned() })
    }

    /// Where it listens, as `endpoints.json` says; waits until the file is there.
    pub fn endpoints(&mut self) -> Value {
        let path = self.data_dir.join("endpoints.json");
        let data_dir = self.data_dir.clone();
        let child = &mut self.child;
        eventually("endpoints.json is written", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("`cluster up` ended with {status}:\n{}", log_of(&data_dir));
            }
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, once it has ended by itself.
    pub fn wait(&mut self) -> Option<i32> {
        let child = &mut self.child;
        eventually("the process has ended", || child.try_wait().unwrap()).code()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The same, as `/proc` has it.
    #[must_use]
    pub fn pid_number(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process (PSS): its own, and its part of what it shares.
    #[must_use]
    pub fn pss_mib(&self) -> f64 {
        pss_mib_of(self.child.id())
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What it wrote on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        log_of(&self.data_dir)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of {} ---\n{}", self.data_dir.display(), self.log());
        }
    }
}

fn log_of(data_dir: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(data_dir.join("stderr.log")) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

/// A cluster: the process that leads it, and any that joined.
pub struct Cluster {
    /// The process with the head.
    pub leader: Node,
    /// Processes that joined.
    pub joined: Vec<Node>,
    http: reqwest::blocking::Client,
    ingress: String,
    control: String,
    dashboard: String,
    folder: TempDir,
}

impl Cluster {
    /// Brings a cluster up and waits until it listens (not until pipelines are ready).
    pub fn up(options: &UpOptions) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut leader = Node::start(&folder.path().join("leader"), options)?;
        let endpoints = leader.endpoints();
        let text = |key: &str| endpoints[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            leader,
            joined: Vec::new(),
            http: reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build()?,
            ingress: text("ingress"),
            control: text("control"),
            dashboard: text("dashboard"),
            folder,
        })
    }

    /// Brings a cluster up with one pipeline and waits until it answers.
    pub fn serving(pipeline: &(impl Display + ?Sized)) -> Result<Self> {
        let mut cluster = Self::up(&UpOptions::new().pipeline(pipeline))?;
        cluster.wait_ready();
        Ok(cluster)
    }

    /// Waits until `cluster up` has said that it is ready.
    pub fn wait_ready(&mut self) {
        let path = self.leader.data_dir().join("stdout.log");
        eventually("`cluster up` says ready", || {
            fs::read_to_string(&path).unwrap_or_default().contains("ready").then_some(())
        });
    }

    /// Adds a worker on this machine, and waits until the head counts it among its ready nodes.
    pub fn join(&mut self, name: &str, args: &[&str]) -> Result<()> {
        let options =
            UpOptions::new().args(&["--join", &self.control.clone(), "--node-name", name]).args(args);
        self.joined.push(Node::start(&self.folder.path().join(name), &options)?);
        eventually("the joined worker is a ready node", || {
            let status = self.status();
            let nodes = status["nodes"].as_array()?;
            nodes.iter().any(|node| node["name"] == name && node["state"] == "ready").then_some(())
        });
        Ok(())
    }

    /// Ends the leading process with `kill -9` and starts it again with the same data directory and addresses.
    pub fn restart_leader(&mut self, mut options: UpOptions) -> Result<()> {
        self.leader.kill();
        let data_dir = self.leader.data_dir().to_owned();
        let _ = fs::remove_file(data_dir.join("stdout.log"));
        options.ingress.clone_from(&self.ingress);
        options.control.clone_from(&self.control);
        self.leader = Node::start(&data_dir, &options)?;
        // It listens on any free port again.
        self.dashboard = self.leader.endpoints()["dashboard"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Where it takes requests.
    pub fn ingress(&self) -> Result<SocketAddr> {
        self.ingress.parse().with_context(|| format!("`{}` is no address of an ingress", self.ingress))
    }

    /// Runs a command against this cluster.
    pub fn command(&self, args: &[&str]) -> Output {
        let mut line: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        line.extend([OsStr::new("--data-dir"), self.leader.data_dir().as_os_str()]);
        run_cluster(&line)
    }

    /// The status: the document of `cluster status --json`, asked for at the head's REST API. Null while the head is away.
    #[must_use]
    pub fn status(&self) -> Value {
        self.rest("/api/status").unwrap_or_default()
    }

    /// What the leading head's REST API answers with the admin token.
    pub fn rest(&self, path: &str) -> Result<Value> {
        let token = fs::read_to_string(self.leader.data_dir().join("admin.token"))?;
        let url = format!("http://{}{path}", self.dashboard);
        let answer = self.http.get(url).bearer_auth(token.trim()).send()?.error_for_status()?;
        Ok(answer.json()?)
    }

    /// HOST:PORT of the dashboard and the REST API.
    #[must_use]
    pub fn dashboard(&self) -> &str {
        &self.dashboard
    }

    /// A deployment of the status by its full name; null when there is none.
    #[must_use]
    pub fn deployment(&self, full_name: &str) -> Value {
        let status = self.status();
        let pipelines = status["pipelines"].as_array().into_iter().flatten();
        let deployments = pipelines.filter_map(|pipeline| pipeline["deployments"].as_array()).flatten();
        deployments.into_iter().find(|found| found["full_name"] == full_name).cloned().unwrap_or_default()
    }

    /// Runs `cluster deploy` to its end.
    pub fn try_deploy(&self, pipeline: &(impl Display + ?Sized), flags: &[&str]) -> Output {
        let file = self.folder.path().join("deployed.toml");
        fs::write(&file, pipeline.to_string()).unwrap();
        let file = file.display().to_string();
        self.command(&[&["deploy", &file][..], flags].concat())
    }

    /// Deploys a pipeline.
    pub fn deploy(&self, pipeline: &(impl Display + ?Sized), flags: &[&str]) -> Result<()> {
        let output = self.try_deploy(pipeline, flags);
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What the leading process tells at `/metrics`.
    pub fn metrics(&self) -> Result<Page> {
        Page::parse(&self.http.get(format!("http://{}/metrics", self.dashboard)).send()?.text()?)
    }

    /// The URL of a path on the ingress.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ingress)
    }

    /// A client for calls of the test's own.
    #[must_use]
    pub fn http(&self) -> &reqwest::blocking::Client {
        &self.http
    }

    /// Posts JSON; returns status and body.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.http.post(self.url(path)).json(body).send()?;
        let status = answer.status().as_u16();
        let text = answer.text()?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Posts a text with these headers.
    pub fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let mut request = self.http.post(self.url(path)).json(&json!({"text": "x"}));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send()?)
    }

    /// Sends JSON on a connection of its own and does not wait for the answer: dropping the connection is a client that
    /// leaves.
    pub fn send(&self, path: &str, body: &Value) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.ingress)?;
        let (host, body) = (&self.ingress, body.to_string());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json");
        stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        Ok(stream)
    }

    /// HOST:PORT of the head.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.control
    }

    /// A folder of this cluster's own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
