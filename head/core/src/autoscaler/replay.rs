//! What an hour would have come to under other settings: the requests as they were observed, second by second, against the
//! autoscaler itself on a virtual clock.
//!
//! Requests are a fluid here: in each tick so many arrive, wait while all places are taken, and leave at the rate that their
//! observed service time gives (Little's law). Single requests, and what they waited for each, are not known afterwards.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_pipelines::Autoscaling;

use super::{Load, RESOLUTION, Scaler, bound};

/// What was observed in a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// Calls that ended.
    pub calls: f64,
    /// Calls at replicas.
    pub ongoing: f64,
}

/// What is other than it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The settings of the deployment.
    pub autoscaling: Autoscaling,
    /// Calls in one replica at a time.
    pub max_ongoing: u32,
    /// Replicas at the beginning.
    pub replicas: u32,
    /// How long a replica takes to become ready.
    pub start_time: Duration,
}

/// What it would have come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replayed {
    /// Ready replicas at the end of each second.
    pub ready: Vec<f32>,
    /// Calls that waited at the end of each second.
    pub queued: Vec<f32>,
    /// Time that replicas existed, summed, in seconds.
    pub replica_seconds: f64,
    /// The part of the calls that had to wait, 0 to 1.
    pub waited_ratio: f64,
}

/// A call of which no service time was observed.
const USUAL_SERVICE_S: f64 = 0.05;
/// Longest service time that is believed.
const MAX_SERVICE_S: f64 = 600.0;
/// The only reporter.
const INGRESS: u8 = 0;

/// Replays what was observed. O(seconds).
#[must_use]
pub fn replay(observed: &[Second], settings: &Settings) -> Replayed {
    let mut fleet =
        Fleet { ready: bound(&settings.autoscaling, settings.replicas), starting: VecDeque::new() };
    let mut scaler: Scaler<u8> = Scaler::new(fleet.ready);
    let mut requests = Requests { service_s: USUAL_SERVICE_S, ..Requests::default() };
    let mut replayed = Replayed::default();
    let (mut waited, mut all) = (0.0, 0.0);
    let tick_s = RESOLUTION.as_secs_f64();
    let mut now = Duration::ZERO;
    for second in observed {
        requests.learn(*second);
        let end = now + Duration::from_secs(1);
        while now < end {
            now += RESOLUTION;
            fleet.tick(now);
            let arrived = second.calls * tick_s;
            let places = f64::from(fleet.ready) * f64::from(settings.max_ongoing);
            requests.tick(arrived, places, tick_s);
            all += arrived;
            waited += if requests.queued >= 1.0 { arrived } else { 0.0 };
            scaler.record(&INGRESS, requests.load(), settings.autoscaling.look_back, now);
            fleet.scale(&mut scaler, settings, now);
            replayed.replica_seconds += f64::from(fleet.len()) * tick_s;
        }
        replayed.ready.push(as_f32(f64::from(fleet.ready)));
        replayed.queued.push(as_f32(requests.queued));
    }
    replayed.waited_ratio = if all > 0.0 { waited / all } else { 0.0 };
    replayed
}

#[expect(clippy::cast_possible_truncation, reason = "drawn in pixels")]
fn as_f32(value: f64) -> f32 {
    value as f32
}

/// Requests as a fluid.
#[derive(Debug, Default)]
struct Requests {
    ongoing: f64,
    queued: f64,
    /// Arrived since the last report.
    arrived: f64,
    /// How long a call takes, in seconds.
    service_s: f64,
}

impl Requests {
    /// How long calls take now; as before where nothing was observed.
    fn learn(&mut self, second: Second) {
        if second.calls > 0.0 && second.ongoing > 0.0 {
            self.service_s = (second.ongoing / second.calls).clamp(1e-6, MAX_SERVICE_S);
        }
    }

    fn tick(&mut self, arrived: f64, places: f64, tick_s: f64) {
        self.arrived += arrived;
        self.queued += arrived;
        if self.service_s < tick_s {
            // Places are used several times within the tick.
            let served = self.queued.min(places * tick_s / self.service_s);
            self.queued -= served;
            self.ongoing = served * self.service_s / tick_s;
        } else {
            self.ongoing *= (-tick_s / self.service_s).exp();
            let begun = self.queued.min((places - self.ongoing).max(0.0));
            self.queued -= begun;
            self.ongoing += begun;
        }
    }

