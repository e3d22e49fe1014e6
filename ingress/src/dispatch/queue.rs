//! Requests that wait for a place, in the order in which they are served: the urgent first; among equals fairly by
//! tenant, so that one who sends much waits behind its own requests and not before those of others; of one tenant, first
//! come first served.
//!
//! Fairness is start-time fair queueing (Goyal, Vin, Cheng, 1996): a request starts, in virtual time, when the previous
//! one of its tenant ends, or now; each takes 1/weight of it. The earliest start is served first, and virtual time is the
//! start of what was served last. A tenant that has been away gains no credit by it.

use std::collections::{BTreeMap, HashMap};

use millstream_proto::call::Priority;

/// Virtual time that a request of weight 1 takes.
const REQUEST: u64 = 1 << 32;

/// A waiting request; never used twice.
pub type Ticket = u64;

/// What a request may claim of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueClass {
    /// Before whom it goes.
    pub priority: Priority,
    /// On whose account.
    pub tenant: u32,
    /// The tenant's share beside others of the same priority; 0 counts as 1.
    pub weight: u32,
}

/// Where a request stands; in the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Priority,
    start: u64,
    ticket: Ticket,
}

impl Place {
    /// The request's ticket.
    pub(super) fn ticket(self) -> Ticket {
        self.ticket
    }
}

