//! The replicas of a simulated deployment: who is ready, who has room, who leaves first.

use std::time::Duration;

/// A replica's number; never used twice.
pub(super) type ReplicaNumber = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Draining,
}

#[derive(Debug, Clone, Copy)]
struct Replica {
    number: ReplicaNumber,
    since: Duration,
    state: State,
    ongoing: u32,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    replicas: Vec<Replica>,
    max_ongoing: u32,
    last: ReplicaNumber,
    /// Time of replicas that have ended.
    spent: Duration,
    /// Most at a time.
    most: usize,
}

impl Fleet {
    /// Replicas that have been ready all along.
    pub(super) fn ready(count: u32, max_ongoing: u32) -> Self {
        let mut fleet = Self { replicas: Vec::new(), max_ongoing, last: 0, spent: Duration::ZERO, most: 0 };
        for number in fleet.grow(count, Duration::ZERO) {
            fleet.set_ready(number);
        }
        fleet
    }

    /// Starts that many; returns their numbers.
    pub(super) fn grow(&mut self, count: u32, now: Duration) -> std::ops::RangeInclusive<ReplicaNumber> {
        let first = self.last + 1;
        self.last += count;
        let fresh = |number| Replica { number, since: now, state: State::Starting, ongoing: 0 };
        self.replicas.extend((first..=self.last).map(fresh));
        self.most = self.most.max(self.replicas.len());
        first..=self.last
    }

    /// Lets that many leave: those that are not ready first, the newest of them, then the least busy.
    pub(super) fn shrink(&mut self, count: u32, now: Duration) {
        for _ in 0..count {
            let staying = self.replicas.iter().enumerate().filter(|(_, r)| r.state != State::Draining);
            let first = staying.min_by_key(|(_, replica)| {
                (replica.state == State::Ready, replica.ongoing, std::cmp::Reverse(replica.number))
            });
            let Some((index, replica)) = first else { return };
            if replica.ongoing == 0 {
                self.end(index, now);
            } else {
                self.replicas[index].state = State::Draining;
            }
        }
    }

    fn end(&mut self, index: usize, now: Duration) {
        let replica = self.replicas.remove(index);
        self.spent += now.saturating_sub(replica.since);
    }

    /// A replica that was started takes requests now; one that was let go meanwhile is ignored.
    pub(super) fn set_ready(&mut self, number: ReplicaNumber) {
        let found = self.replicas.iter_mut().find(|replica| replica.number == number);
        if let Some(replica) = found.filter(|replica| replica.state == State::Starting) {
            replica.state = State::Ready;
        }
    }

    /// Books a slot in the least busy ready replica that has one.
    pub(super) fn take_slot(&mut self) -> Option<ReplicaNumber> {
        let max_ongoing = self.max_ongoing;
        let open = self.replicas.iter_mut().filter(|r| r.state == State::Ready && r.ongoing < max_ongoing);
        let replica = open.min_by_key(|replica| replica.ongoing)?;
        replica.ongoing += 1;
        Some(replica.number)
    }

    /// A request is answered; a replica that drains ends with its last one.
    pub(super) fn free_slot(&mut self, number: ReplicaNumber, now: Duration) {
        let Some(index) = self.replicas.iter().position(|replica| replica.number == number) else { return };
        let replica = &mut self.replicas[index];
        replica.ongoing -= 1;
        if replica.ongoing == 0 && replica.state == State::Draining {
            self.end(index, now);
        }
    }

    fn count(&self, state: State) -> usize {
        self.replicas.iter().filter(|replica| replica.state == state).count()
    }

    /// Replicas that take requests.
    pub(super) fn num_ready(&self) -> usize {
        self.count(State::Ready)
    }

    /// Replicas on their way to that.
    pub(super) fn num_starting(&self) -> usize {
        self.count(State::Starting)
    }

    /// Most replicas at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Time that replicas existed until now, summed.
    pub(super) fn spent(&self, now: Duration) -> Duration {
        self.spent + self.replicas.iter().map(|replica| now.saturating_sub(replica.since)).sum::<Duration>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_the_least_busy_ready_replica_with_room() {
        let mut fleet = Fleet::ready(2, 2);
        fleet.grow(1, Duration::ZERO);
        let taken: Vec<_> = (0..5).map(|_| fleet.take_slot()).collect();
        assert_eq!(taken, [Some(1), Some(2), Some(1), Some(2), None]);
        fleet.set_ready(3);
        assert_eq!(fleet.take_slot(), Some(3));
    }

    #[test]
    fn those_that_start_leave_first_and_busy_ones_finish() {
        let second = Duration::from_secs;
        let mut fleet = Fleet::ready(2, 2);
        assert_eq!(fleet.take_slot(), Some(1));
        fleet.grow(2, second(1));
        fleet.shrink(3, second(2));
        assert_eq!((fleet.num_ready(), fleet.num_starting()), (1, 0));
        fleet.shrink(1, second(3));
        assert_eq!(fleet.num_ready(), 0);
        fleet.free_slot(1, second(5));
        // 2 × 1 s of those that started, 2 s of the idle one, 5 s of the busy one.
        assert_eq!(fleet.spent(second(9)), second(9));
        assert_eq!(fleet.most(), 4);
    }
}
