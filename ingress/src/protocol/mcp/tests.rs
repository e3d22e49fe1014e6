use std::collections::BTreeMap;

use http::{HeaderMap, Request};
use millstream_pipelines::Plan;
use millstream_proto::{ErrorClass, Value};
use serde_json::{Value as Json, json};

use super::*;
use crate::model::{Failure, StreamPart};
use crate::protocol::{Form, Spent, Target, Told};

const MODERN: &str = "2026-07-28";

const FILE: &str = r#"
name = "p"
route = "/p"
mcp = true
description = "Answers questions."
[request]
question = { type = "text", description = "What to ask." }
[deployments.writer]
task = "generate"
model = "m"
[deployments.embedder]
task = "embed"
model = "m"
mcp = true
[deployments.reranker]
task = "rerank"
model = "m"
mcp = true
description = "Sorts."
[stages.s]
use = "writer"
inputs = { prompt = "request.question" }
[response]
answer = "s.text"
"#;

fn callable() -> BTreeMap<String, Plan> {
    let plan = Plan::compile("p.toml", FILE).unwrap();
    let mut all: BTreeMap<_, _> = plan
        .deployments()
        .values()
        .map(|spec| (format!("p/{}", spec.name), plan.of_deployment(spec)))
        .collect();
    all.insert("p".to_owned(), plan);
    all
}

fn head(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post("/mcp");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

type Headers<'h> = &'h [(&'h str, &'h str)];

/// Status and body of what is answered without a call.
fn own(headers: &[(&str, &str)], body: &str) -> (u16, Json) {
    let mut exchange = Mcp.read(&head(headers), Bytes::copy_from_slice(body.as_bytes())).unwrap();
    assert_eq!(exchange.target(), None, "{body}");
    let callable = callable();
    let mut callable = callable.iter().map(|(name, plan)| (&**name, plan));
    let response = exchange.own_answer(&mut callable).unwrap();
    let bytes = &response.body().bytes;
    let json = if bytes.is_empty() { Json::Null } else { serde_json::from_slice(bytes).unwrap() };
    (response.status().as_u16(), json)
}

fn request(method: &str, params: &Json) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

fn alone(params: Json) -> Json {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

#[test]
fn a_handshake_ends_with_a_revision_that_both_know() {
    for (asked, expected) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        (MODERN, "2025-11-25"),
        ("zzz", "2025-11-25"),
    ] {
        let (status, answer) = own(&[], &request("initialize", &json!({"protocolVersion": asked})));
        assert_eq!((status, &answer["id"]), (200, &json!(7)), "{answer}");
        assert_eq!(answer["result"]["protocolVersion"], expected, "{asked}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "millstream");
        assert_eq!(answer["result"]["capabilities"]["tools"], json!({"listChanged": false}));
    }
    let (status, answer) = own(&[], &request("initialize", &json!({})));
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)), "{answer}");
    assert_eq!(own(&[], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), (202, Json::Null));
    assert_eq!(own(&[], &request("ping", &json!({}))).1["result"], json!({}));
}

#[test]
fn tools_are_told_with_their_schemas() {
    let (_, answer) = own(&[("mcp-protocol-version", "2025-06-18")], &request("tools/list", &json!({})));
    let tools = answer["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["p", "p__embedder", "p__reranker"]);
    assert_eq!(tools[0]["description"], "Answers questions.");
    let input = json!({
        "type": "object",
        "properties": {"question": {"type": "string", "description": "What to ask."}},
        "required": ["question"],
        "additionalProperties": false,
    });
    assert_eq!(tools[0]["inputSchema"], input);
    assert_eq!(tools[0]["outputSchema"]["properties"], json!({"answer": {"type": "string"}}));
    assert_eq!(tools[1]["outputSchema"]["required"], json!(["embeddings"]));
    assert_eq!(tools[1]["description"], "Turns texts into vectors.");
    assert_eq!(tools[2]["description"], "Sorts.");
    assert_eq!(tools[2]["inputSchema"]["required"], json!(["query", "documents"]));
    assert_eq!(answer["result"].get("nextCursor"), None);
    assert_eq!(answer["result"].get("resultType"), None);

    let (_, rest) = own(&[], &request("tools/list", &json!({"cursor": "p"})));
    assert_eq!(rest["result"]["tools"].as_array().unwrap().len(), 2);
    for cursor in [json!("no such"), json!(""), json!("x".repeat(200)), json!(1)] {
        let (status, answer) = own(&[], &request("tools/list", &json!({"cursor": cursor})));
        assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)), "{answer}");
    }
}

