//! TLS at the ingress, with real processes and real clients: who gets an answer, what the others are told, a certificate that is
//! replaced under load, and the rule for addresses that other machines reach.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use millstream_proto::inference::ServerReadyRequest;
use millstream_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millstream_test_support::{Authority, CertificateDer, LIMIT, connect_tls, shown};
use millstream_tests::{Cluster, Echo, UpOptions, run_cluster};
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::Endpoint;

/// An authority, and a folder with a certificate of it.
struct Certificates {
    authority: Authority,
    folder: TempDir,
    certificate: String,
    key: String,
    /// The authority's certificate.
    ca: PathBuf,
}

impl Certificates {
    fn new() -> Result<Self> {
        let (authority, folder) = (Authority::new("test authority"), tempfile::tempdir()?);
        let (certificate, key) = authority.issue().write(folder.path())?;
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem())?;
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        Ok(Self { authority, folder, certificate, key, ca })
    }

    fn flags(&self) -> [&str; 4] {
        ["--tls-cert", &self.certificate, "--tls-key", &self.key]
    }

    /// A cluster that serves `/p` over TLS.
    fn serving(&self, more: &[&str]) -> Result<Cluster> {
        let options = UpOptions::new().pipeline(&Echo::new("p")).args(&self.flags()).args(more);
        let mut cluster = Cluster::up(&options)?;
        cluster.wait_ready();
        Ok(cluster)
    }

    /// What curl says of a call of `/p`, with these flags.
    fn curl(&self, address: SocketAddr, flags: &[&str]) -> Output {
        curl(&format!("https://localhost:{}/p", address.port()), &self.ca, flags)
    }
}

