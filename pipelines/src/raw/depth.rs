//! A bound on nesting, found before the text is parsed: values are walked and dropped recursively, and no text may end
//! the process by overflowing the stack.

/// Deepest nesting of brackets and dotted keys together.
const MAX_DEPTH: usize = 60;

/// The offset at which the text first nests too deep. Strings and comments do not count. What is no TOML is counted
/// anyhow, as if every dot outside a string were one of a key.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // Dots of the current entry in each open bracket, the file itself first.
    let mut dots = vec![0_usize];
    let mut depth = 1;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'\'' => {
                at = skip_string(bytes, at);
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'[' | b'{' => {
                dots.push(0);
                depth += 1;
            }
            b']' | b'}' if dots.len() > 1 => depth -= 1 + dots.pop().unwrap_or(0),
            b'.' => {
                if let Some(count) = dots.last_mut() {
                    *count += 1;
                    depth += 1;
                }
            }
            b',' | b'\n' => {
                if let Some(count) = dots.last_mut() {
                    depth -= std::mem::take(count);
                }
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The offset after the string that opens at `at`; a string that is not closed ends with its line, or with the text
/// when it may have several lines.
fn skip_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let long = bytes[at..].starts_with(&[quote; 3]);
    let mut at = at + if long { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !long => return at,
            c if c == quote && !long => return at + 1,
            c if c == quote && bytes[at..].starts_with(&[quote; 3]) => return at + 3,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&c| c == b'\n').map_or(bytes.len(), |end| at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_dotted_keys_count_together() {
        let cases = [
            ("a = [[1.5, 2.5], [3.5, 4.5]]\n[b.c.d]\n".to_owned(), false),
            (format!("a = {}", "[".repeat(50)), false),
            (format!("a = {}", "[".repeat(70)), true),
            (format!("{} = 1", vec!["a"; 70].join(".")), true),
            (format!("{}1", "a.a.a.a.a.a.a.a = { ".repeat(9)), true),
            (format!("a = \"{}\"", "[".repeat(500)), false),
            (format!("a = \"\"\"\n{}\n\"\"\"", "..[".repeat(500)), false),
            (format!("# {}\na = 1", "[".repeat(500)), false),
            ("]]]]}}}}[".repeat(1000), false),
        ];
        for (text, expected) in cases {
            assert_eq!(too_deep(&text).is_some(), expected, "{text}");
        }
    }
}