#[test]
fn long_lists_come_in_pages() {
    let plans = callable();
    let names: Vec<_> = (0..250).map(|number| format!("t{number:03}")).collect();
    let mut cursor: Option<String> = None;
    let mut found = Vec::new();
    for _ in 0..3 {
        let mut callable = names.iter().map(|name| (&**name, &plans["p"]));
        let page = tools::page(&mut callable, cursor.as_deref()).unwrap();
        let page_names = page["tools"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        found.extend(page_names.map(str::to_owned));
        cursor = page["nextCursor"].as_str().map(str::to_owned);
    }
    assert_eq!((found, cursor), (names, None));
}

#[test]
fn names_of_tools_lead_back_to_what_is_called() {
    let all = |tool: &str| callable_names(tool).collect::<Vec<_>>();
    assert_eq!(all("rag"), ["rag"]);
    assert_eq!(all("rag__embedder"), ["rag__embedder", "rag/embedder"]);
    assert_eq!(all("a___b"), ["a___b", "a/_b", "a_/b"]);
    assert_eq!(all(&"_".repeat(1000)), [""]);
    assert_eq!(all("é__é"), [""]);
    assert_eq!(all(""), [""]);
}

#[test]
fn requests_that_stand_alone_agree_with_their_headers() {
    let list = request("tools/list", &alone(json!({})));
    let good = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/list")];
    let (status, answer) = own(&good, &list);
    let result = &answer["result"];
    assert_eq!((status, &result["resultType"], &result["ttlMs"]), (200, &json!("complete"), &json!(5000)));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "millstream");
    let discover = request("server/discover", &alone(json!({})));
    let (status, answer) = own(&[good[0], ("mcp-method", "server/discover")], &discover);
    assert_eq!((status, &answer["result"]["supportedVersions"][3]), (200, &json!(MODERN)), "{answer}");

    let call = request("tools/call", &alone(json!({"name": "p", "arguments": {}})));
    let bare = request("tools/list", &json!({}));
    let resources = request("resources/list", &alone(json!({})));
    let initialize = request("initialize", &alone(json!({"protocolVersion": "2025-11-25"})));
    let table: &[(Headers<'_>, &str, u16, i32)] = &[
        (&good[..1], &list, 400, -32020),
        (&good[1..], &list, 200, -32020),
        (&[good[0], ("mcp-method", "ping")], &list, 400, -32020),
        (&[good[0], good[1], good[1]], &list, 400, -32020),
        (&[good[0], ("mcp-method", "tools/call")], &call, 400, -32020),
        (&[good[0], ("mcp-method", "tools/call"), ("mcp-name", "q")], &call, 400, -32020),
        (&good, &bare, 400, -32602),
        (&[("mcp-protocol-version", "2099-01-01")], &list, 400, -32022),
        (&[("mcp-protocol-version", "2024-11-05")], &bare, 400, -32022),
        (&[good[0], ("mcp-method", "resources/list")], &resources, 404, -32601),
        (&[good[0], ("mcp-method", "initialize")], &initialize, 404, -32601),
    ];
    for (headers, body, status, code) in table {
        let (found, answer) = own(headers, body);
        assert_eq!(
            (found, &answer["error"]["code"]),
            (*status, &json!(code)),
            "{headers:?} {body}: {answer}"
        );
        assert_eq!(answer["id"], 7);
    }
    for name in ["p", "=?base64?cA==?="] {
        let head = head(&[good[0], ("mcp-method", "tools/call"), ("mcp-name", name)]);
        let exchange = Mcp.read(&head, call.clone().into()).unwrap();
        assert_eq!(exchange.target(), Some(Target::Tool("p")));
    }
}

#[test]
fn what_is_no_message_is_answered_as_an_error() {
    let deep =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":{}1{}}}", "[".repeat(9999), "]".repeat(9999));
    let long_id = json!({"jsonrpc": "2.0", "id": "x".repeat(300), "method": "ping"}).to_string();
    let many = format!("[{}1]", "1,".repeat(100_000));
    let table = [
        ("", -32700),
        ("{", -32700),
        ("nope", -32700),
        (&"[".repeat(100_000), -32700),
        (&deep, -32600),
        ("1", -32600),
        ("null", -32600),
        ("{}", -32600),
        ("[]", -32600),
        (&many, -32600),
        (r#"["2.0",1,"ping"]"#, 0),
        (r#"{"jsonrpc":"2.0","id":1}{}"#, -32700),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":"\ud800","method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (&long_id, -32600),
    ];
    for (body, code) in table {
        let (status, answer) = own(&[], body);
        let shown: String = body.chars().take(80).collect();
        if code == 0 {
            assert_eq!(status, 200, "{shown}: {answer}");
            assert!(answer.as_array().unwrap().iter().all(|it| it["error"]["code"] == -32600), "{answer}");
            continue;
        }
        assert_eq!(answer["error"]["code"], code, "{shown}: {answer}");
        let known = answer["id"] == 1;
        assert_eq!(status, if known { 200 } else { 400 }, "{shown}: {answer}");
    }
    let mut exchange = Mcp.read(&head(&[]), Bytes::from_static(b"{\"jsonrpc\":\"\xff\"}")).unwrap();
    assert_eq!(exchange.own_answer(&mut std::iter::empty()).unwrap().status(), 400);
    for other in [r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","method":"whatever"}"#] {
        assert_eq!(own(&[], other), (202, Json::Null), "{other}");
    }
}

#[test]
fn a_batch_has_one_request_that_costs() {
    let batch = r#"[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},
        {"jsonrpc":"2.0","id":2,"method":"tools/list"},{"jsonrpc":"2.0","id":3,"method":"tools/list"},7]"#;
    let (status, answer) = own(&[], batch);
    let ids: Vec<_> =
        answer.as_array().unwrap().iter().map(|it| (&it["id"], it["error"]["code"].as_i64())).collect();
    let ids_expected =
        [(&json!("a"), None), (&json!(3), Some(-32600)), (&Json::Null, Some(-32600)), (&json!(2), None)];
    assert_eq!((status, &ids[..]), (200, &ids_expected[..]), "{answer}");
    let quiet = r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#;
    assert_eq!(own(&[], quiet), (202, Json::Null));
    let (status, answer) = own(&[("mcp-protocol-version", "2025-06-18")], batch);
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32600)));

    let call = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"p","_meta":{"progressToken":1}}},
        {"jsonrpc":"2.0","id":2,"method":"ping"}]"#;
    let mut exchange = Mcp.read(&head(&[("accept", "text/event-stream")]), call.into()).unwrap();
    assert_eq!(exchange.target(), Some(Target::Tool("p")));
    let request_id = RequestId::new("r-1");
    let told = Told { request_id: &request_id, spent: Spent::default() };
    let answer = exchange.answer(&Value::map([("answer", Value::from("x"))]), told);
    let answer: Json = serde_json::from_slice(&answer.body().bytes).unwrap();
    assert_eq!((&answer[0]["id"], &answer[1]["id"]), (&json!(2), &json!(1)), "{answer}");
}