fn curl(url: &str, ca: &Path, flags: &[&str]) -> Output {
    Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_version} %{http_code}", "--cacert"])
        .arg(ca)
        .args(["-H", "content-type: application/json", "-d", "{\"text\": \"x\"}"])
        .args(flags)
        .arg(url)
        .output()
        .expect("curl is installed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn curl_is_answered_over_both_versions_of_http_and_what_shows_addresses_says_https() -> Result<()> {
    let certificates = Certificates::new()?;
    let cluster = certificates.serving(&[])?;
    let address = cluster.ingress()?;
    for (flags, version) in [
        (&["--http1.1"][..], "1.1"),
        (&["--http2"], "2"),
        (&["--tls-max", "1.2", "--http1.1"], "1.1"),
        (&["--tlsv1.3", "--http2"], "2"),
    ] {
        let output = certificates.curl(address, flags);
        assert_eq!(
            stdout(&output),
            format!("{{\"text\":\"x\"}}\n\n{version} 200"),
            "{flags:?} {}",
            stderr(&output)
        );
    }
    // Without the check of OpenSSL's own, which would not send such a hello.
    let old =
        certificates.curl(address, &["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert_eq!(old.status.code(), Some(35), "TLS 1.1 is not spoken: {}", stdout(&old));
    assert!(stderr(&old).contains("alert"), "the server says so: {}", stderr(&old));
    let other = certificates.folder.path().join("other.pem");
    fs::write(&other, Authority::new("other").pem())?;
    let refused = curl(&format!("https://localhost:{}/p", address.port()), &other, &[]);
    assert_eq!(refused.status.code(), Some(60), "{}", stdout(&refused));
    let clear = curl(&format!("http://localhost:{}/p", address.port()), &certificates.ca, &[]);
    assert_eq!(stdout(&clear), "this port speaks HTTPS; write https:// instead of http://\n\n1.1 400");

    let url = format!("https://{address}");
    assert_eq!(cluster.status()["ingresses"][0]["scheme"], "https");
    for (said, where_from) in [
        (cluster.leader.log(), "the banner"),
        (fs::read_to_string(cluster.leader.data_dir().join("stdout.log"))?, "the line to paste"),
        (stdout(&cluster.command(&["status"])), "status"),
        (stdout(&cluster.command(&["status", "p"])), "status of a pipeline"),
    ] {
        assert!(said.contains(&url) && !said.contains(&format!("http://{address}")), "{where_from}: {said}");
    }
    let endpoints = fs::read_to_string(cluster.leader.data_dir().join("endpoints.json"))?;
    assert!(endpoints.contains("\"ingress_scheme\": \"https\""), "{endpoints}");
    let replayed = cluster.command(&["replay", "--to", "p"]);
    assert!(!replayed.status.success(), "{}", stdout(&replayed));
    Ok(())
}

#[test]
fn grpc_is_spoken_over_tls() -> Result<()> {
    let certificates = Certificates::new()?;
    let cluster = certificates.serving(&[])?;
    let address = cluster.ingress()?;
    let config = certificates.authority.client(&["h2"]);
    let connector = tower::service_fn(move |_| {
        let config = config.clone();
        async move { connect_tls(tokio::net::TcpStream::connect(address).await?, config).await.map(TokioIo::new) }
    });
    tokio::runtime::Runtime::new()?.block_on(async {
        // TLS is the connector's: tonic would want its own for `https`.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await?;
        let ready = GrpcInferenceServiceClient::new(channel).server_ready(ServerReadyRequest {}).await?;
        ensure!(ready.into_inner().ready);
        Ok(())
    })
}

/// A connection with the certificate that the server has shown.
async fn connect(
    address: SocketAddr,
    authority: &Authority,
) -> Result<(SendRequest<Full<Bytes>>, CertificateDer<'static>)> {
    let stream =
        connect_tls(tokio::net::TcpStream::connect(address).await?, authority.client(&["http/1.1"])).await?;
    let certificate = shown(&stream).context("a certificate")?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok((sender, certificate))
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>) -> Result<()> {
    let body = Full::from(json!({"text": "x"}).to_string());
    let request =
        hyper::Request::post("/p").header("host", "localhost").header("content-type", "application/json");
    connection.ready().await?;
    let answer = connection.send_request(request.body(body)?).await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    ensure!(status == 200 && text == "{\"text\":\"x\"}\n", "{status}: {text:?}");
    Ok(())
}

#[test]
fn a_certificate_that_is_replaced_costs_no_call() -> Result<()> {
    let certificates = Arc::new(Certificates::new()?);
    let cluster = certificates.serving(&[])?;
    let address = cluster.ingress()?;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    tokio::runtime::Runtime::new()?.block_on(async {
        // Two callers keep their connections, two open one for each call.
        let callers = (0..4).map(|index| {
            let (certificates, stop, calls) = (certificates.clone(), stop.clone(), calls.clone());
            tokio::spawn(async move {
                let (mut connection, first) = connect(address, &certificates.authority).await?;
                while !stop.load(Ordering::Relaxed) {
                    if index % 2 == 0 {
                        connection = connect(address, &certificates.authority).await?.0;
                    }
                    ask(&mut connection).await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(first)
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut shown = connect(address, &certificates.authority).await?.1;
        let write = |file: &str, text: &str| fs::write(certificates.folder.path().join(file), text);
        for round in 1..=2 {
            // Somebody's mistake changes nothing.
            write("cert.pem", "-----BEGIN CERTIFICATE-----\nbroken\n")?;
            let told = || cluster.leader.log().matches("the certificate was not replaced").count();
            until(async || Ok(told() == round)).await?;
            ensure!(connect(address, &certificates.authority).await?.1 == shown);
            let next = certificates.authority.issue();
            next.write(certificates.folder.path())?;
            until(async || Ok(connect(address, &certificates.authority).await?.1 == next.der)).await?;
            shown = next.der;
        }
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            let first = caller.await??;
            ensure!(first != shown, "it began with the first certificate");
        }
        Ok(())
    })?;
    assert!(calls.load(Ordering::Relaxed) > 100, "{calls:?}");
    let log = cluster.leader.log();
    assert_eq!(log.matches("the certificate was not replaced").count(), 2, "{log}");
    assert_eq!(log.matches("certificate replaced for new connections").count(), 2, "{log}");
    Ok(())
}

/// Waits for that state.
async fn until(mut state: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waited = async {
        while !state().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, waited).await?
}

#[test]
fn a_client_that_stalls_in_its_handshake_is_closed_and_holds_nobody_up() -> Result<()> {
    let certificates = Certificates::new()?;
    let cluster = certificates.serving(&[])?;
    let address = cluster.ingress()?;
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // The head of a record, and nothing of what it announces.
        stream.write_all(&[22, 3, 1, 2, 0, 1])?;
        stalled.push(stream);
    }
    let output = certificates.curl(address, &["--max-time", "3"]);
    assert!(stdout(&output).contains(" 200"), "{}", stderr(&output));
    for mut stream in stalled {
        let ended = stream.read(&mut [0; 16]);
        assert!(
            matches!(ended, Ok(0))
                || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    Ok(())
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_at_the_start() -> Result<()> {
    let certificates = Certificates::new()?;
    let data_dir = certificates.folder.path().join("data").display().to_string();
    let other = certificates.authority.issue();
    let path = certificates.folder.path().join("other.pem");
    fs::write(&path, &other.key)?;
    let path = path.display().to_string();
    for (certificate, key, told) in [
        (
            &*certificates.certificate,
            &*path,
            format!("--tls-key `{path}` does not belong to the first certificate of --tls-cert"),
        ),
        (
            "/nothing.pem",
            &*certificates.key,
            "--tls-cert `/nothing.pem` cannot be read: No such file".to_owned(),
        ),
        (
            &*certificates.key,
            &*certificates.key,
            format!("--tls-cert `{}` has no certificate", certificates.key),
        ),
    ] {
        let line = ["up", "--data-dir", &data_dir, "--ingress", "0", "--control", "0", "--dashboard", "0"];
        let output = run_cluster(&[&line[..], &["--tls-cert", certificate, "--tls-key", key]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    }
    let expired = certificates.authority.issue_between(2020, 2021);
    expired.write(certificates.folder.path())?;
    let cluster = certificates.serving(&[])?;
    let log = cluster.leader.log();
    assert!(log.contains("has expired") && log.contains(&certificates.certificate), "{log}");
    Ok(())
}

#[test]
fn an_ingress_that_other_machines_reach_asks_for_keys_unless_told_not_to() -> Result<()> {
    let certificates = Certificates::new()?;
    let pipeline = Echo::new("p");
    for (more, status, risks) in
        [(&[][..], "401", json!([])), (&["--anonymous"], "200", json!(["anonymous"]))]
    {
        let mut options = UpOptions::new().pipeline(&pipeline).args(&certificates.flags()).args(more);
        "0.0.0.0:0".clone_into(&mut options.ingress);
        let mut cluster = Cluster::up(&options)?;
        cluster.wait_ready();
        let output = certificates.curl(cluster.ingress()?, &[]);
        assert!(stdout(&output).ends_with(&format!(" {status}")), "{more:?}: {}", stdout(&output));
        assert_eq!(cluster.status()["ingresses"][0]["accepted_risks"], risks);
        let (log, shown) = (cluster.leader.log(), stdout(&cluster.command(&["status"])));
        let is_accepted = risks != json!([]);
        assert_eq!(log.contains("accepted risk"), is_accepted, "{log}");
        assert_eq!(log.contains("other machines need no API key"), is_accepted, "{log}");
        assert_eq!(shown.contains("accepted risk: no API key is asked for"), is_accepted, "{shown}");
        if !is_accepted {
            let key = stdout(&cluster.command(&["key", "create", "alice"]));
            let header = format!("authorization: Bearer {}", key.trim());
            millstream_test_support::eventually("the ingress knows the key", || {
                let output = certificates.curl(cluster.ingress().unwrap(), &["-H", &header]);
                stdout(&output).ends_with(" 200").then_some(())
            });
        }
    }
    Ok(())
}
