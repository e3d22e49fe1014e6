//! Frames: what a link carries. Each begins with 16 bytes:
//!
//! ```text
//! kind u8, flags u8, 2 bytes of zero, length of what follows u32, call u64      all little-endian
//! ```
//!
//! A message of up to [`MAX_PIECE`] bytes is one frame. A longer one is cut: its first frame has the flag [`MORE`] and begins
//! with the length of the whole message (u32), the others are of the kind [`Kind::Piece`]; the last of them is known by that length.
//! So a piece never takes the socket for long, and whatever is urgent goes between two of them.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// Bytes before each frame's payload.
pub(crate) const HEADER_BYTES: usize = 16;
/// Most bytes of a message in one frame.
pub(crate) const MAX_PIECE: usize = 64 << 10;
/// The length of a whole message, before its first piece.
pub(crate) const TOTAL_BYTES: usize = 4;
/// The message goes on in frames of the kind [`Kind::Piece`].
pub(crate) const MORE: u8 = 1;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call begins: a message, see [`crate::message`].
    Start,
    /// A part of an answer: a message.
    Part,
    /// Where a call's time went: a message.
    Timing,
    /// The answer; the call is over: a message.
    Done,
    /// There is no answer; the call is over: a message.
    Failed,
    /// The next bytes of the call's message.
    Piece,
    /// The caller has left.
    Cancel,
    /// How many bytes of messages the other end may have sent in this call, since its beginning (u64).
    Limit,
    /// Is anybody there?
    Ping,
    /// Yes.
    Pong,
    /// Of a later version, and said to be of no consequence to those who do not know it.
    Unknown,
}

/// Kinds from here on may be ignored by those who do not know them.
const OPTIONAL_FROM: u8 = 128;

const CODES: [(Kind, u8); 10] = [
    (Kind::Start, 1),
    (Kind::Part, 2),
    (Kind::Timing, 3),
    (Kind::Done, 4),
    (Kind::Failed, 5),
    (Kind::Piece, 6),
    (Kind::Cancel, 7),
    (Kind::Limit, 8),
    (Kind::Ping, 9),
    (Kind::Pong, 10),
];

impl Kind {
    fn code(self) -> u8 {
        CODES.iter().find(|(kind, _)| *kind == self).map_or(OPTIONAL_FROM, |(_, code)| *code)
    }

    fn from_code(code: u8) -> Option<Self> {
        match CODES.iter().find(|(_, known)| *known == code) {
            Some((kind, _)) => Some(*kind),
            None => (code >= OPTIONAL_FROM).then_some(Self::Unknown),
        }
    }

    /// Whether a call is over with a message of this kind.
    pub(crate) fn is_last(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// A frame's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// What it is.
    pub(crate) kind: Kind,
    /// Whether its message goes on.
    pub(crate) more: bool,
    /// Bytes that follow.
    pub(crate) length: usize,
    /// The call that it belongs to; 0 for none.
    pub(crate) call: u64,
}

/// Why the bytes of a link make no sense: the two ends no longer agree on where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    /// No such kind.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// A frame is longer than any may be.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
}

impl Header {
    /// Writes it.
    #[expect(clippy::cast_possible_truncation, reason = "a frame has at most MAX_PIECE bytes and a total")]
    pub(crate) fn put(self, out: &mut BytesMut) {
        debug_assert!(self.length <= MAX_PIECE + TOTAL_BYTES);
        out.put_u8(self.kind.code());
        out.put_u8(if self.more { MORE } else { 0 });
        out.put_u16_le(0);
        out.put_u32_le(self.length as u32);
        out.put_u64_le(self.call);
    }

    /// Reads it, if all of it is there.
    pub(crate) fn peek(bytes: &[u8]) -> Result<Option<Self>, BadFrame> {
        let Some(mut header) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
        let (code, flags) = (header.get_u8(), header.get_u8());
        header.advance(2);
        let (length, call) = (header.get_u32_le() as usize, header.get_u64_le());
        let kind = Kind::from_code(code).ok_or(BadFrame::Kind(code))?;
        if length > MAX_PIECE + TOTAL_BYTES {
            return Err(BadFrame::TooLong(length));
        }
        Ok(Some(Self { kind, more: flags & MORE != 0, length, call }))
    }
}

/// Writes a frame without a payload, or with a number as its payload.
pub(crate) fn put_control(out: &mut BytesMut, kind: Kind, call: u64, number: Option<u64>) {
    let length = if number.is_some() { 8 } else { 0 };
    Header { kind, more: false, length, call }.put(out);
    if let Some(number) = number {
        out.put_u64_le(number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        for (kind, _) in CODES {
            for more in [false, true] {
                let header = Header { kind, more, length: MAX_PIECE, call: u64::MAX - 1 };
                let mut bytes = BytesMut::new();
                header.put(&mut bytes);
                assert_eq!(bytes.len(), HEADER_BYTES);
                assert_eq!(Header::peek(&bytes), Ok(Some(header)));
                assert_eq!(Header::peek(&bytes[..HEADER_BYTES - 1]), Ok(None));
            }
        }
    }

    #[test]
    fn kinds_of_later_versions_are_skipped_or_refused_by_their_number() {
        let frame = |kind: u8, length: u32| {
            let mut bytes = vec![kind, 0, 0, 0];
            bytes.extend(length.to_le_bytes());
            bytes.extend(7_u64.to_le_bytes());
            bytes
        };
        let unknown = Header { kind: Kind::Unknown, more: false, length: 3, call: 7 };
        assert_eq!(Header::peek(&frame(200, 3)), Ok(Some(unknown)));
        assert_eq!(Header::peek(&frame(0, 3)), Err(BadFrame::Kind(0)));
        assert_eq!(Header::peek(&frame(1, 1 << 20)), Err(BadFrame::TooLong(1 << 20)));
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_header_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(header)) = Header::peek(&bytes) {
                prop_assert!(header.length <= MAX_PIECE + TOTAL_BYTES);
            }
        }
    }
}
