//! Connections between processes, as gRPC streams are: messages of one direction arrive in order or not at all, and what
//! was under way when a stream breaks is lost. Each end learns of the break in its own time.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::clock::{Agenda, Event, Host, Process};
use crate::message::{ConnId, End, Message};

#[derive(Debug)]
struct Conn {
    ends: [Process; 2],
    open: [bool; 2],
    /// Earliest arrival of the next message towards each end.
    next: [Duration; 2],
    /// Nothing gets through any more.
    cut: bool,
}

/// How long messages take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) usual: Duration,
    /// One message in so many takes up to `tail`; 0 for none.
    pub(crate) one_in: u32,
    pub(crate) tail: Duration,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) latency: Latency,
    conns: BTreeMap<ConnId, Conn>,
    last: ConnId,
    /// The running process of each host.
    live: BTreeMap<Host, Process>,
    /// Links that carry nothing until then.
    blocked: BTreeMap<(Host, Host), Duration>,
}

impl Network {
    pub(crate) fn new(latency: Latency) -> Self {
        let (conns, live, blocked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { latency, conns, last: 0, live, blocked }
    }

    pub(crate) fn started(&mut self, process: Process) {
        self.live.insert(process.host, process);
    }

    /// Opens a connection; `None` when nobody answers there.
    pub(crate) fn dial(&mut self, from: Process, to: Host, now: Duration) -> Option<ConnId> {
        let to = *self.live.get(&to)?;
        if self.is_blocked(from.host, to.host, now) {
            return None;
        }
        self.last += 1;
        let conn = Conn { ends: [from, to], open: [true; 2], next: [now; 2], cut: false };
        self.conns.insert(self.last, conn);
        Some(self.last)
    }

    fn is_blocked(&self, a: Host, b: Host, now: Duration) -> bool {
        self.blocked.get(&(a.min(b), a.max(b))).is_some_and(|until| *until > now)
    }

    /// Sends a message from an end; into a broken connection it is lost.
    pub(crate) fn send(
        &mut self,
        (conn, from): (ConnId, End),
        message: Message,
        agenda: &mut Agenda,
        rng: &mut SmallRng,
    ) {
        let delay = self.delay(rng);
        let Some(there) = self.conns.get_mut(&conn) else { return };
        let to = from.other();
        if there.cut || !there.open[from.index()] {
            return;
        }
        let next = &mut there.next[to.index()];
        *next = (*next).max(agenda.now() + delay);
        agenda.at(*next, Event::Deliver { conn, to, message: Box::new(message) });
    }

    fn delay(&self, rng: &mut SmallRng) -> Duration {
        let Latency { usual, one_in, tail } = self.latency;
        if one_in > 0 && rng.random_range(0..one_in) == 0 {
            return tail.mul_f64(rng.random());
        }
        usual.mul_f64(0.2 + rng.random::<f64>())
    }

    /// The process that a message reaches; `None` when it is lost.
    pub(crate) fn receiver(&self, conn: ConnId, to: End) -> Option<Process> {
        let there = self.conns.get(&conn)?;
        (!there.cut && there.open[to.index()]).then(|| there.ends[to.index()])
    }

    /// The process at an end that has not yet learned that the connection is over.
    pub(crate) fn open_end(&self, conn: ConnId, to: End) -> Option<Process> {
        let there = self.conns.get(&conn)?;
        there.open[to.index()].then(|| there.ends[to.index()])
    }

    /// An end closes, or has learned that the connection is over: the other learns it behind all that was said.
    pub(crate) fn close(&mut self, conn: ConnId, by: End, agenda: &mut Agenda) {
        let Some(there) = self.conns.get_mut(&conn) else { return };
        there.open[by.index()] = false;
        let to = by.other();
        if !there.open[to.index()] {
            self.conns.remove(&conn);
        } else if !there.cut {
            let when = there.next[to.index()].max(agenda.now() + self.latency.usual);
            there.next[to.index()] = when;
            agenda.at(when, Event::Closed { conn, to });
        }
    }

    /// Connections with the process at an end.
    fn of(&self, process: Process) -> Vec<(ConnId, End)> {
        let end = |(id, conn): (&ConnId, &Conn)| {
            let dialler = (conn.ends[0] == process).then_some((*id, End::Dialler));
            dialler.or_else(|| (conn.ends[1] == process).then_some((*id, End::Accepter)))
        };
        self.conns.iter().filter_map(end).collect()
    }

    fn between(&self, a: Host, b: Host) -> Vec<ConnId> {
        let joins = |conn: &Conn| {
            let [x, y] = conn.ends.map(|end| end.host);
            (x, y) == (a, b) || (x, y) == (b, a)
        };
        self.conns.iter().filter(|(_, conn)| joins(conn)).map(|(id, _)| *id).collect()
    }

    /// The process is gone, its machine is not: what it had said arrives, then its peers learn of it.
    pub(crate) fn died(&mut self, process: Process, agenda: &mut Agenda) {
        self.live.remove(&process.host);
        for (conn, end) in self.of(process) {
            self.close(conn, end, agenda);
        }
    }

    /// The machine is gone: its peers learn of it by silence.
    pub(crate) fn lost_power(&mut self, process: Process, agenda: &mut Agenda, rng: &mut SmallRng) {
        self.live.remove(&process.host);
        for (conn, end) in self.of(process) {
            self.cut(conn, silence(rng), agenda, rng);
            self.close(conn, end, agenda);
        }
    }

    /// The process says nothing for a while: peers that wait longer than they like close.
    pub(crate) fn paused(
        &mut self,
        process: Process,
        lasts: Duration,
        agenda: &mut Agenda,
        rng: &mut SmallRng,
    ) {
        for (conn, end) in self.of(process) {
            let notice = silence(rng);
            if notice < lasts {
                agenda.after(notice, Event::Closed { conn, to: end.other() });
            }
        }
    }

    /// Breaks all connections between two hosts at once.
    pub(crate) fn reset(&mut self, a: Host, b: Host, agenda: &mut Agenda, rng: &mut SmallRng) {
        for conn in self.between(a, b) {
            self.cut(conn, Duration::from_millis(50), agenda, rng);
        }
    }

    /// Lets nothing through between two hosts for a while.
    pub(crate) fn partition(
        &mut self,
        (a, b): (Host, Host),
        lasts: Duration,
        agenda: &mut Agenda,
        rng: &mut SmallRng,
    ) {
        self.blocked.insert((a.min(b), a.max(b)), agenda.now() + lasts);
        for conn in self.between(a, b) {
            let notice = silence(rng);
            self.cut(conn, notice, agenda, rng);
        }
    }

    /// Lets everything through between two hosts, but late.
    pub(crate) fn stall(
        &mut self,
        (a, b): (Host, Host),
        lasts: Duration,
        agenda: &mut Agenda,
        rng: &mut SmallRng,
    ) {
        let until = agenda.now() + lasts;
        for conn in self.between(a, b) {
            let notice = silence(rng);
            if let Some(there) = self.conns.get_mut(&conn) {
                there.next = there.next.map(|next| next.max(until));
            }
            if notice < lasts {
                agenda.after(notice, Event::Closed { conn, to: End::Dialler });
            }
        }
    }

    /// Everything gets through from now on.
    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    fn cut(&mut self, conn: ConnId, within: Duration, agenda: &mut Agenda, rng: &mut SmallRng) {
        let Some(there) = self.conns.get_mut(&conn).filter(|there| !there.cut) else { return };
        there.cut = true;
        for to in [End::Dialler, End::Accepter] {
            agenda.after(within.mul_f64(0.2 + 0.8 * rng.random::<f64>()), Event::Closed { conn, to });
        }
    }
}

/// How long an end waits for a sign of life before it closes.
fn silence(rng: &mut SmallRng) -> Duration {
    Duration::from_millis(rng.random_range(2_500..6_500))
}