    fn load(&mut self) -> Load {
        let arrived = whole(self.arrived.floor());
        self.arrived = self.arrived.fract();
        // Less than one that waits is none.
        Load { ongoing: whole(self.ongoing.round()), queued: whole(self.queued.floor()), arrived }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

/// Replicas, ready and on their way.
struct Fleet {
    ready: u32,
    /// When each of those that start is ready.
    starting: VecDeque<Duration>,
}

impl Fleet {
    fn len(&self) -> u32 {
        self.ready + u32::try_from(self.starting.len()).unwrap_or(u32::MAX)
    }

    fn tick(&mut self, now: Duration) {
        while self.starting.front().is_some_and(|&at| at <= now) {
            self.starting.pop_front();
            self.ready += 1;
        }
    }

    fn scale(&mut self, scaler: &mut Scaler<u8>, settings: &Settings, now: Duration) {
        // One decision may ask for another at once.
        for _ in 0..4 {
            if scaler.wake_at.is_none_or(|at| at > now) {
                return;
            }
            let counts = (self.ready, self.len() - self.ready);
            let decision = scaler.decide(&settings.autoscaling, counts, Duration::ZERO, now);
            if decision.rule.is_none() {
                return;
            }
            let target = decision.scaling.target;
            for _ in self.len()..target {
                self.starting.push_back(now + settings.start_time);
            }
            for _ in target..self.len() {
                // Those that are not ready yet leave first.
                if self.starting.pop_back().is_none() {
                    self.ready -= 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(min_replicas: u32, max_replicas: u32) -> Settings {
        let autoscaling = Autoscaling { min_replicas, max_replicas, ..Autoscaling::default() };
        Settings { autoscaling, max_ongoing: 4, replicas: 1, start_time: Duration::from_secs(2) }
    }

    /// A quiet minute, five busy ones of 20 calls of half a second, a quiet hour.
    fn day() -> Vec<Second> {
        let busy = |second| (60..360).contains(&second);
        (0..2000)
            .map(|second| match busy(second) {
                true => Second { calls: 20.0, ongoing: 10.0 },
                false => Second { calls: 1.0, ongoing: 0.5 },
            })
            .collect()
    }

    #[test]
    fn more_replicas_wait_less_and_cost_more() {
        let table: Vec<_> = [1, 2, 10].map(|max| replay(&day(), &settings(1, max))).into();
        let most = |replayed: &Replayed| replayed.ready.iter().copied().fold(0.0, f32::max);
        assert_eq!(table[..2].iter().map(most).collect::<Vec<_>>(), [1.0, 2.0]);
        // 10 calls at 2 a replica, and what waits while the first ones start.
        assert!((5.0..=10.0).contains(&most(&table[2])));
        for pair in table.windows(2) {
            assert!(
                pair[0].waited_ratio > pair[1].waited_ratio,
                "{} {}",
                pair[0].waited_ratio,
                pair[1].waited_ratio
            );
            assert!(pair[0].queued[300] >= pair[1].queued[300]);
        }
        assert!(table[2].queued[300] < 1.0 && table[0].queued[300] > 100.0);
        assert!((table[0].replica_seconds - 2000.0).abs() < 1.0, "{}", table[0].replica_seconds);
        assert_eq!(table[2].ready.last(), Some(&1.0), "it goes back");
    }

    #[test]
    fn short_calls_use_their_places_many_times() {
        let busy = vec![Second { calls: 2000.0, ongoing: 2.0 }; 100];
        let replayed = replay(&busy, &settings(1, 4));
        assert!(replayed.queued.iter().all(|queued| *queued < 1.0), "a millisecond each, four places");
        assert_eq!(replay(&[], &settings(1, 4)), Replayed::default());
    }

    #[test]
    fn nothing_runs_where_nothing_is_asked_and_none_may_be() {
        let mut settings = settings(0, 4);
        settings.autoscaling.idle_timeout = Duration::from_secs(10);
        let quiet = replay(&vec![Second::default(); 100], &settings);
        assert_eq!(quiet.ready.last(), Some(&0.0));
        assert!((5.0..30.0).contains(&quiet.replica_seconds), "{}", quiet.replica_seconds);
    }
}
