//! Takes out what must not leave a machine: the tokens that are known here, everything that has the form of a key or a token,
//! and passwords in addresses.

/// What API keys and tokens for the dashboard begin with.
const MARKS: [&[u8]; 2] = [b"mk_", b"mt_"];
/// Characters of a key behind its mark; a part of one is as good as nothing.
const SECRET_LENGTH: usize = 43;
/// What stands in the place of a secret.
const REDACTED: &[u8] = b"[redacted]";

/// The secrets of this machine.
#[derive(Default)]
pub(crate) struct Redaction {
    known: Vec<Vec<u8>>,
}

impl Redaction {
    /// Learns a secret. One that is empty is none.
    pub(crate) fn learn(&mut self, secret: &str) {
        if !secret.trim().is_empty() {
            self.known.push(secret.trim().as_bytes().to_vec());
        }
    }

    /// The same without secrets. O(bytes × secrets).
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let is_inside = at > 0 && is_of_word(bytes[at - 1]);
            let secret = self.known_at(rest).or_else(|| marked_at(rest, is_inside));
            if let Some(length) = secret {
                out.extend_from_slice(REDACTED);
                at += length;
            } else if let Some(length) = password_at(rest) {
                out.extend_from_slice(b"://");
                out.extend_from_slice(REDACTED);
                out.push(b'@');
                at += length;
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        out
    }

    fn known_at(&self, rest: &[u8]) -> Option<usize> {
        self.known.iter().find(|secret| rest.starts_with(secret)).map(Vec::len)
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The length of what begins with a mark and is as long as a secret.
fn marked_at(rest: &[u8], is_inside: bool) -> Option<usize> {
    let mark = MARKS.iter().find(|mark| rest.starts_with(mark)).filter(|_| !is_inside)?;
    let length = rest[mark.len()..].iter().take_while(|byte| is_of_word(**byte)).count();
    (length >= SECRET_LENGTH).then_some(mark.len() + length)
}

/// The length of `://USER:PASSWORD@`.
fn password_at(rest: &[u8]) -> Option<usize> {
    let authority = rest.strip_prefix(b"://")?;
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'`');
    let end = authority.iter().position(ends).unwrap_or(authority.len());
    let user = authority[..end].iter().rposition(|byte| *byte == b'@')?;
    Some(3 + user + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let mut redaction = Redaction::default();
        redaction.learn("\n");
        redaction.learn("0123456789abcdef\n");
        let (key, token) = (Secret::new("mk_").unwrap().text, Secret::new("mt_").unwrap().text);
        let table = [
            ("token=0123456789abcdef;".to_owned(), "token=[redacted];"),
            (format!("{{\"key\":\"{key}\"}}"), "{\"key\":\"[redacted]\"}"),
            (format!("Bearer {token}\nnext"), "Bearer [redacted]\nnext"),
            ("http://user:pa:ss@host:1/path".to_owned(), "http://[redacted]@host:1/path"),
            ("http://host:1/path a@b".to_owned(), "http://host:1/path a@b"),
            ("mk_short".to_owned(), "mk_short"),
            (String::new(), ""),
        ];
        for (text, expected) in table {
            assert_eq!(String::from_utf8(redaction.apply(text.as_bytes())).unwrap(), expected, "{text}");
        }
    }
}
