//! Outbox and inbox against one another: whatever the windows, the room and the order of reading, every message arrives, whole and
//! in order, and nobody sends more than it has credit for.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use millstream_values::Value;
use proptest::prelude::*;

use crate::codec::Encoder;
use crate::frame::{HEADER_BYTES, Header, Kind, TOTAL_BYTES};
use crate::inbox::Inbox;
use crate::outbox::{Batch, Outbox};

/// A call's messages by their lengths: parts, and then an answer.
type Script = Vec<usize>;

struct World {
    outbox: Outbox,
    inbox: Inbox,
    /// Lengths of the messages that came, by call.
    came: BTreeMap<u64, Vec<usize>>,
    /// Parts that wait to be read.
    unread: VecDeque<(u64, usize)>,
}

fn message(length: usize) -> Encoder {
    let mut encoder = Encoder::default();
    encoder.put_value(&Value::Bytes(vec![7; length].into())).unwrap();
    encoder
}

impl World {
    /// What the sender may send reaches the receiver; returns whether there was anything.
    fn carry(&mut self) -> Result<bool, TestCaseError> {
        let mut batch = Batch::default();
        if !self.outbox.take(&mut batch) {
            return Ok(false);
        }
        let mut bytes = BytesMut::from(&batch.frames[..]);
        batch.piece.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let mut left = &bytes[..];
        while let Some(header) = Header::peek(left).unwrap() {
            let payload = &left[HEADER_BYTES..HEADER_BYTES + header.length];
            self.receive(header, payload)?;
            left = &left[HEADER_BYTES + header.length..];
        }
        prop_assert!(left.is_empty(), "frames are whole");
        for (call, limit) in self.inbox.take_limits() {
            self.outbox.limit(call, limit);
        }
        Ok(true)
    }

    fn receive(&mut self, header: Header, payload: &[u8]) -> Result<(), TestCaseError> {
        let Header { kind, more, call, length } = header;
        let complete = match kind {
            Kind::Piece => self.inbox.piece(call, payload),
            _ if more => {
                let total = u32::from_le_bytes(payload[..TOTAL_BYTES].try_into().unwrap()) as usize;
                self.inbox.begin(call, kind, total, &payload[TOTAL_BYTES..], millstream_clock::now())
            }
            _ => self.inbox.whole(call, length).map(|()| None),
        };
        let complete = complete.map_err(|violation| TestCaseError::fail(violation.to_string()))?;
        let (kind, length) = match complete {
            Some(complete) => (complete.kind, complete.bytes.len()),
            None if kind != Kind::Piece && !more => (kind, length),
            None => return Ok(()),
        };
        self.came.entry(call).or_default().push(length);
        match kind {
            Kind::Part => self.unread.push_back((call, length)),
            _ => self.inbox.forget(call),
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let Some((call, length)) = self.unread.remove(at % self.unread.len().max(1)) else { return };
        self.inbox.read(call, length);
        for (call, limit) in self.inbox.take_limits() {
            self.outbox.limit(call, limit);
        }
    }
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let length = prop_oneof![4 => 0_usize..200, 2 => 0_usize..40_000, 1 => 0_usize..300_000];
    prop::collection::vec(prop::collection::vec(length, 1..6), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_message_arrives_whatever_the_windows(
        scripts in scripts(), window in 1_u64..100_000, spare in 0_usize..500_000, order in any::<u64>()
    ) {
        let largest = scripts.iter().flatten().max().copied().unwrap_or_default() + 16;
        let mut world = World {
            outbox: Outbox::new(window),
            inbox: Inbox::new(window, largest + spare),
            came: BTreeMap::new(),
            unread: VecDeque::new(),
        };
        let mut expected = BTreeMap::new();
        for (call, script) in scripts.iter().enumerate() {
            let call = call as u64;
            for (at, length) in script.iter().enumerate() {
                let mut encoder = message(*length);
                expected.entry(call).or_insert_with(Vec::new).push(encoder.len());
                let kind = if at + 1 == script.len() { Kind::Done } else { Kind::Part };
                world.outbox.push(call, kind, &mut encoder);
            }
        }
        let mut order = order;
        loop {
            // Reading goes on in any order, and with any number of frames in between.
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let carried = order % 3 != 0 && world.carry()?;
            if !carried && world.unread.is_empty() && !world.carry()? {
                break;
            }
            if !carried {
                world.read((order >> 33) as usize);
            }
        }
        prop_assert_eq!(world.came, expected);
        prop_assert_eq!(world.outbox.num_bytes(), 0);
    }
}
