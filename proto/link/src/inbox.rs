//! What one end of a link has received of messages that come in pieces, and how much more each call may send. Plain state: it
//! reads from no socket.
//!
//! A call may send a window's worth at its beginning, and as much again as its parts are read. A message beyond that is announced
//! with its length; once the link's budget has room for all of it, its call may send all of it, some pieces at a time: what is on
//! its way is what small messages wait behind. A part gets room only when all
//! parts before it are read. So a message that has room always arrives whole, the bytes in pieces are never more than the
//! budget and a window for each call, and a slow reader stops its own call and no other.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::codec::MAX_MESSAGE_BYTES;
use crate::frame::Kind;

/// What a call may send before it is given more.
pub(crate) const WINDOW: u64 = 64 << 10;
/// Bytes of a large message that may be on their way.
const MAX_FLIGHT: u64 = 512 << 10;
/// Bytes of large messages that are received at a time.
pub(crate) const BUDGET: usize = 256 << 20;

/// What the other end of a call did that it may not; the call ends, the link does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// It sent more than it had credit for.
    #[error("more was sent than there was credit for")]
    Credit,
    /// It announced a message that is larger than any may be.
    #[error("a message of {0} bytes was announced, at most {MAX_MESSAGE_BYTES} may be sent")]
    TooLarge(usize),
    /// It sent something in the middle of a message, or beyond its end.
    #[error("the pieces of a message do not fit together")]
    Pieces,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    calls: HashMap<u64, Receiving>,
    window: u64,
    /// Bytes left for large messages.
    budget: usize,
    /// Calls that wait for room, first come first.
    waiting: VecDeque<u64>,
    /// Calls that may send more, and how much in all: to be told to the other end.
    limits: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Receiving {
    received: u64,
    /// Of that, what has been read by whom it is for.
    read: u64,
    /// How much may come in all.
    limit: u64,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    kind: Kind,
    total: usize,
    bytes: BytesMut,
    /// What it takes of the budget.
    reserved: usize,
    since: Instant,
}

/// A message whose pieces are all there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
    /// When the first of it came.
    pub(crate) since: Instant,
}

impl Receiving {
    /// Lets a message that has room go on.
    fn go_on(&mut self, call: u64, limits: &mut Vec<(u64, u64)>) {
        let Some(partial) = self.partial.as_ref().filter(|partial| partial.reserved > 0) else { return };
        let end = self.received + (partial.total - partial.bytes.len()) as u64;
        let limit = end.min(self.received + MAX_FLIGHT);
        if limit >= self.limit + MAX_FLIGHT / 2 || limit == end && limit > self.limit {
            self.limit = limit;
            limits.push((call, limit));
        }
    }
}

impl Inbox {
    /// Nothing received yet; each call may send `window` bytes, and all large messages take `budget` bytes at most.
    pub(crate) fn new(window: u64, budget: usize) -> Self {
        Self { calls: HashMap::new(), window, budget, waiting: VecDeque::new(), limits: Vec::new() }
    }

    fn receiving(&mut self, call: u64) -> &mut Receiving {
        let limit = self.window;
        self.calls.entry(call).or_insert_with(|| Receiving { limit, ..Receiving::default() })
    }

    /// A message came in one frame, after which others of the call come.
    pub(crate) fn whole(&mut self, call: u64, length: usize) -> Result<(), Violation> {
        let receiving = self.receiving(call);
        receiving.received += length as u64;
        if receiving.partial.is_some() {
            Err(Violation::Pieces)
        } else if receiving.received > receiving.limit {
            Err(Violation::Credit)
        } else {
            Ok(())
        }
    }

