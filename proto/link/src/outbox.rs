//! What one end of a link has to send, and in which order: whole frames first (starts, cancels, credit, small messages), then
//! pieces of large messages, one of each call in turn. A call sends no more than its receiver has given it credit for. Plain state: it writes
//! to no socket.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::{Buf as _, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::codec::{Encoder, Segments};
use crate::frame::{HEADER_BYTES, Header, Kind, MAX_PIECE, TOTAL_BYTES, put_control};

/// Messages up to this size are one frame and wait for no turn; of larger ones the first so many bytes.
const INLINE_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Whole frames.
    ready: BytesMut,
    /// Bytes of whole frames that were taken out since the beginning.
    taken: u64,
    /// Calls of which more is to be sent than one frame, or than one message.
    calls: HashMap<u64, Sending>,
    /// Calls that may send a piece.
    turns: VecDeque<u64>,
    /// Credit of a call at its beginning.
    window: u64,
    /// Bytes of messages that wait.
    num_queued: usize,
}

#[derive(Debug)]
struct Sending {
    sent: u64,
    /// How much may be sent in all.
    limit: u64,
    messages: VecDeque<Message>,
    has_turn: bool,
    /// Woken when nothing of the call waits any more.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    left: usize,
    segments: Segments,
}

impl Message {
    /// Takes the next bytes out.
    fn take(&mut self, mut length: usize, out: &mut SmallVec<[Bytes; 4]>) {
        self.left -= length;
        while length > 0 {
            let Some(first) = self.segments.first_mut() else { return };
            let part = first.split_to(length.min(first.len()));
            length -= part.len();
            if first.is_empty() {
                self.segments.remove(0);
            }
            out.push(part);
        }
    }
}

/// Bytes to be written next: whole frames, and at most one piece of a large message after them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: BytesMut,
    pub(crate) piece: SmallVec<[Bytes; 4]>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.piece.is_empty()
    }

    /// So many bytes of it have been written.
    pub(crate) fn advance(&mut self, mut num_bytes: usize) {
        let frames = num_bytes.min(self.frames.len());
        self.frames.advance(frames);
        num_bytes -= frames;
        while num_bytes > 0 {
            let Some(first) = self.piece.first_mut() else { return };
            let part = num_bytes.min(first.len());
            first.advance(part);
            num_bytes -= part;
            if first.is_empty() {
                self.piece.remove(0);
            }
        }
    }
}

impl Outbox {
    /// Of a link whose other end gives each call so much credit at its beginning.
    pub(crate) fn new(window: u64) -> Self {
        Self {
            ready: BytesMut::new(),
            taken: 0,
            calls: HashMap::new(),
            turns: VecDeque::new(),
            window,
            num_queued: 0,
        }
    }

