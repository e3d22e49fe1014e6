//! Bodies made of pieces of JSON in any order: a request or faults come of each, within bounds, and never a panic. Runs for a second in
//! the tests; `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-pipelines --test integration fuzz` for a minute.

use bolero::TypeGenerator;
use millstream_pipelines::{MAX_VALUES, Plan, RequestError};
use millstream_values::{MAX_DEPTH, Value};

/// A piece of a body.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    Colon,
    Field(u8),
    Text(String),
    Int(i64),
    Float(f64),
    Huge,
    Word(u8),
    Raw(Vec<u8>),
    /// Brackets, many times.
    Nest(u8),
    /// A list of so many times four empty lists.
    Empties(u16),
}

const FIELDS: [&str; 9] = ["text", "count", "ratio", "flag", "any", "blob", "list", "tensor", "stream"];
const WORDS: [&str; 5] = ["true", "false", "null", "NaN", "-"];

const PIPELINE: &str = r#"
name  = "all"
route = "/all"

[request]
text   = { type = "text", max_length = 20 }
count  = { type = "int", default = 1, max = 9 }
ratio  = { type = "float", default = 0.5 }
flag   = { type = "bool", default = true }
any    = { type = "json", default = [] }
blob   = { type = "bytes", default = "" }
list   = { type = "int[][]", default = [] }
tensor = { type = "f32[?,2]", default = [[1, 2]] }

[deployments.echo]
engine = "echo"

[stages.out]
use    = "echo"
inputs = { all = "request.any" }

[response]
out = "out.all"
"#;

fn body(pieces: &[Piece]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Open => body.push(b'{'),
            Piece::Close => body.push(b'}'),
            Piece::OpenList => body.push(b'['),
            Piece::CloseList => body.push(b']'),
            Piece::Comma => body.push(b','),
            Piece::Colon => body.push(b':'),
            Piece::Field(which) => {
                body.extend(format!("\"{}\":", FIELDS[usize::from(*which) % FIELDS.len()]).bytes());
            }
            Piece::Text(text) => body.extend(format!("{text:?}").bytes()),
            Piece::Int(number) => body.extend(number.to_string().bytes()),
            Piece::Float(number) => body.extend(format!("{number:e}").bytes()),
            Piece::Huge => body.extend(b"1e999"),
            Piece::Word(which) => body.extend(WORDS[usize::from(*which) % WORDS.len()].bytes()),
            Piece::Raw(bytes) => body.extend(bytes),
            Piece::Nest(depth) => {
                body.extend("[".repeat(usize::from(*depth)).bytes());
                body.extend("]".repeat(usize::from(*depth)).bytes());
            }
            Piece::Empties(count) => {
                body.extend(format!("[{}[]]", "[[],[],[],[]],".repeat(usize::from(*count))).bytes());
            }
        }
    }
    body
}

/// How many values there are, and how deep they go.
fn measure(value: &Value, depth: usize) -> (usize, usize) {
    let inner: Vec<(usize, usize)> = match value {
        Value::List(items) => items.iter().map(|item| measure(item, depth + 1)).collect(),
        Value::Map(map) => map.values().map(|entry| measure(entry, depth + 1)).collect(),
        _ => Vec::new(),
    };
    let deepest = inner.iter().map(|(_, depth)| *depth).max().unwrap_or(depth);
    (1 + inner.iter().map(|(count, _)| count).sum::<usize>(), deepest.max(depth))
}

#[test]
fn any_pieces_make_a_request_or_faults_within_bounds() {
    let plan = Plan::compile("all.toml", PIPELINE).unwrap_or_else(|faults| panic!("{faults:?}"));
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| {
        let free = body(pieces);
        // Most of what is free is not an object: the same as the value of a field.
        let bound = [b"{\"text\":\"x\",\"any\":", &free[..], b"}"].concat();
        for body in [&free, &bound] {
            match plan.parse_request(body) {
                Ok(request) => {
                    let (count, depth) = measure(&request.fields, 0);
                    assert!(depth <= MAX_DEPTH, "{depth}");
                    // Defaults are not of the body, and its own value is one more.
                    assert!(count <= MAX_VALUES + 20, "{count}");
                }
                Err(RequestError::Malformed { message }) => assert!(!message.is_empty()),
                Err(RequestError::Invalid(faults)) => assert!(!faults.is_empty()),
            }
        }
    });
}
