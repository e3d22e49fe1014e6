//! The Model Context Protocol at the ingress: its official client in Python, and what that never sends.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, UpOptions, root};
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::clients::{MODELS, python_with};

/// Answers after a minute: nobody waits for that.
const SLOW: &str = r#"
name  = "slow"
route = "/slow"
mcp   = true
[request]
text = "text"
[deployments.echo]
engine = "echo"
delay  = "60s"
[stages.same]
use = "echo"
inputs = { text = "request.text" }
[response]
text = "same.text"
"#;

/// A cluster with tools, and a key of it.
fn cluster() -> Result<(Cluster, String)> {
    let cluster = Cluster::up(&UpOptions::new().args(&[
        "--empty",
        "--require-api-key",
        "--mcp-origin",
        "https://agent.example",
    ]))?;
    let tools = MODELS
        .replace("route = \"/ai\"", "route = \"/ai\"\nmcp = true\ndescription = \"Continues a text.\"")
        .replace("@production\"", "@production\"\nmcp = true");
    cluster.deploy(&tools, &[])?;
    cluster.deploy(SLOW, &[])?;
    let made = cluster.command(&["key", "create", "agent"]);
    ensure!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout)?.trim().to_owned();
    Ok((cluster, key))
}

fn post(cluster: &Cluster, key: &str) -> RequestBuilder {
    let request = cluster.http().post(cluster.url("/mcp")).bearer_auth(key);
    request.header("content-type", "application/json").timeout(Duration::from_secs(60))
}

#[test]
fn the_official_client_works_unchanged() -> Result<()> {
    let Some(python) = python_with(&["mcp"])? else { return Ok(()) };
    let (cluster, key) = cluster()?;
    let script = root().join("tests/clients/mcp_client.py");
    let run = Command::new(&python).arg(script).arg(cluster.url("")).arg(&key).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&[run.stdout, run.stderr].concat()));
    // It has left in the middle of a call, which would have taken a minute.
    millstream_tests::eventually("the call that was left has ended", || {
        (cluster.deployment("slow/echo")["ongoing"] == 0).then_some(())
    });
    Ok(())
}

#[test]
fn tools_are_for_known_visitors_and_called_by_post() -> Result<()> {
    let (cluster, key) = cluster()?;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let told = |answer: Response| -> Result<(u16, Value)> { Ok((answer.status().as_u16(), answer.json()?)) };
    let bare = || cluster.http().post(cluster.url("/mcp")).json(&list);
    let answer = bare().send()?;
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let (status, body) = told(answer)?;
    assert_eq!((status, &body["error"]["code"], &body["id"]), (401, &json!(-32000), &Value::Null), "{body}");
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:6274", 200),
        ("https://agent.example", 200),
    ] {
        let (found, body) = told(bare().bearer_auth(&key).header("origin", origin).send()?)?;
        assert_eq!(found, status, "{origin}: {body}");
    }
    for method in [reqwest::Method::GET, reqwest::Method::DELETE, reqwest::Method::PUT] {
        let request = cluster.http().request(method.clone(), cluster.url("/mcp")).bearer_auth(&key);
        let answer = request.header("accept", "text/event-stream").send()?;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"POST".parse()?),
            "{method}"
        );
    }
    let plain = cluster.http().post(cluster.url("/mcp")).bearer_auth(&key).body(list.to_string()).send()?;
    assert_eq!(plain.status(), 415);

    // A pipeline may have the path itself.
    let own = SLOW.replace("\"slow\"", "\"own\"").replace("/slow", "/mcp").replace("60s", "1ms");
    cluster.deploy(&own, &[])?;
    let (status, body) = told(post(&cluster, &key).body(json!({"text": "x"}).to_string()).send()?)?;
    assert_eq!((status, body), (200, json!({"text": "x"})));
    Ok(())
}

