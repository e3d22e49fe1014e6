//! Files, tokens and addresses that are refused: what is stored all the same, what goes on, what the command says.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use millstream_test_support::LIMIT;
use millstream_tests::{Cluster, Echo, UpOptions, run_cluster};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn names(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status();
    let pipelines = status["pipelines"].as_array().into_iter().flatten();
    pipelines.filter_map(|pipeline| pipeline["name"].as_str().map(str::to_owned)).collect()
}

fn write(cluster: &Cluster, echo: &Echo, name: &str) -> Result<String> {
    let path = cluster.folder().join(name);
    fs::write(&path, echo.to_string())?;
    Ok(path.display().to_string())
}

#[test]
fn up_stays_up_when_its_file_is_refused() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("first"))?;
    let second = Echo::new("second").route("/first");
    cluster.restart_leader(UpOptions::new().pipeline(&second))?;
    cluster.wait_ready();
    assert_eq!(cluster.post("/first", &json!({"text": "x"}))?.0, 200, "what was there serves on");
    let log = cluster.leader.log();
    assert!(log.contains("route `/first` is taken by pipeline `first`"), "{log}");
    let output = fs::read_to_string(cluster.leader.data_dir().join("stdout.log"))?;
    assert!(output.contains("partly ready"), "{output}");
    assert_eq!(names(&cluster), ["first"]);
    Ok(())
}

#[test]
fn several_files_are_deployed_all_or_none() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("there"))?;
    let good = write(&cluster, &Echo::new("good"), "good.toml")?;
    let bad = write(&cluster, &Echo::new("bad").route("/there"), "bad.toml")?;
    let output = cluster.command(&["deploy", &good, &bad]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is taken by pipeline `there`"), "{}", text(&output.stderr));
    assert_eq!(names(&cluster), ["there"], "nothing is stored");

    // A file may call what one before it brings. A route is free once no revision can serve on it again.
    let moved = write(&cluster, &Echo::new("there").route("/elsewhere"), "there.toml")?;
    let user = write(&cluster, &Echo::new("user").uses("good/model"), "user.toml")?;
    let output = cluster.command(&["deploy", &good, &user, &moved, &bad]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("wait for that"), "{}", text(&output.stderr));
    assert_eq!(names(&cluster), ["there"], "nothing is stored");
    let output = cluster.command(&["deploy", &good, &user, &moved]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(names(&cluster), ["good", "there", "user"]);
    Ok(())
}

#[test]
fn of_two_files_that_exclude_each_other_none_is_stored() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("there"))?;
    let one = write(&cluster, &Echo::new("one").route("/same"), "one.toml")?;
    let two = write(&cluster, &Echo::new("two").route("/same"), "two.toml")?;
    let output = cluster.command(&["deploy", &one, &two]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("is taken by pipeline `one`"), "{stderr}");
    assert_eq!(names(&cluster), ["there"], "nothing is stored");
    Ok(())
}

#[test]
fn the_token_file_is_the_heads_token_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (token, other) = (folder.path().join("token"), folder.path().join("other"));
    fs::write(&token, "of-a-file\n")?;
    fs::write(&other, "of-another-file\n")?;
    let path = |path: &PathBuf| path.display().to_string();
    let options = UpOptions::new().args(&["--token-file", &path(&token)]).pipeline(&Echo::new("p"));
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    assert!(cluster.command(&["status", "--token-file", &path(&token)]).status.success());
    assert_eq!(cluster.command(&["status", "--token-file", &path(&other)]).status.code(), Some(5));
    assert!(!cluster.leader.data_dir().join("admin.token").exists(), "one source is enough");
    Ok(())
}

#[test]
fn a_token_file_that_is_missing_or_empty_starts_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data_dir, token) = (folder.path().join("data"), folder.path().join("token"));
    let [data_dir, token] = [&data_dir, &token].map(|path| path.display().to_string());
    let line = ["up", "--data-dir", &data_dir, "--control", "127.0.0.1:0", "--token-file", &token];
    let output = run_cluster(&line);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&token), "{}", text(&output.stderr));
    fs::write(&token, "\n")?;
    let output = run_cluster(&line);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is empty"), "{}", text(&output.stderr));
    Ok(())
}

