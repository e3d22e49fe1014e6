//! Whether a connection is still worth keeping, as a plain function of what happened on it.
//!
//! One record per connection instead of a timer per request: what is read, written and asked for is noted with its
//! instant, and a slow tick asks for the verdict. hyper's own header timer also runs between requests and costs an
//! allocation for each; it stays off.

use std::time::{Duration, Instant};

use crate::ConnectionLimits;

/// The first bytes of HTTP/2.
const H2_PREFACE_START: &[u8] = b"PRI";

/// How long a connection may take to end that was told to.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activity {
    protocol: Protocol,
    /// When it was opened, or its last request ended.
    idle_since: Instant,
    /// When the first bytes of a header block came, while it is incomplete (HTTP/1 alone).
    head_since: Option<Instant>,
    /// What the client takes of what is written to it, while it does not take all of it.
    taking: Option<Taking>,
    /// Requests whose answer is not complete.
    num_requests: u32,
    /// When it was told to close.
    closing_since: Option<Instant>,
}

/// How fast a client takes what is there for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taking {
    since: Instant,
    num_bytes: usize,
}

/// Bytes a second that a client must take while there are some for it.
const MIN_RATE: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Nothing was read.
    Silent,
    /// A TLS handshake is under way: what it reads is not noted here.
    Handshake,
    Http1,
    Http2,
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave it alone.
    Keep,
    /// Let what is under way finish, take nothing new.
    Close,
    /// End it now.
    Abort,
}

impl Activity {
    /// A connection that was opened now.
    pub(crate) fn opened(now: Instant) -> Self {
        let protocol = Protocol::Silent;
        let (head_since, taking, closing_since) = (None, None, None);
        Self { protocol, idle_since: now, head_since, taking, num_requests: 0, closing_since }
    }

    /// Bytes came.
    pub(crate) fn read(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        if self.protocol == Protocol::Silent {
            let http2 =
                bytes.starts_with(H2_PREFACE_START) || bytes == &H2_PREFACE_START[..bytes.len().min(3)];
            self.protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        }
        if self.protocol == Protocol::Http1 && self.num_requests == 0 {
            self.head_since.get_or_insert(now);
        }
    }

    /// The client took bytes.
    pub(crate) fn wrote(&mut self, num_bytes: usize) {
        if let Some(taking) = &mut self.taking {
            taking.num_bytes = taking.num_bytes.saturating_add(num_bytes);
        }
    }

    /// The client takes no bytes at the moment.
    pub(crate) fn blocked(&mut self, now: Instant) {
        self.taking.get_or_insert(Taking { since: now, num_bytes: 0 });
    }

    /// The client has taken all that there was for it.
    pub(crate) fn flushed(&mut self) {
        self.taking = None;
    }

    /// A TLS handshake begins.
    pub(crate) fn securing(&mut self, now: Instant) {
        *self =
            Self { protocol: Protocol::Handshake, closing_since: self.closing_since, ..Self::opened(now) };
    }

    /// What has been read was not what is spoken here, but came before it: the connection is as new.
    pub(crate) fn introduced(&mut self, now: Instant) {
        *self = Self { closing_since: self.closing_since, ..Self::opened(now) };
    }

    /// A header block was complete.
    pub(crate) fn request_started(&mut self) {
        self.head_since = None;
        self.num_requests += 1;
    }

    /// An answer is complete, or given up.
    pub(crate) fn request_ended(&mut self, now: Instant) {
        self.num_requests = self.num_requests.saturating_sub(1);
        self.idle_since = now;
    }

    /// It was told to close.
    pub(crate) fn told_to_close(&mut self, now: Instant) {
        self.closing_since.get_or_insert(now);
    }