#[test]
fn a_key_has_the_tools_that_it_may_call() -> Result<()> {
    let (cluster, all) = cluster()?;
    let made = cluster.command(&["key", "create", "some", "--models", "ai/embedder"]);
    ensure!(made.status.success(), "{made:?}");
    let some = String::from_utf8(made.stdout)?.trim().to_owned();
    let ask = |key: &str, method: &str, params: Value| -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Ok(post(&cluster, key).body(body.to_string()).send()?.json()?)
    };
    let tools = |key: &str| -> Result<Vec<Value>> {
        let answer = ask(key, "tools/list", json!({}))?;
        Ok(answer["result"]["tools"].as_array().cloned().unwrap_or_default())
    };
    let mine = millstream_tests::eventually("the ingress knows the key", || {
        tools(&some).ok().filter(|tools| !tools.is_empty())
    });
    assert_eq!(mine.len(), 1, "{mine:?}");
    let name = &mine[0]["name"];
    let good = ask(&some, "tools/call", json!({"name": name, "arguments": {"texts": ["a"]}}))?;
    assert_eq!(good["result"]["isError"], json!(false), "{good}");
    let others = tools(&all)?;
    assert!(others.len() > 2, "{others:?}");
    for other in others.iter().map(|tool| &tool["name"]).filter(|other| *other != name) {
        let refused = ask(&some, "tools/call", json!({"name": other, "arguments": {"text": "x"}}))?;
        let message = refused["error"]["message"].as_str().context("an error")?;
        assert!(message.contains("there is no tool"), "{refused}");
    }
    Ok(())
}

#[test]
fn a_call_keeps_its_deadline_and_is_counted_as_it_ended() -> Result<()> {
    let (cluster, key) = cluster()?;
    let call = json!({
        "jsonrpc": "2.0", "id": "late", "method": "tools/call",
        "params": {"name": "slow", "arguments": {"text": "x"}},
    });
    let answer = post(&cluster, &key).header("x-request-timeout", "200ms").body(call.to_string()).send()?;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-request-id"));
    let body: Value = answer.json()?;
    assert_eq!((&body["id"], &body["result"]["isError"]), (&json!("late"), &json!(true)), "{body}");
    assert!(body["result"]["content"][0]["text"].as_str().context("a text")?.contains("deadline"), "{body}");
    let failed = [("pipeline", "slow"), ("class", "5xx")];
    assert_eq!(cluster.metrics()?.sum("millstream_requests_total", &failed), 1.0);
    Ok(())
}

#[test]
fn hostile_messages_are_answered_and_cost_little() -> Result<()> {
    let (cluster, key) = cluster()?;
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"ai","arguments":{arguments}}}}}"#
        )
    };
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let deep = format!("{{\"prompt\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let wide = format!("{{{}\"prompt\":\"x\"}}", "\"a\":1,".repeat(300_000));
    let bomb = format!("[{}{ping}]", format!("{ping},").repeat(90_000));
    let token = format!(r#"{{"prompt":"x"}},"_meta":{{"progressToken":"{}"}}"#, "t".repeat(1_000_000));
    let table: Vec<(Vec<u8>, u16, i64)> = vec![
        (b"[".repeat(4_000_000), 400, -32700),
        (format!("{ping}{ping}").into(), 400, -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), 400, -32700),
        (bomb.into(), 400, -32600),
        (ping.replace("1,", &format!("\"{}\",", "i".repeat(1_000_000))).into(), 400, -32600),
        (ping.replace("1,", "1e400,").into(), 400, -32600),
        (call(&token).into(), 200, -32602),
        // What is wrong with arguments is told to the model.
        (call(&deep).into(), 200, 0),
        (call(&wide).into(), 200, 0),
        (call("{\"prompt\":\"\\ud800\"}").into(), 200, 0),
    ];
    let send = |body: &[u8]| -> Result<(u16, Value)> {
        let answer = post(&cluster, &key).body(body.to_vec()).send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    for round in 0..3 {
        for (body, status, code) in &table {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let (found, answer) = send(body).with_context(|| shown.clone())?;
            let text = answer.to_string();
            assert!(text.len() < 20_000, "{shown}: {} bytes", text.len());
            assert_eq!(found, *status, "{round} {shown}: {text}");
            match code {
                0 => assert_eq!(answer["result"]["isError"], true, "{shown}: {text}"),
                code => assert_eq!(answer["error"]["code"], *code, "{shown}: {text}"),
            }
        }
    }
    let (status, answer) = send(&vec![b' '; 5 << 20])?;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!(-32000)), "{answer}");
    assert_eq!(send(ping.as_bytes())?.1["result"], json!({}));
    Ok(())
}