fn call(headers: &[(&str, &str)], params: &Json) -> Box<dyn Exchange> {
    Mcp.read(&head(headers), request("tools/call", params).into()).unwrap()
}

#[test]
fn a_tool_answers_with_content_or_with_its_error() {
    let plans = callable();
    let request_id = RequestId::new("r-1");
    let told = Told { request_id: &request_id, spent: Spent::default() };
    let mut exchange = call(&[], &json!({"name": "p", "arguments": {"question": "why?"}}));
    let asked = exchange.ask(&plans["p"]).ok().unwrap();
    assert_eq!((asked.fields.get("question"), asked.form), (Some(&Value::from("why?")), Form::Whole));
    let value = Value::map([("answer", Value::from("so \"it\" is"))]);
    let answer: Json = serde_json::from_slice(&exchange.answer(&value, told).body().bytes).unwrap();
    let result = &answer["result"];
    assert_eq!((&answer["id"], &result["isError"]), (&json!(7), &json!(false)));
    assert_eq!(result["structuredContent"], json!({"answer": "so \"it\" is"}));
    let text: Json = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, result["structuredContent"]);
    let vectors = Value::list([Value::list([Value::Float(0.5)])]);
    let answer: Json = serde_json::from_slice(&exchange.answer(&vectors, told).body().bytes).unwrap();
    assert_eq!(answer["result"]["structuredContent"], json!({"embeddings": [[0.5]]}));

    let mut exchange = call(&[], &json!({"name": "p"}));
    let problem = exchange.ask(&plans["p"]).err().unwrap();
    let response = exchange.refuse(&problem, told).unwrap();
    let answer: Json = serde_json::from_slice(&response.body().bytes).unwrap();
    assert_eq!((response.status().as_u16(), &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("`question`"), "{answer}");
    let gone = exchange.refuse(&Problem::not_found("there is no tool `x`"), told).unwrap();
    let gone: Json = serde_json::from_slice(&gone.body().bytes).unwrap();
    assert_eq!(gone["error"]["code"], -32602, "{gone}");

    for bad in [
        json!({}),
        json!({"name": 1}),
        json!({"name": "p", "arguments": []}),
        json!({"name": "p", "arguments": 1}),
    ] {
        let (status, answer) = own(&[], &request("tools/call", &bad));
        assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)), "{bad}: {answer}");
    }
    let long = json!({"name": "p", "_meta": {"progressToken": "x".repeat(1000)}});
    assert_eq!(own(&[], &request("tools/call", &long)).1["error"]["code"], -32602);
}