    /// Whether there is nothing to write at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.turns.is_empty()
    }

    /// Bytes of whole frames that wait; those of large messages wait for credit, which has to be read first.
    pub(crate) fn num_ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes that wait.
    pub(crate) fn num_bytes(&self) -> usize {
        self.ready.len() + self.num_queued
    }

    /// Where the next whole frame goes, counted from the beginning of the link.
    pub(crate) fn position(&self) -> u64 {
        self.taken + self.ready.len() as u64
    }

    /// Whether what was put at that position has been taken out, at least a part of it.
    pub(crate) fn has_left(&self, position: u64) -> bool {
        self.taken > position
    }

    /// A frame without a message.
    pub(crate) fn control(&mut self, kind: Kind, call: u64, number: Option<u64>) {
        put_control(&mut self.ready, kind, call, number);
    }

    /// A message of a call, written by `encoder`, which is empty afterwards.
    pub(crate) fn push(&mut self, call: u64, kind: Kind, encoder: &mut Encoder) {
        let known = self.calls.get_mut(&call);
        let is_first = known.as_ref().is_none_or(|sending| sending.messages.is_empty());
        let credit = known.as_ref().map_or(self.window, |sending| sending.limit - sending.sent);
        let length = encoder.len();
        if is_first && length <= INLINE_BYTES && length as u64 <= credit {
            Header { kind, more: false, length, call }.put(&mut self.ready);
            match encoder.as_slice() {
                Some(bytes) => self.ready.extend_from_slice(bytes),
                None => encoder.take().iter().for_each(|bytes| self.ready.extend_from_slice(bytes)),
            }
            encoder.clear();
            match kind {
                Kind::Done | Kind::Failed => drop(self.cancel(call)),
                // A start is all that a caller has to say.
                Kind::Start => {}
                _ => self.sending(call).sent += length as u64,
            }
            return;
        }
        self.num_queued += length;
        let message = Message { kind, left: length, segments: encoder.take() };
        self.sending(call).messages.push_back(message);
        if is_first {
            self.begin(call);
        }
    }

    fn sending(&mut self, call: u64) -> &mut Sending {
        let limit = self.window;
        self.calls.entry(call).or_insert_with(|| Sending {
            sent: 0,
            limit,
            messages: VecDeque::new(),
            has_turn: false,
            waker: None,
        })
    }

    /// Announces the first message of a call, with as much of it as may go at once.
    #[expect(clippy::cast_possible_truncation, reason = "what is announced has at most MAX_MESSAGE_BYTES")]
    fn begin(&mut self, call: u64) {
        let Some(sending) = self.calls.get_mut(&call) else { return };
        let Some(message) = sending.messages.front_mut() else { return };
        let credit = usize::try_from(sending.limit - sending.sent).unwrap_or(usize::MAX);
        let (total, length) = (message.left, message.left.min(INLINE_BYTES).min(credit));
        let header = Header { kind: message.kind, more: true, length: length + TOTAL_BYTES, call };
        header.put(&mut self.ready);
        self.ready.extend_from_slice(&(total as u32).to_le_bytes());
        let mut first = SmallVec::new();
        message.take(length, &mut first);
        first.iter().for_each(|bytes| self.ready.extend_from_slice(bytes));
        sending.sent += length as u64;
        self.num_queued -= length;
        self.advance(call);
    }

    /// Goes on to the call's next message if the first one is sent, and gives it a turn if it may send.
    fn advance(&mut self, call: u64) {
        let Some(sending) = self.calls.get_mut(&call) else { return };
        match sending.messages.front() {
            Some(message) if message.left > 0 => {
                let may_send = sending.limit > sending.sent;
                if may_send && !std::mem::replace(&mut sending.has_turn, may_send) {
                    self.turns.push_back(call);
                }
            }
            Some(message) => {
                let is_last = message.kind.is_last() || message.kind == Kind::Start;
                sending.messages.pop_front();
                if is_last {
                    self.cancel(call);
                } else if sending.messages.is_empty() {
                    sending.waker.take().into_iter().for_each(Waker::wake);
                } else {
                    self.begin(call);
                }
            }
            None => {}
        }
    }

    /// The receiver takes so much of the call in all.
    pub(crate) fn limit(&mut self, call: u64, limit: u64) {
        if let Some(sending) = self.calls.get_mut(&call) {
            sending.limit = sending.limit.max(limit);
            self.advance(call);
        }
    }

    /// Nothing more of a call is to be sent; returns whether there was anything.
    pub(crate) fn cancel(&mut self, call: u64) -> bool {
        let Some(sending) = self.calls.remove(&call) else { return false };
        let left: usize = sending.messages.iter().map(|message| message.left).sum();
        self.num_queued -= left;
        if sending.has_turn {
            self.turns.retain(|turn| *turn != call);
        }
        sending.waker.into_iter().for_each(Waker::wake);
        left > 0
    }

    /// Whether messages of the call wait; if so, `waker` is woken when none does any more.
    pub(crate) fn waits(&mut self, call: u64, waker: &Waker) -> bool {
        match self.calls.get_mut(&call) {
            Some(sending) if !sending.messages.is_empty() => {
                sending.waker = Some(waker.clone());
                true
            }
            _ => false,
        }
    }

    /// Whether messages of the call wait.
    pub(crate) fn has_queued(&self, call: u64) -> bool {
        self.calls.get(&call).is_some_and(|sending| !sending.messages.is_empty())
    }

    /// Takes out what is to be written next, into an empty batch; returns whether there is anything.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> bool {
        debug_assert!(batch.is_empty());
        batch.frames.clear();
        std::mem::swap(&mut self.ready, &mut batch.frames);
        self.taken += batch.frames.len() as u64;
        while let Some(call) = self.turns.pop_front() {
            let Some(sending) = self.calls.get_mut(&call) else { continue };
            sending.has_turn = false;
            let Some(message) = sending.messages.front_mut() else { continue };
            let credit = usize::try_from(sending.limit - sending.sent).unwrap_or(usize::MAX);
            let length = message.left.min(MAX_PIECE).min(credit);
            if length == 0 {
                continue;
            }
            batch.frames.reserve(HEADER_BYTES);
            Header { kind: Kind::Piece, more: false, length, call }.put(&mut batch.frames);
            message.take(length, &mut batch.piece);
            sending.sent += length as u64;
            self.num_queued -= length;
            self.advance(call);
            break;
        }
        !batch.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use millstream_values::Value;

    use super::*;

    const WINDOW: u64 = 64 << 10;

    fn bytes(length: usize) -> Encoder {
        let mut encoder = Encoder::default();
        encoder.put_value(&Value::Bytes(vec![7; length].into())).unwrap();
        encoder
    }

    /// What goes out next: kind, call, bytes, of each frame.
    fn next(outbox: &mut Outbox) -> Vec<(Kind, u64, usize)> {
        let mut batch = Batch::default();
        outbox.take(&mut batch);
        batch.piece.iter().for_each(|bytes| batch.frames.extend_from_slice(bytes));
        let (mut frames, mut left) = (Vec::new(), &batch.frames[..]);
        while let Some(header) = Header::peek(left).unwrap() {
            frames.push((header.kind, header.call, header.length));
            left = &left[HEADER_BYTES + header.length..];
        }
        frames
    }

    #[test]
    fn what_is_small_or_urgent_goes_before_pieces_of_what_is_large() {
        let mut outbox = Outbox::new(u64::MAX);
        outbox.push(1, Kind::Start, &mut bytes(200 << 10));
        outbox.push(2, Kind::Start, &mut bytes(200 << 10));
        let first: Vec<_> = next(&mut outbox);
        let announced = INLINE_BYTES + TOTAL_BYTES;
        assert_eq!(
            first,
            [(Kind::Start, 1, announced), (Kind::Start, 2, announced), (Kind::Piece, 1, MAX_PIECE)]
        );
        outbox.push(3, Kind::Start, &mut bytes(10));
        outbox.control(Kind::Cancel, 9, None);
        let then = next(&mut outbox);
        assert_eq!(then, [(Kind::Start, 3, 12), (Kind::Cancel, 9, 0), (Kind::Piece, 2, MAX_PIECE)]);
        assert_eq!(next(&mut outbox), [(Kind::Piece, 1, MAX_PIECE)]);
        assert_eq!(next(&mut outbox), [(Kind::Piece, 2, MAX_PIECE)]);
    }

    #[test]
    fn no_call_sends_beyond_its_credit_or_stops_another() {
        let mut outbox = Outbox::new(WINDOW);
        outbox.push(1, Kind::Start, &mut bytes(200 << 10));
        outbox.push(2, Kind::Start, &mut bytes(20 << 10));
        let mut sent = HashMap::new();
        while !outbox.is_empty() {
            for (kind, call, length) in next(&mut outbox) {
                *sent.entry(call).or_insert(0) += length - if kind == Kind::Start { TOTAL_BYTES } else { 0 };
            }
        }
        assert_eq!(sent[&1], 64 << 10);
        assert!(sent[&2] > 20 << 10 && !outbox.has_queued(2), "all of it");
        assert!(outbox.has_queued(1));
        outbox.limit(1, 65 << 10);
        assert_eq!(next(&mut outbox), [(Kind::Piece, 1, 1 << 10)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_cancelled_call_leaves_nothing_behind() {
        let mut outbox = Outbox::new(u64::MAX);
        outbox.push(1, Kind::Start, &mut bytes(200 << 10));
        next(&mut outbox);
        assert!(outbox.cancel(1));
        assert!(outbox.is_empty() && outbox.num_bytes() == 0);
        assert!(!outbox.cancel(1));
    }

    #[test]
    fn messages_of_a_call_go_in_their_order() {
        let mut outbox = Outbox::new(u64::MAX);
        outbox.push(1, Kind::Part, &mut bytes(100 << 10));
        outbox.push(1, Kind::Part, &mut bytes(10));
        outbox.push(1, Kind::Done, &mut bytes(10));
        let mut frames = Vec::new();
        while !outbox.is_empty() {
            frames.extend(next(&mut outbox));
        }
        let kinds: Vec<_> = frames.iter().map(|frame| frame.0).collect();
        assert_eq!(kinds, [Kind::Part, Kind::Piece, Kind::Piece, Kind::Part, Kind::Done]);
        assert_eq!(outbox.num_bytes(), 0);
        assert!(outbox.calls.is_empty(), "the call is over");
    }

    #[test]
    fn it_is_known_what_has_left() {
        let mut outbox = Outbox::new(u64::MAX);
        let first = outbox.position();
        outbox.push(1, Kind::Start, &mut bytes(10));
        assert!(!outbox.has_left(first));
        next(&mut outbox);
        let second = outbox.position();
        outbox.push(2, Kind::Start, &mut bytes(10));
        assert!(outbox.has_left(first) && !outbox.has_left(second));
    }
}
