//! Bytes that go out one after the other. Large ones that are there already, such as a tensor's, go as they lie; small ones are put
//! together, as each piece of an answer costs a call of its own.

use std::collections::VecDeque;

use bytes::Bytes;

/// What is copied rather than sent as a piece of its own.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    whole: VecDeque<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
    /// Where small bytes are appended.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// Appends bytes that are there.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() <= MAX_COPIED_BYTES {
            self.last.extend_from_slice(bytes);
            return;
        }
        self.flush();
        self.whole.push_back(bytes.clone());
    }

    /// Appends what others have.
    pub(crate) fn append(&mut self, others: Self) {
        for piece in others.whole {
            self.push(&piece);
        }
        self.last.extend_from_slice(&others.last);
    }

    /// How many bytes they are.
    pub(crate) fn num_bytes(&self) -> usize {
        self.whole.iter().map(Bytes::len).sum::<usize>() + self.last.len()
    }

    /// All of them in their order: the first, and those behind it.
    pub(crate) fn finish(mut self) -> (Bytes, VecDeque<Bytes>) {
        let Some(first) = self.whole.pop_front() else { return (self.last.into(), self.whole) };
        self.flush();
        (first, self.whole)
    }

    fn flush(&mut self) {
        if !self.last.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bytes_go_as_they_lie_and_small_ones_together() {
        let large = Bytes::from(vec![7; MAX_COPIED_BYTES + 1]);
        let mut pieces = Pieces::default();
        pieces.tail().extend_from_slice(b"he");
        pieces.push(&Bytes::from_static(b"ad"));
        let mut more = Pieces::default();
        more.push(&large);
        more.tail().push(1);
        pieces.append(more);
        pieces.push(&Bytes::from_static(b"\x02"));
        assert_eq!(pieces.num_bytes(), 4 + large.len() + 2);
        let (first, others) = pieces.finish();
        assert_eq!(first, "head");
        assert_eq!(others, [large.clone(), Bytes::from_static(b"\x01\x02")]);
        assert_eq!(others[0].as_ptr(), large.as_ptr());
        assert_eq!(Pieces::default().finish(), (Bytes::new(), VecDeque::new()));
    }
}