    /// The first piece of a message of that many bytes.
    pub(crate) fn begin(
        &mut self,
        call: u64,
        kind: Kind,
        total: usize,
        piece: &[u8],
        now: Instant,
    ) -> Result<Option<Complete>, Violation> {
        let receiving = self.receiving(call);
        if receiving.partial.is_some() || piece.len() > total {
            return Err(Violation::Pieces);
        }
        if total > MAX_MESSAGE_BYTES {
            return Err(Violation::TooLarge(total));
        }
        let partial = Partial { kind, total, bytes: BytesMut::new(), reserved: 0, since: now };
        receiving.partial = Some(partial);
        self.ask_for_room(call);
        self.piece(call, piece)
    }

    /// Lets a call wait for room for its message, if it needs any and may have it now.
    fn ask_for_room(&mut self, call: u64) {
        let Some(receiving) = self.calls.get(&call) else { return };
        let Some(partial) = &receiving.partial else { return };
        let before = receiving.received - partial.bytes.len() as u64;
        let needs_room = before + partial.total as u64 > receiving.limit;
        let may_have_it = partial.kind != Kind::Part || receiving.read >= before;
        if needs_room && may_have_it && partial.reserved == 0 && !self.waiting.contains(&call) {
            self.waiting.push_back(call);
            self.give_room();
        }
    }

    /// Gives room to calls that wait for it, in their order, while there is any.
    fn give_room(&mut self) {
        while let Some(&call) = self.waiting.front() {
            if let Some(receiving) = self.calls.get_mut(&call)
                && let Some(partial) = &mut receiving.partial
            {
                let left = partial.total - partial.bytes.len();
                if partial.total > self.budget {
                    return;
                }
                self.budget -= partial.total;
                partial.reserved = partial.total;
                partial.bytes.reserve(left);
                receiving.go_on(call, &mut self.limits);
            }
            self.waiting.pop_front();
        }
    }

    /// The next piece of a call's message; returns the message when it is complete.
    pub(crate) fn piece(&mut self, call: u64, piece: &[u8]) -> Result<Option<Complete>, Violation> {
        let Some(receiving) = self.calls.get_mut(&call) else { return Err(Violation::Pieces) };
        let Some(partial) = &mut receiving.partial else { return Err(Violation::Pieces) };
        receiving.received += piece.len() as u64;
        if receiving.received > receiving.limit {
            return Err(Violation::Credit);
        }
        if partial.bytes.len() + piece.len() > partial.total {
            return Err(Violation::Pieces);
        }
        partial.bytes.extend_from_slice(piece);
        if partial.bytes.len() < partial.total {
            receiving.go_on(call, &mut self.limits);
            return Ok(None);
        }
        let done = receiving.partial.take();
        let complete = done.map(|partial| {
            self.budget += partial.reserved;
            Complete { kind: partial.kind, bytes: partial.bytes.freeze(), since: partial.since }
        });
        self.give_room();
        Ok(complete)
    }

    /// So many bytes of a call's messages have been read: it may send as many more.
    pub(crate) fn read(&mut self, call: u64, num_bytes: usize) {
        let window = self.window;
        let Some(receiving) = self.calls.get_mut(&call) else { return };
        receiving.read += num_bytes as u64;
        let limit = receiving.read + window;
        // Told in steps of half a window: each is a frame.
        if limit >= receiving.limit + window / 2 {
            receiving.limit = limit;
            self.limits.push((call, limit));
        }
        self.ask_for_room(call);
    }

    /// The call is over.
    pub(crate) fn forget(&mut self, call: u64) {
        let Some(receiving) = self.calls.remove(&call) else { return };
        self.limits.retain(|(limited, _)| *limited != call);
        if let Some(partial) = receiving.partial {
            self.budget += partial.reserved;
            self.waiting.retain(|waiting| *waiting != call);
            self.give_room();
        }
    }

    /// What the other end is to be told: calls, and how much they may send in all.
    pub(crate) fn take_limits(&mut self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.limits.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        millstream_clock::now()
    }

    fn limits(inbox: &mut Inbox) -> Vec<(u64, u64)> {
        inbox.take_limits().collect()
    }