#[test]
fn a_cluster_that_refuses_the_token_does_not_fail_an_offline_check() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("there"))?;
    let file = write(&cluster, &Echo::new("user").uses("there/model"), "user.toml")?;
    let checked = |output: &std::process::Output| -> Result<Value> {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        Ok(serde_json::from_slice::<Value>(&output.stdout)?["checked_against_cluster"].clone())
    };
    let output = cluster.command(&["validate", "--json", &file]);
    assert_eq!(checked(&output)?, true);
    let wrong = cluster.folder().join("wrong");
    fs::write(&wrong, "wrong")?;
    let output =
        cluster.command(&["validate", "--json", &file, "--token-file", &wrong.display().to_string()]);
    assert_eq!(checked(&output)?, false);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("not checked") && stderr.contains("does not accept this admin token"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn the_token_does_not_go_to_another_machine_unless_asked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("p.toml");
    fs::write(&file, Echo::new("p").to_string())?;
    let (file, data_dir) = (file.display().to_string(), folder.path().display().to_string());
    let lines: [&[&str]; 3] = [
        &["status", "--cluster", "192.0.2.1:7400"],
        &["deploy", &file, "--cluster", "head.example:7400"],
        // A process that joins without files sends no token.
        &["up", &file, "--join", "192.0.2.1:7400", "--data-dir", &data_dir],
    ];
    for line in lines {
        let output = run_cluster(line);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {stderr}");
        assert!(stderr.contains("in clear text") && stderr.contains("--insecure"), "{stderr}");
    }
    Ok(())
}

/// With 256 descriptors for everything, a thousand connections that say nothing keep nobody out.
#[test]
fn idle_connections_give_way_when_descriptors_run_short() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&Echo::new("p")).max_descriptors(256))?;
    cluster.wait_ready();
    let ingress = cluster.leader.endpoints()["ingress"].as_str().unwrap_or_default().to_owned();
    let connect = |_| std::net::TcpStream::connect(&ingress);
    let idle = (0..1000).map(connect).collect::<std::io::Result<Vec<_>>>()?;
    for _ in 0..20 {
        assert_eq!(cluster.http().get(cluster.url("/-/healthz")).send()?.status(), 200);
        assert_eq!(cluster.post("/p", &json!({"text": "x"}))?.0, 200);
    }
    let status = cluster.command(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status.stderr));
    let second = write(&cluster, &Echo::new("second"), "second.toml")?;
    let deployed = cluster.command(&["deploy", &second]);
    assert_eq!(deployed.status.code(), Some(0), "{}", text(&deployed.stderr));
    drop(idle);
    Ok(())
}

/// The same at every address at once; and whoever says nothing is hung up on, wherever it is.
#[test]
fn every_address_answers_beside_those_who_say_nothing() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&Echo::new("p")).max_descriptors(256))?;
    cluster.wait_ready();
    let endpoints = cluster.leader.endpoints();
    let addresses = endpoints.as_object().into_iter().flatten().filter_map(|(_, address)| address.as_str());
    let addresses: Vec<SocketAddr> = addresses.filter_map(|address| address.parse().ok()).collect();
    assert_eq!(addresses.len(), 5, "{endpoints}");
    let mut silent = Vec::new();
    for address in &addresses {
        let connect = |_| std::net::TcpStream::connect(address);
        silent.push((0..200).map(connect).collect::<std::io::Result<Vec<_>>>()?);
    }
    assert_eq!(cluster.http().get(cluster.url("/-/healthz")).send()?.status(), 200);
    assert_eq!(cluster.post("/p", &json!({"text": "x"}))?.0, 200);
    cluster.metrics()?;
    cluster.rest("/api/status")?;
    let second = write(&cluster, &Echo::new("second"), "second.toml")?;
    for command in [&["status"][..], &["deploy", &second]] {
        let done = cluster.command(command);
        assert_eq!(done.status.code(), Some(0), "{command:?}: {}", text(&done.stderr));
    }
    for (address, silent) in addresses.iter().zip(&mut silent) {
        for stream in silent {
            stream.set_read_timeout(Some(LIMIT))?;
            let said = stream.read(&mut [0]);
            let is_open = said.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!is_open, "{address} still waits for a first byte");
        }
    }
    Ok(())
}