#[test]
fn parts_are_progress_for_those_who_ask() {
    let plans = callable();
    let request_id = RequestId::new("r-1");
    let told = Told { request_id: &request_id, spent: Spent::default() };
    let accept = [("accept", "application/json, text/event-stream")];
    let params = json!({"name": "p", "arguments": {"question": "x"}, "_meta": {"progressToken": "t"}});
    let vectors = json!({"name": "p__embedder", "arguments": {"texts": []}, "_meta": {"progressToken": "t"}});
    for (headers, plan, params) in [(&[][..], "p", &params), (&accept, "p/embedder", &vectors)] {
        let asked = call(headers, params).ask(&plans[plan]).ok().unwrap();
        assert_eq!(asked.form, Form::Whole);
    }
    let mut exchange = call(&accept, &params);
    assert_eq!(exchange.ask(&plans["p"]).ok().unwrap().form, Form::Parts);
    let mut bytes = Vec::new();
    for text in ["one\n", "two"] {
        exchange.part(&StreamPart { field: "answer".into(), text: text.into() }, &mut bytes);
    }
    let last = exchange.end(Ok(&Value::map([("answer", Value::from("one\ntwo"))])), told);
    bytes.extend(&last.bytes);
    let failure = Failure::new(ErrorClass::DeadlineExceeded, "too late");
    bytes.extend(&exchange.end(Err(&failure.into()), told).bytes);
    let text = String::from_utf8(bytes).unwrap();
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: message\ndata: "));
    let events: Vec<Json> = events.map(|data| serde_json::from_str(data).unwrap()).collect();
    let progress =
        |number: u32, text: &str| json!({"progressToken": "t", "progress": number, "message": text});
    assert_eq!((&events[0]["params"], &events[1]["params"]), (&progress(1, "one\n"), &progress(2, "two")));
    assert_eq!(events[0]["method"], "notifications/progress");
    assert_eq!(events[2]["result"]["structuredContent"], json!({"answer": "one\ntwo"}));
    assert_eq!(events[3]["result"]["isError"], json!(true));
    assert_eq!(events.len(), 4);
    assert!(exchange.stream_headers() != HeaderMap::new());
}

#[test]
fn what_is_turned_away_by_its_head_is_an_error_without_an_id() {
    let response = Mcp.problem(&Problem::unauthorized("an API key is needed"), &RequestId::new("r-1"));
    assert_eq!(response.status(), 401);
    let answer: Json = serde_json::from_slice(&response.body().bytes).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Json::Null, &json!(-32000)));
}