    #[test]
    fn a_message_arrives_whole_once_there_is_room_for_it() {
        let mut inbox = Inbox::new(10, 100);
        assert_eq!(inbox.begin(1, Kind::Start, 90, &[1; 10], now()), Ok(None));
        assert_eq!(limits(&mut inbox), [(1, 90)]);
        // There is no room for another large one, and none passes it.
        assert_eq!(inbox.begin(2, Kind::Start, 50, &[2; 5], now()), Ok(None));
        assert_eq!(inbox.begin(3, Kind::Start, 11, &[3; 5], now()), Ok(None));
        assert_eq!(limits(&mut inbox), []);
        // One that fits its window needs no room.
        assert!(inbox.begin(4, Kind::Start, 10, &[4; 10], now()).unwrap().is_some());
        let complete = inbox.piece(1, &[1; 80]).unwrap().unwrap();
        assert_eq!((complete.kind, complete.bytes.len()), (Kind::Start, 90));
        assert_eq!(limits(&mut inbox), [(2, 50), (3, 11)]);
        inbox.forget(2);
        assert!(inbox.piece(3, &[3; 6]).unwrap().is_some());
        assert_eq!(inbox.budget, 100);
    }

    #[test]
    fn whoever_does_not_keep_to_the_rules_is_found_out() {
        let mut inbox = Inbox::new(10, 100);
        assert_eq!(inbox.piece(1, &[0]), Err(Violation::Pieces));
        assert_eq!(inbox.begin(2, Kind::Start, 200, &[0; 11], now()), Err(Violation::Credit));
        assert_eq!(inbox.begin(3, Kind::Start, 5, &[0; 6], now()), Err(Violation::Pieces));
        let huge = MAX_MESSAGE_BYTES + 1;
        assert_eq!(inbox.begin(4, Kind::Start, huge, &[], now()), Err(Violation::TooLarge(huge)));
        assert_eq!(inbox.begin(5, Kind::Part, 8, &[0; 4], now()), Ok(None));
        assert_eq!(inbox.whole(5, 1), Err(Violation::Pieces));
        assert_eq!(inbox.piece(5, &[0; 5]), Err(Violation::Pieces));
        assert_eq!(inbox.whole(6, 6), Ok(()));
        assert_eq!(inbox.whole(6, 6), Err(Violation::Credit));
    }

    #[test]
    fn a_reader_that_reads_nothing_stops_parts_of_any_size() {
        let mut inbox = Inbox::new(100, 1000);
        inbox.whole(1, 90).unwrap();
        assert_eq!(inbox.begin(1, Kind::Part, 30, &[0; 10], now()), Ok(None));
        assert_eq!(limits(&mut inbox), []);
        inbox.read(1, 90);
        assert_eq!(limits(&mut inbox), [(1, 190)]);
        assert!(inbox.piece(1, &[0; 20]).unwrap().is_some());
        // Nothing of the next one is read; it is larger than a window.
        assert_eq!(inbox.begin(1, Kind::Part, 500, &[0; 10], now()), Ok(None));
        assert_eq!(limits(&mut inbox), []);
        inbox.read(1, 30);
        assert_eq!(limits(&mut inbox), [(1, 620)]);
    }

    #[test]
    fn parts_are_given_credit_for_as_they_are_read() {
        let mut inbox = Inbox::new(100, 1000);
        inbox.whole(1, 60).unwrap();
        inbox.whole(1, 40).unwrap();
        inbox.read(1, 40);
        assert_eq!(limits(&mut inbox), [], "too little to be told");
        inbox.read(1, 60);
        assert_eq!(limits(&mut inbox), [(1, 200)]);
        inbox.whole(1, 100).unwrap();
        // A large message on top of what was read.
        inbox.read(1, 100);
        assert_eq!(limits(&mut inbox), [(1, 300)]);
        assert_eq!(inbox.begin(1, Kind::Done, 500, &[0; 10], now()), Ok(None));
        assert_eq!(limits(&mut inbox), [(1, 700)]);
        inbox.forget(1);
        assert_eq!(inbox.budget, 1000);
    }
}
