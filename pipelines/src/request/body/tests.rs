use serde_json::json;

use super::*;
use crate::Plan;
use crate::request::MAX_FIELD_FAULTS;

/// The schema that a `[request]` table declares.
pub(in crate::request) fn schema(request: &str) -> Schema {
    let text = format!("name = \"x\"\nroute = \"/x\"\n[request]\n{request}\n[response]\nok = true\n");
    Plan::compile("x.toml", &text).map(|plan| plan.parts.request).unwrap_or_else(|faults| panic!("{faults}"))
}

fn values(request: &str, body: &str) -> serde_json::Value {
    let parsed = schema(request).parse(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error:?}"));
    serde_json::to_value(&parsed.fields).unwrap()
}

fn faults(request: &str, body: &str) -> Vec<String> {
    match schema(request).parse(body.as_bytes()) {
        Err(RequestError::Invalid(faults)) => {
            faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
        }
        other => panic!("{body}: {other:?}"),
    }
}

fn malformed(request: &str, body: &[u8]) -> String {
    match schema(request).parse(body) {
        Err(RequestError::Malformed { message }) => message,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
    }
}

const ALL: &str = r#"
text = "text"
int = { type = "int", default = 3, min = -5, max = 50 }
float = { type = "float", default = 0.5, max = 1.0 }
bool = { type = "bool", default = true }
json = { type = "json", default = { a = [1, "x"] } }
bytes = { type = "bytes", default = "aGk=" }
list = { type = "text[]", default = [] }
tensor = { type = "f32[?,2]", default = [[1, 2.5]] }
"#;

