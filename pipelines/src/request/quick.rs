//! Bodies with tensors read at once: nested lists of numbers go straight into a tensor's bytes, in a third of the time of
//! the pass that can tell where a fault is. It takes plain and sound bodies alone, as most are, and leaves all others to
//! that pass: the two never make different things of a body.

use std::cell::RefCell;

use bytes::Bytes;
use millstream_values::{DType, Map, Tensor, Value};

use super::body::{BodySeed, ValueSeed};
use super::pass::State;
use super::tensor::{MAX_RESERVED_BYTES, push_f32, push_float, push_whole};
use super::{FieldType, MAX_DEPTH, MAX_ITEMS, MAX_VALUES, Schema};
use crate::{Request, TensorType};

/// Whole numbers of at most so many digits fit 64 bits, whatever their sign.
const MAX_WHOLE_DIGITS: usize = 18;
/// Whole numbers up to it are `f64`s.
const MAX_EXACT_F64: u64 = 1 << 53;
/// The powers of ten that are `f64`s.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The request that `body` holds; `None` when the careful pass has to look at it.
pub(super) fn read(schema: &Schema, body: &[u8]) -> Option<Request> {
    if !schema.fields.iter().any(|field| matches!(field.ty, FieldType::Tensor(_))) {
        return None;
    }
    let mut reader = Reader { json: body, at: 0 };
    let mut values: Vec<Option<Value>> = vec![None; schema.fields.len()];
    let mut num_values = 0;
    reader.take(b'{')?;
    loop {
        let key = reader.plain_text()?;
        reader.take(b':')?;
        let index = schema.fields.iter().position(|field| field.name.as_bytes() == key)?;
        let field = &schema.fields[index];
        let value = match &field.ty {
            FieldType::Tensor(ty) => {
                num_values += 1;
                Value::Tensor(reader.tensor(ty)?)
            }
            _ => {
                let state = RefCell::new(State::default());
                let value = ValueSeed::of(field, &state).read(reader.skip_value()?)?;
                let state = state.into_inner();
                num_values += state.num_values;
                state.faults.is_empty().then_some(value)?
            }
        };
        if values[index].replace(value).is_some() {
            return None;
        }
        match reader.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    if reader.peek().is_some() || num_values > MAX_VALUES {
        return None;
    }
    let state = RefCell::new(State::default());
    let fields = BodySeed { schema, state: &state }.complete(values, Map::new(), |_| false);
    state.into_inner().faults.is_empty().then_some(Request { fields, stream: false, num_values })
}

/// What is left of a body.
struct Reader<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Reader<'j> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.json.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// The same, taken.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// A text without escapes, its quotes left out.
    fn plain_text(&mut self) -> Option<&'j [u8]> {
        self.take(b'"')?;
        let rest = &self.json[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        self.at += length + 1;
        (rest[length] == b'"').then_some(&rest[..length])
    }

    /// Some value that is not looked into, nor checked.
    fn skip_value(&mut self) -> Option<&'j [u8]> {
        let (mut depth, mut in_text) = (0_usize, false);
        self.peek()?;
        let start = self.at;
        loop {
            match *self.json.get(self.at)? {
                b'\\' if in_text => self.at += 1,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'[' | b'{' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => return Some(&self.json[start..self.at]),
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn tensor(&mut self, ty: &TensorType) -> Option<Tensor> {
        if ty.shape.is_empty() || ty.shape.len() >= MAX_DEPTH || ty.dtype == DType::Bool {
            return None;
        }
        // Few numbers take less than four bytes of JSON; what follows may be something else.
        let likely = (self.json.len() - self.at) / 4 * ty.dtype.size_bytes();
        let bytes = Vec::with_capacity(likely.min(MAX_RESERVED_BYTES));
        let mut elements = Elements { dtype: ty.dtype, shape: ty.shape.clone(), bytes };
        self.list(0, &mut elements)?;
        let shape: Vec<usize> = elements.shape.iter().map(|size| size.unwrap_or(0)).collect();
        Tensor::new(ty.dtype, shape, Bytes::from(elements.bytes)).ok()
    }

    /// A list at that axis, of lists or of numbers.
    fn list(&mut self, axis: usize, elements: &mut Elements) -> Option<()> {
        self.take(b'[')?;
        let are_numbers = axis + 1 == elements.shape.len();
        let mut length = 0;
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                if are_numbers { self.number(elements) } else { self.list(axis + 1, elements) }?;
                length += 1;
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        let size = *elements.shape[axis].get_or_insert(length);
        (size == length && length <= MAX_ITEMS).then_some(())
    }

    /// Appends a number.
    fn number(&mut self, elements: &mut Elements) -> Option<()> {
        let is_negative = self.peek()? == b'-';
        let token = &self.json[self.at..];
        let start = usize::from(is_negative);
        let (mut digits, mut end) = read_digits(token, start, 0);
        let num_whole = end - start;
        if num_whole == 0 || (num_whole > 1 && token[start] == b'0') {
            return None;
        }
        let mut num_decimals = 0;
        if token.get(end) == Some(&b'.') {
            let point = end;
            (digits, end) = read_digits(token, point + 1, digits);
            num_decimals = end - point - 1;
            if num_decimals == 0 {
                return None;
            }
        }
        if matches!(token.get(end), Some(b'e' | b'E')) || num_whole + num_decimals > MAX_WHOLE_DIGITS {
            return self.parse(end, elements);
        }
        self.at += end;
        if num_decimals == 0 {
            let value = i128::from(digits);
            // -0 is not a whole number.
            let is_plain = !(is_negative && digits == 0);
            return (is_plain && elements.push_whole(if is_negative { -value } else { value })).then_some(());
        }
        if digits > MAX_EXACT_F64 {
            self.at -= end;
            return self.parse(end, elements);
        }
        // Both are exact, so that the quotient is the number rounded once (Clinger 1990).
        #[expect(clippy::cast_precision_loss, reason = "it is exact")]
        let value = digits as f64 / POWERS_OF_TEN[num_decimals];
        elements.push_float(if is_negative { -value } else { value }).then_some(())
    }

    /// Appends the number of which `length` bytes have been looked at, unless it is a whole one.
    fn parse(&mut self, length: usize, elements: &mut Elements) -> Option<()> {
        let token = &self.json[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'e' | b'E' | b'+' | b'-');
        let more = token[length..].iter().take_while(|byte| is_part(byte)).count();
        let text = std::str::from_utf8(&token[..length + more]).ok()?;
        if !text.contains(['.', 'e', 'E']) {
            return None;
        }
        self.at += text.len();
        elements.push_float(text.parse().ok()?).then_some(())
    }
}

/// Reads the digits from `at` behind those of `value`; returns where they end too. Wraps beyond 64 bits.
fn read_digits(json: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit) = json.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

/// A tensor that is being read.
struct Elements {
    dtype: DType,
    /// Sizes as declared, `?` fixed by the first list of that axis.
    shape: Vec<Option<usize>>,
    bytes: Vec<u8>,
}

impl Elements {
    fn push_whole(&mut self, value: i128) -> bool {
        push_whole(self.dtype, value, &mut self.bytes)
    }

    fn push_float(&mut self, value: f64) -> bool {
        match self.dtype {
            // Most tensors' type goes without the call.
            DType::F32 => push_f32(value, &mut self.bytes),
            dtype => dtype.is_float() && push_float(dtype, value, &mut self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::body::tests::schema;

    fn quick(ty: &str, json: &str) -> Option<Value> {
        let schema = schema(&format!("x = \"{ty}\"\nn = {{ type = \"int\", default = 3 }}"));
        read(&schema, json.as_bytes()).map(|request| request.fields)
    }

    fn tensor(ty: &str, lists: &str) -> Option<Tensor> {
        quick(ty, &format!("{{\"x\":{lists}}}"))?.get("x")?.as_tensor().cloned()
    }

    #[test]
    fn sound_bodies_are_read() {
        let both = tensor("f32[?,2]", " [ [1 , -2.5],\n[3e2,0.1] ] ").unwrap();
        assert_eq!((both.shape(), both.to_f32().unwrap()), (&[2, 2][..], vec![1.0, -2.5, 300.0, 0.1]));
        let whole = tensor("i64[?]", "[-7,0,999999999999999999]").unwrap();
        assert_eq!(whole.to_i64().unwrap(), [-7, 0, 999_999_999_999_999_999]);
        assert_eq!(tensor("f32[?,2]", "[]").unwrap().shape(), [0, 2]);
        assert_eq!(tensor("f32[?,?]", "[[],[]]").unwrap().shape(), [2, 0]);
        let other = quick("f32[1]", r#" { "n" : 12 , "x" : [1] } "#).unwrap();
        assert_eq!(other.get("n"), Some(&Value::Int(12)));
        assert_eq!(quick("f32[1]", r#"{"x":[1]}"#).unwrap().get("n"), Some(&Value::Int(3)));
    }

    #[test]
    fn all_others_are_left_to_the_careful_pass() {
        let lists = [
            ("f32[2]", "[1]"),
            ("f32[?,?]", "[[1],[1,2]]"),
            ("f32[?]", "[1,null]"),
            ("f32[?]", "[[1]]"),
            ("f32[?]", "[1e39]"),
            ("f64[?]", "[1e999]"),
            ("f32[?]", "[01]"),
            ("f32[?]", "[1.]"),
            ("f32[?]", "[.5]"),
            ("f32[?]", "[+1]"),
            ("f32[?]", "[1.5e]"),
            ("f32[?]", "[1-2]"),
            ("f32[?]", "[1.2.3]"),
            ("f32[?]", "[1,]"),
            ("f32[?]", "[1 2]"),
            ("i64[?]", "[1.0]"),
            ("u8[?]", "[256]"),
            ("i64[?]", "[-0]"),
            ("u64[?]", "[18446744073709551615]"),
            ("bool[?]", "[true]"),
        ];
        for (ty, lists) in lists {
            assert!(tensor(ty, lists).is_none(), "{ty} {lists}");
        }
        let bodies = [
            "",
            "[]",
            "{}",
            r#"{"x":[1]"#,
            r#"{"x":[1]}}"#,
            r#"{"x":[1],}"#,
            r#"{"x":[1],"x":[1]}"#,
            r#"{"x":[1],"y":1}"#,
            r#"{"x":[1],"n":}"#,
            r#"{"x":[1],"n":"1"}"#,
            r#"{"x":[1],"n":1 1}"#,
            r#"{"x":[1],"n":[}"#,
            r#"{"n":1}"#,
            r#"{"\u0078":[1]}"#,
        ];
        for body in bodies {
            assert!(quick("f32[?]", body).is_none(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn floats_are_read_as_they_are_everywhere(value in any::<f64>(), decimals in 0_usize..25) {
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.decimals$}")] {
                let Some(tensor) = tensor("f64[1]", &format!("[{text}]")) else { continue };
                let expected: f64 = text.parse().unwrap();
                prop_assert_eq!(tensor.iter_f64().next().unwrap().to_bits(), expected.to_bits(), "{}", text);
            }
        }

        #[test]
        fn what_is_read_is_what_the_careful_pass_reads(
            dtype in prop::sample::select(vec!["f32", "f64", "f16", "i64", "u8"]),
            shape in prop::sample::select(vec!["?", "2", "?,2", "?,?", "1,?,2"]),
            lists in r"\[?\[? ?(-?[0-9]{1,3}(\.[0-9]{0,20})?(e-?[0-9]{0,2})?[, \]\[]{1,3}){0,5}\]{1,3}",
            rest in r#"|, ?"n": ?[0-9\[\]{}":,]{1,4}"#,
        ) {
            let schema = schema(&format!("x = \"{dtype}[{shape}]\"\nn = {{ type = \"json\", default = 3 }}"));
            let body = format!("{{\"x\": {lists}{rest}}}");
            if let Some(request) = read(&schema, body.as_bytes()) {
                prop_assert_eq!(Ok(request), schema.parse_carefully(body.as_bytes()), "{}", body);
            }
        }
    }
}