/// Requests of one priority.
#[derive(Debug, Clone, PartialEq, Default)]
struct Lane {
    virtual_time: u64,
    /// When the last request of each tenant ends, in virtual time.
    ends: HashMap<u32, u64>,
    len: usize,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FairQueue<T> {
    entries: BTreeMap<Place, T>,
    places: HashMap<Ticket, Place>,
    lanes: [Lane; 3],
    next_ticket: Ticket,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), places: HashMap::new(), lanes: Default::default(), next_ticket: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request; returns its ticket.
    pub(super) fn push(&mut self, claim: QueueClass, entry: T) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lane = &mut self.lanes[claim.priority as usize];
        let end = lane.ends.entry(claim.tenant).or_default();
        let start = (*end).max(lane.virtual_time);
        *end = start.saturating_add(REQUEST / u64::from(claim.weight.max(1)));
        lane.len += 1;
        let place = Place { priority: claim.priority, start, ticket };
        self.places.insert(ticket, place);
        self.entries.insert(place, entry);
        ticket
    }

    /// Takes out a request that is served.
    pub(super) fn serve(&mut self, ticket: Ticket) {
        if let Some(place) = self.remove(ticket) {
            let lane = &mut self.lanes[place.priority as usize];
            // A lane that is empty now begins anew.
            if lane.len > 0 {
                lane.virtual_time = lane.virtual_time.max(place.start);
            }
        }
    }

    /// Takes out a request that no longer waits.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Place> {
        let place = self.places.remove(&ticket)?;
        self.entries.remove(&place);
        let lane = &mut self.lanes[place.priority as usize];
        lane.len -= 1;
        if lane.len == 0 {
            *lane = Lane::default();
        }
        Some(place)
    }

    /// The first request, or the first behind a place.
    pub(super) fn next(&self, behind: Option<Place>) -> Option<(Place, &T)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = behind.map_or(Unbounded, Excluded);
        self.entries.range((from, Unbounded)).next().map(|(place, entry)| (*place, entry))
    }

    /// The request that is served last.
    fn last(&self) -> Option<Ticket> {
        self.entries.last_key_value().map(|(place, _)| place.ticket)
    }

    /// Whether a request that came now would be served behind that one.
    pub(super) fn would_be_behind(&self, claim: QueueClass, ticket: Ticket) -> bool {
        let lane = &self.lanes[claim.priority as usize];
        let end = lane.ends.get(&claim.tenant).copied().unwrap_or_default();
        let place =
            Place { priority: claim.priority, start: end.max(lane.virtual_time), ticket: self.next_ticket };
        self.places.get(&ticket).is_some_and(|there| *there < place)
    }

    /// The request that is served last of those for which this holds.
    pub(super) fn last_where(&self, holds: impl Fn(&T) -> bool) -> Option<Ticket> {
        let mut from_behind = self.entries.iter().rev();
        from_behind.find(|(_, entry)| holds(entry)).map(|(place, _)| place.ticket)
    }

    /// How many are served before that one.
    pub(super) fn num_before(&self, ticket: Ticket) -> usize {
        let Some(place) = self.places.get(&ticket) else { return 0 };
        if self.last() == Some(ticket) { self.len() - 1 } else { self.entries.range(..place).count() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(priority: Priority, tenant: u32, weight: u32) -> QueueClass {
        QueueClass { priority, tenant, weight }
    }

    fn fill(queue: &mut FairQueue<u32>, count: usize, tenant: u32) {
        for _ in 0..count {
            queue.push(claim(Priority::Normal, tenant, 1), tenant);
        }
    }

    /// Tenants in the order in which they are served.
    fn drain(queue: &mut FairQueue<u32>, count: usize) -> Vec<u32> {
        let mut served = Vec::new();
        while let Some((place, &tenant)) = queue.next(None).filter(|_| served.len() < count) {
            queue.serve(place.ticket());
            served.push(tenant);
        }
        served
    }

    #[test]
    fn the_urgent_go_first_and_equals_as_they_came() {
        let mut queue = FairQueue::new();
        for (priority, name) in [
            (Priority::Low, 0),
            (Priority::Normal, 1),
            (Priority::Normal, 2),
            (Priority::High, 3),
            (Priority::Normal, 4),
        ] {
            queue.push(claim(priority, 0, 1), name);
        }
        assert_eq!(drain(&mut queue, 9), [3, 1, 2, 4, 0]);
    }

    #[test]
    fn a_heavy_tenant_waits_behind_itself() {
        let mut queue = FairQueue::new();
        fill(&mut queue, 100, 1);
        assert_eq!(drain(&mut queue, 10), [1; 10]);
        fill(&mut queue, 3, 2);
        let next = drain(&mut queue, 8);
        assert_eq!(next.iter().filter(|&&tenant| tenant == 2).count(), 3, "{next:?}");
    }

    #[test]
    fn weights_are_shares() {
        let mut queue = FairQueue::new();
        for _ in 0..300 {
            queue.push(claim(Priority::Normal, 1, 1), 1);
            queue.push(claim(Priority::Normal, 3, 3), 3);
        }
        let served = drain(&mut queue, 200);
        let heavy = served.iter().filter(|&&tenant| tenant == 3).count();
        assert!((145..=155).contains(&heavy), "three of four: {heavy}");
    }

    #[test]
    fn who_was_away_gains_no_credit() {
        let mut queue = FairQueue::new();
        fill(&mut queue, 50, 1);
        drain(&mut queue, 40);
        fill(&mut queue, 50, 2);
        let served = drain(&mut queue, 20);
        let late = served.iter().filter(|&&tenant| tenant == 2).count();
        assert!((9..=11).contains(&late), "{late}");
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_tickets_find_their_place(
            acts in prop::collection::vec((0_u8..4, 0_u32..4, 0_u32..5, 0_usize..3, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut queue = FairQueue::new();
            let mut there: Vec<Ticket> = Vec::new();
            for (act, tenant, weight, priority, index) in acts {
                match act {
                    0 | 1 => there.push(queue.push(claim(Priority::ALL[priority], tenant, weight), tenant)),
                    2 => if let Some((place, _)) = queue.next(None) {
                        prop_assert_eq!(queue.num_before(place.ticket()), 0);
                        queue.serve(place.ticket());
                        there.retain(|&ticket| ticket != place.ticket());
                    },
                    _ => if !there.is_empty() {
                        let ticket = there.swap_remove(index.index(there.len()));
                        prop_assert!(queue.remove(ticket).is_some());
                    },
                }
                prop_assert_eq!(queue.len(), there.len());
                prop_assert_eq!(queue.len(), queue.lanes.iter().map(|lane| lane.len).sum::<usize>());
                if let Some(last) = queue.last() {
                    prop_assert_eq!(queue.num_before(last), queue.len() - 1);
                }
            }
            let mut behind = None;
            let mut seen = Vec::new();
            while let Some((place, _)) = queue.next(behind) {
                prop_assert_eq!(queue.num_before(place.ticket()), seen.len());
                prop_assert!(behind.is_none_or(|behind| behind < place));
                seen.push(place.ticket());
                behind = Some(place);
            }
            seen.sort_unstable();
            there.sort_unstable();
            prop_assert_eq!(seen, there);
        }
    }
}