    /// Since when it has had no request; `None` while it has one.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.num_requests == 0).then_some(self.idle_since)
    }

    /// What to do now.
    pub(crate) fn verdict(&mut self, limits: &ConnectionLimits, now: Instant) -> Verdict {
        let longer = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if let Some(taking) = self.taking.filter(|taking| longer(taking.since, limits.write)) {
            if (taking.num_bytes as u64) < MIN_RATE.saturating_mul(limits.write.as_secs()).max(1) {
                return Verdict::Abort;
            }
            self.taking = Some(Taking { since: now, num_bytes: 0 });
        }
        let begin = match self.protocol {
            Protocol::Silent => Some(limits.first_byte),
            Protocol::Handshake => Some(limits.handshake),
            Protocol::Http1 | Protocol::Http2 => None,
        };
        if self.num_requests == 0 && begin.is_some_and(|limit| longer(self.idle_since, limit)) {
            return Verdict::Abort;
        }
        if self.head_since.is_some_and(|since| longer(since, limits.headers)) {
            return Verdict::Abort;
        }
        // Whoever does not close when told to is not waited for: HTTP/2 leaves that to the client.
        if self.num_requests == 0 && self.closing_since.is_some_and(|since| longer(since, CLOSE_TIME)) {
            return Verdict::Abort;
        }
        if self.num_requests == 0 && longer(self.idle_since, limits.idle) {
            return Verdict::Close;
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Read(&'static [u8]),
        Blocked,
        Wrote(usize),
        Flushed,
        Judged,
        Securing,
        Introduced,
        Started,
        Ended,
        ToldToClose,
    }

    /// Name, events with their second, the second of the verdict, the verdict.
    type Case<'a> = (&'a str, &'a [(u64, Event)], u64, Verdict);

    fn verdict(events: &[(u64, Event)], at_s: u64) -> Verdict {
        let opened = millstream_clock::now();
        let mut activity = Activity::opened(opened);
        for &(second, event) in events {
            let now = opened + Duration::from_secs(second);
            match event {
                Event::Read(bytes) => activity.read(bytes, now),
                Event::Blocked => activity.blocked(now),
                Event::Wrote(num_bytes) => activity.wrote(num_bytes),
                Event::Flushed => activity.flushed(),
                Event::Judged => drop(activity.verdict(&ConnectionLimits::default(), now)),
                Event::Securing => activity.securing(now),
                Event::Introduced => activity.introduced(now),
                Event::Started => activity.request_started(),
                Event::Ended => activity.request_ended(now),
                Event::ToldToClose => activity.told_to_close(now),
            }
        }
        activity.verdict(&ConnectionLimits::default(), opened + Duration::from_secs(at_s))
    }

    #[test]
    fn verdicts_follow_from_what_happened() {
        use Event::{
            Blocked, Ended, Flushed, Introduced, Judged, Read, Securing, Started, ToldToClose, Wrote,
        };
        use Verdict::{Abort, Close, Keep};
        let asked: [(u64, Event); 2] = [(1, Read(b"POST / HTTP/1.1\r\n\r\n")), (1, Started)];
        let served = [asked[0], asked[1], (2, Ended)];
        let http2 = [(1, Read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))];
        let told = [http2[0], (60, ToldToClose)];
        let table: [Case; 24] = [
            ("silent for a moment", &[], 4, Keep),
            ("silent too long", &[], 5, Abort),
            ("header block under way", &[(1, Read(b"POST"))], 10, Keep),
            ("header block too slow", &[(1, Read(b"PO")), (9, Read(b"S"))], 11, Abort),
            ("request under way for long", &asked, 500, Keep),
            ("idle between requests", &served, 61, Keep),
            ("idle too long", &served, 62, Close),
            ("second header block too slow", &[served[0], served[1], served[2], (20, Read(b"P"))], 30, Abort),
            ("HTTP/2 without a request yet", &http2, 30, Keep),
            ("HTTP/2 idle too long", &[http2[0], (55, Read(b"ping"))], 60, Close),
            ("told to close a moment ago", &told, 69, Close),
            ("does not close when told to", &told, 70, Abort),
            ("was asked meanwhile", &[told[0], told[1], (61, Started)], 75, Keep),
            ("answer not taken", &[asked[0], asked[1], (3, Blocked)], 33, Abort),
            ("answer taken byte by byte", &[asked[0], asked[1], (3, Blocked), (20, Wrote(9_000))], 33, Abort),
            ("answer taken slowly", &[asked[0], asked[1], (3, Blocked), (20, Wrote(40_000))], 33, Keep),
            (
                "answer no longer taken",
                &[asked[0], asked[1], (3, Blocked), (20, Wrote(40_000)), (33, Judged)],
                63,
                Abort,
            ),
            ("answer taken", &[asked[0], asked[1], (3, Blocked), (20, Flushed)], 50, Keep),
            ("busy from the start", &[(1, Introduced), (1, Started)], 90, Keep),
            ("silent after a handshake", &[(1, Read(b"hello")), (2, Introduced)], 7, Abort),
            ("a handshake under way", &[(4, Securing)], 8, Keep),
            ("a handshake that stalls", &[(4, Securing)], 9, Abort),
            ("silent after a TLS handshake", &[(1, Securing), (2, Introduced)], 7, Abort),
            ("a lone P could be either", &[(0, Read(b"P"))], 9, Keep),
        ];
        for (name, events, at_s, expected) in table {
            assert_eq!(verdict(events, at_s), expected, "{name}");
        }
    }
}