#[test]
fn defaults_are_filled_in_and_fields_keep_the_schemas_order() {
    let parsed = schema(ALL).parse(br#"{"text": "hi"}"#).unwrap();
    let keys: Vec<&str> = parsed.fields.as_map().unwrap().keys().map(|key| &**key).collect();
    assert_eq!(keys, ["text", "int", "float", "bool", "json", "bytes", "list", "tensor"]);
    assert_eq!(
        serde_json::to_value(&parsed.fields).unwrap(),
        json!({"text": "hi", "int": 3, "float": 0.5, "bool": true, "json": {"a": [1, "x"]}, "bytes": "aGk=",
            "list": [], "tensor": [[1.0, 2.5]]})
    );
    assert!(!parsed.stream);
}

#[test]
fn every_type_is_taken() {
    let body = json!({"text": "é\u{1F600}", "int": -5, "float": 1, "bool": false, "json": [[], {"b": 1.5}],
        "bytes": "aGk", "list": ["a", ""], "tensor": [[1, 2], [3, 4], [5, 6]], "stream": true});
    let parsed = schema(ALL).parse(body.to_string().as_bytes()).unwrap();
    assert!(parsed.stream);
    assert_eq!(parsed.fields.get("float"), Some(&Value::Float(1.0)));
    assert_eq!(parsed.fields.get("bytes"), Some(&Value::Bytes(bytes::Bytes::from_static(b"hi"))));
    let tensor = parsed.fields.get("tensor").unwrap().as_tensor().unwrap();
    assert_eq!(tensor.shape(), [3, 2]);
    assert_eq!(tensor.to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn all_faults_are_told_with_their_paths() {
    let body = r#"{"int": 51, "float": "x", "bool": null, "list": ["a", 1, ["b"]], "tensor": [[1, 2], [3]],
        "bytes": "?", "a/b~c": 1, "txt": "x", "stream": 1}"#;
    assert_eq!(
        faults(ALL, body),
        [
            "/int: `51` is more than `50`",
            "/float: expected a number, found text",
            "/bool: null is not a value; leave the field out",
            "/list/1: expected text, found a number",
            "/list/2: expected text, found a list",
            "/tensor/1: the list has 1 items, but `f32[?,2]` has 2",
            "/bytes: expected base64 text, found text that is not base64",
            "/a~1b~0c: the field is unknown; use one of `text`, `int`, `float`, `bool`, `json`, `bytes`, `list`, `tensor`",
            "/txt: the field is unknown; did you mean `text`?",
            "/stream: expected `true` or `false`, found a number",
            "/text: the field is missing; it is required and of type `text`",
        ]
    );
}

#[test]
fn numbers_by_table() {
    let int = "x = { type = \"int\", min = 0 }";
    for (body, expected) in [
        ("2.0", "expected a whole number, found a number with a fraction"),
        ("1e3", "expected a whole number, found a number with a fraction"),
        (
            "9223372036854775808",
            "found a number with a fraction, an exponent, or more digits than fit 64 bits",
        ),
        ("123456789012345678901234567890", "more digits than fit 64 bits"),
        ("-1", "`-1` is less than `0`"),
        ("1e999", "the number is out of range"),
        ("true", "expected a whole number, found a boolean"),
        ("{}", "expected a whole number, found an object"),
        ("null", "null is not a value"),
    ] {
        let found = faults(int, &format!("{{\"x\": {body}}}"));
        assert!(
            found.len() == 1 && found[0].starts_with("/x: ") && found[0].contains(expected),
            "{body}: {found:?}"
        );
    }
    assert_eq!(values(int, r#"{"x": 9223372036854775807}"#), json!({"x": i64::MAX}));
    assert_eq!(
        values("x = \"float\"", r#"{"x": 18446744073709551615}"#),
        json!({"x": 18446744073709551615.0})
    );
}

#[test]
fn bounds_hold_for_items_and_lengths_for_lists() {
    let request = "n = { type = \"int[]\", min = 1, max_length = 2 }\ns = { type = \"text\", min_length = 2, max_length = 3 }\ne = { type = \"text\", enum = [\"a\", \"b\"] }";
    assert_eq!(values(request, r#"{"n": [1, 5], "s": "éé", "e": "b"}"#)["n"], json!([1, 5]));
    assert_eq!(
        faults(request, r#"{"n": [0, 1], "s": "éééé", "e": "c"}"#),
        [
            "/n/0: `0` is less than `1`",
            "/s: 4 characters are more than 3",
            "/e: the value is none of `a`, `b`"
        ]
    );
    assert_eq!(
        faults(request, r#"{"n": [1, 1, 1], "s": "", "e": "a"}"#),
        ["/n: 3 items are more than 2", "/s: 0 characters are fewer than 2"]
    );
}

#[test]
fn tensors_by_table() {
    for (ty, body, shape) in [
        ("f32[42]", format!("[{}]", vec!["1.5"; 42].join(",")), vec![42]),
        ("i64[?]", "[]".to_owned(), vec![0]),
        ("f16[?,?]", "[[1],[2]]".to_owned(), vec![2, 1]),
        ("bf16[?,?]", "[]".to_owned(), vec![0, 0]),
        ("bool[2]", "[true,false]".to_owned(), vec![2]),
        ("u64[1]", "[18446744073709551615]".to_owned(), vec![1]),
        ("f64[1,1,1]", "[[[1e300]]]".to_owned(), vec![1, 1, 1]),
    ] {
        let parsed = schema(&format!("x = \"{ty}\"")).parse(format!("{{\"x\": {body}}}").as_bytes()).unwrap();
        assert_eq!(parsed.fields.get("x").unwrap().as_tensor().unwrap().shape(), shape, "{ty}");
    }
    for (ty, body, expected) in [
        ("f32[2]", "[1]", "/x: the list has 1 items, but `f32[2]` has 2"),
        ("f32[?,?]", "[[1],[1,2]]", "/x/1: the list has 2 items, but the first list of this axis has 1"),
        ("f32[1]", "[[1]]", "/x/0: expected a number of type `f32`, found a list"),
        (
            "f32[?,4]",
            "[5.1, 3.5, 1.4, 0.2]",
            "/x/0: expected a list of 4 numbers for `f32[?,4]`, found a number; write one more pair of brackets, as in `[[1, 2]]`",
        ),
        ("f32[1]", "[1e39]", "/x/0: `1000000000000000000000000000000000000000` is out of the range of `f32`"),
        ("f16[1]", "[70000]", "/x/0: `70000` is out of the range of `f16`"),
        ("u8[1]", "[256]", "/x/0: `256` is out of the range of `u8`"),
        ("u8[1]", "[-1]", "/x/0: `-1` is out of the range of `u8`"),
        (
            "i32[1]",
            "[1.0]",
            "/x/0: expected a whole number of type `i32`, found a number with a fraction, an exponent, or more digits than fit 64 bits",
        ),
        ("bool[1]", "[1]", "/x/0: expected `true` or `false`, found a number"),
        ("f32[1]", "[null]", "/x/0: expected a number of type `f32`, found null"),
        ("f32[1]", "[{}]", "/x/0: expected a number of type `f32`, found an object"),
        ("f32[1]", "[\"1\"]", "/x/0: expected a number of type `f32`, found text"),
        ("f32[1]", "\"x\"", "/x: expected nested lists of numbers of type `f32[1]`, found text"),
        ("f32[1]", "{\"a\": [1]}", "/x: expected nested lists of numbers of type `f32[1]`, found an object"),
    ] {
        assert_eq!(
            faults(&format!("x = \"{ty}\""), &format!("{{\"x\": {body}}}")),
            [expected],
            "{ty} {body}"
        );
    }
}

#[test]
fn what_is_not_json_is_malformed() {
    let request = "x = { type = \"json\", default = 1 }";
    for (body, expected) in [
        (&b""[..], "the body is empty"),
        (b" \n", "the body is empty"),
        (b"{", "EOF"),
        (b"{\"x\": 1} x", "trailing characters"),
        (b"{\"x\": 1, \"x\": 2}", "the key `x` is given twice"),
        (b"{\"y\": 1, \"y\": 2}", "the key `y` is given twice"),
        (b"{\"x\": {\"a\": 1, \"a\": 2}}", "the key `a` is given twice"),
        (b"{\"y\": [{\"a\": 1, \"a\": 2}]}", "the key `a` is given twice"),
        (b"{\"x\": NaN}", "expected value"),
        (b"{\"x\": \"\xff\"}", "invalid unicode"),
        (b"{\"x\": \"\\ud800\"}", "hex escape"),
        (b"{x: 1}", "key must be a string"),
    ] {
        let found = malformed(request, body);
        assert!(found.contains(expected), "{}: {found}", String::from_utf8_lossy(body));
    }
}

#[test]
fn depth_is_bounded_everywhere() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for request in [
        "x = \"json\"",
        "x = \"text\"",
        "x = \"int[][]\"",
        "x = \"f32[?,?]\"",
        "y = { type = \"int\", default = 1 }",
    ] {
        let body = format!("{{\"x\": {}}}", nested(64));
        assert!(malformed(request, body.as_bytes()).contains("more than 64 deep"), "{request}");
        let endless = format!("{{\"x\": {}", "[".repeat(1_000_000));
        assert!(malformed(request, endless.as_bytes()).contains("more than 64 deep"), "{request}");
    }
    assert!(schema("x = \"json\"").parse(format!("{{\"x\": {}}}", nested(63)).as_bytes()).is_ok());
}

#[test]
fn items_are_bounded_everywhere() {
    let items = |n: usize| format!("{{\"x\": [{}]}}", vec!["1"; n].join(","));
    for request in ["x = \"json\"", "x = \"int[]\"", "x = \"f32[?]\""] {
        assert!(schema(request).parse(items(65_536).as_bytes()).is_ok(), "{request}");
        let found = faults(request, &items(65_537));
        assert!(found.len() == 1 && found[0].contains("more than 65536"), "{request}: {found:?}");
    }
}

#[test]
fn entries_and_values_are_bounded() {
    let entries = |n: usize| (0..n).map(|key| format!("\"k{key}\":1")).collect::<Vec<_>>().join(",");
    assert!(schema("x = \"json\"").parse(format!("{{\"x\": {{{}}}}}", entries(65_536)).as_bytes()).is_ok());
    let found = faults("x = \"json\"", &format!("{{\"x\": {{{}}}}}", entries(65_537)));
    assert!(found.len() == 1 && found[0].contains("more than 65536"), "{found:?}");
    // Empty lists take two bytes each in the body, and many times that in memory.
    let lists = |n: usize| {
        format!("{{\"x\": [{}]}}", vec![format!("[{}]", vec!["[]"; n / 8].join(",")); 8].join(","))
    };
    let good = schema("x = \"json\"").parse(lists(262_000).as_bytes()).unwrap();
    assert_eq!(good.num_values, 262_000 + 8 + 1);
    for request in ["x = \"json\"", "y = \"int\""] {
        let Err(RequestError::Malformed { message }) = schema(request).parse(lists(300_000).as_bytes())
        else {
            panic!("refused")
        };
        assert!(message.contains("more than 262144 values"), "{message}");
    }
}

#[test]
fn the_body_must_be_an_object() {
    for (body, found) in
        [("[]", "an array"), ("1", "a number"), ("\"x\"", "text"), ("null", "null"), ("true", "a boolean")]
    {
        assert_eq!(faults("x = \"int\"", body), [format!(": expected an object, found {found}")]);
    }
}

#[test]
fn very_many_unknown_fields_cost_little() {
    let request: String =
        (0..200).map(|n| format!("some_quite_long_field_name_{n} = \"text[]\"\n")).collect();
    let keys: Vec<String> = (0..50_000).map(|n| format!("\"some_quite_long_field_nam_{n}\": 1")).collect();
    let found = faults(&request, &format!("{{{}}}", keys.join(",")));
    assert_eq!(found.len(), MAX_FIELD_FAULTS + 1);
    assert_eq!(found.iter().filter(|fault| fault.contains("did you mean")).count(), 8);
}

#[test]
fn very_many_faults_are_counted() {
    let body = format!("{{\"x\": [{}]}}", vec!["\"a\""; 1000].join(","));
    let found = faults("x = \"int[]\"", &body);
    assert_eq!(found.len(), MAX_FIELD_FAULTS + 1);
    assert_eq!(found.last().unwrap(), ": 744 more faults are not shown");
}

#[test]
fn objects_have_their_fields_and_no_others() {
    let request = r#"messages = [{ role = { type = "text", enum = ["user", "system"] }, content = "text", weight = { type = "float", default = 1.0 } }]
who = { type = { name = "text", address = { type = { city = "text" } } } }"#;
    let good = r#"{"messages": [{"role": "user", "content": "hi"}], "who": {"name": "a", "address": {"city": "b"}}}"#;
    let parsed = schema(request).parse(good.as_bytes()).unwrap();
    let shown = serde_json::to_string(&parsed.fields).unwrap();
    assert_eq!(
        shown,
        r#"{"messages":[{"role":"user","content":"hi","weight":1.0}],"who":{"name":"a","address":{"city":"b"}}}"#
    );
    assert_eq!(schema(request).check(parsed.fields.as_map().unwrap().clone()).unwrap().fields, parsed.fields);
    let bad = r#"{"messages": [{"role": "robot", "content": 7}, {"rol": "user"}, "x"], "who": {"name": "a", "address": {}}}"#;
    assert_eq!(
        faults(request, bad),
        [
            "/messages/0/role: the value is none of `user`, `system`",
            "/messages/0/content: expected text, found a number",
            "/messages/1/rol: the field is unknown; did you mean `role`?",
            "/messages/1/role: the field is missing; it is required and of type `text`",
            "/messages/1/content: the field is missing; it is required and of type `text`",
            "/messages/2: expected an object of type `{content, role, weight}`, found text",
            "/who/address/city: the field is missing; it is required and of type `text`",
        ]
    );
}
