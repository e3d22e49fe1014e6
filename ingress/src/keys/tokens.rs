//! How many tokens of models the requests of a key may use, a minute and a day, as plain functions. A request reserves what it is
//! expected to need before it runs, and is charged for what it has used when it ends.

use std::time::{Duration, Instant};

use millstream_proto::v1;

use super::bucket::{Bucket, Rate};

/// One ingress's part of a key's limits of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TokenLimits {
    minute: Option<Rate>,
    day: Option<Rate>,
}

/// What a key has used of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenUsage {
    minute: Bucket,
    day: Bucket,
}

/// What a request has taken before it runs; all of it is put back when it ends, in exchange for what it has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reserved {
    minute: u64,
    day: u64,
}

/// There are not enough tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// `minute` or `day`.
    pub(crate) window: &'static str,
    /// When there are.
    pub(crate) wait: Duration,
}

/// What a key may still use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenAllowance {
    /// Tokens that may be used at once, at most.
    pub(crate) limit: u64,
    /// Those that may be used now.
    pub(crate) remaining: u64,
    /// When all of them may again.
    pub(crate) reset: Duration,
}

impl TokenLimits {
    /// The part of one of so many ingresses: at least one token.
    pub(crate) fn part_of(key: &v1::ApiKey, num_ingresses: u32) -> Self {
        let part = |tokens: u64, seconds: f64| {
            let burst = (as_f64(tokens) / f64::from(num_ingresses.max(1))).max(1.0);
            (tokens > 0).then_some(Rate { per_s: burst / seconds, burst })
        };
        Self { minute: part(key.tokens_per_minute, 60.0), day: part(key.tokens_per_day, 86_400.0) }
    }

    /// Whether there are none.
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// The most that there can be in all buckets: nobody is asked to reserve more, as it would never be there.
    fn most(&self) -> f64 {
        [self.minute, self.day]
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, |most, rate| most.min(rate.burst.floor()))
    }
}

impl TokenUsage {
    /// Nothing used yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { minute: Bucket::full(now), day: Bucket::full(now) }
    }

    /// Whether there is anything left.
    pub(crate) fn check(&self, limits: TokenLimits, now: Instant) -> Result<(), Shortage> {
        self.check_for(limits, 1.0, now)
    }

    /// Takes so many tokens; at most as many as there can be at all.
    pub(crate) fn reserve(
        &mut self,
        limits: TokenLimits,
        wanted: u64,
        now: Instant,
    ) -> Result<Reserved, Shortage> {
        let amount = as_f64(wanted).min(limits.most());
        self.check_for(limits, amount, now)?;
        let whole = wanted.min(as_u64(amount));
        let taken = |rate: Option<Rate>| if rate.is_some() { whole } else { 0 };
        let reserved = Reserved { minute: taken(limits.minute), day: taken(limits.day) };
        self.settle(limits, Reserved::default(), whole, now);
        Ok(reserved)
    }

    /// A request has ended, and used so many tokens.
    pub(crate) fn settle(&mut self, limits: TokenLimits, reserved: Reserved, used: u64, now: Instant) {
        let windows =
            [(limits.minute, &mut self.minute, reserved.minute), (limits.day, &mut self.day, reserved.day)];
        for (rate, bucket, reserved) in windows {
            if let Some(rate) = rate {
                bucket.put(rate, as_f64(reserved) - as_f64(used), now);
            }
        }
    }

    /// What is left, in the window that has less of it; `None` without limits.
    pub(crate) fn left(&self, limits: TokenLimits, now: Instant) -> Option<TokenAllowance> {
        let windows = [(limits.minute, &self.minute), (limits.day, &self.day)];
        let allowances = windows.into_iter().filter_map(|(rate, bucket)| {
            let rate = rate?;
            let (remaining, reset) = bucket.level(rate, now);
            Some(TokenAllowance { limit: as_u64(rate.burst), remaining, reset })
        });
        allowances.min_by_key(|allowance| allowance.remaining)
    }

    fn check_for(&self, limits: TokenLimits, wanted: f64, now: Instant) -> Result<(), Shortage> {
        let windows = [("minute", limits.minute, &self.minute), ("day", limits.day, &self.day)];
        let short = windows.into_iter().filter_map(|(window, rate, bucket)| {
            let wait = bucket.wait_for(rate?, wanted, now)?;
            Some(Shortage { window, wait })
        });
        short.max_by_key(|shortage| shortage.wait).map_or(Ok(()), Err)
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
fn as_f64(tokens: u64) -> f64 {
    tokens as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and not below 0; the cast saturates"
)]
fn as_u64(tokens: f64) -> u64 {
    tokens as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(minute: u64, day: u64, ingresses: u32) -> TokenLimits {
        let key = v1::ApiKey { tokens_per_minute: minute, tokens_per_day: day, ..Default::default() };
        TokenLimits::part_of(&key, ingresses)
    }

    fn left(usage: &TokenUsage, limits: TokenLimits, now: Instant) -> u64 {
        usage.left(limits, now).unwrap().remaining
    }

    #[test]
    fn a_reservation_is_settled_by_what_was_used() {
        let (limits, now) = (limits(600, 0, 1), millstream_clock::now());
        let mut usage = TokenUsage::new(now);
        let reserved = usage.reserve(limits, 400, now).unwrap();
        assert_eq!(left(&usage, limits, now), 200);
        let short = usage.reserve(limits, 300, now).unwrap_err();
        assert_eq!(short, Shortage { window: "minute", wait: Duration::from_secs(10) });
        usage.settle(limits, reserved, 50, now);
        let allowance = usage.left(limits, now).unwrap();
        assert_eq!(allowance, TokenAllowance { limit: 600, remaining: 550, reset: Duration::from_secs(5) });
        // What uses more than it has reserved is owed, and nothing comes in before it is paid.
        let reserved = usage.reserve(limits, 10, now).unwrap();
        usage.settle(limits, reserved, 700, now);
        assert_eq!(left(&usage, limits, now), 0);
        let wait = usage.check(limits, now).unwrap_err().wait;
        assert_eq!(wait, Duration::from_millis(15_100));
        assert_eq!(usage.check(limits, now + wait), Ok(()));
    }

    #[test]
    fn both_windows_count_and_the_one_with_less_is_told() {
        let (limits, now) = (limits(1_000, 1_500, 1), millstream_clock::now());
        let mut usage = TokenUsage::new(now);
        let first = usage.reserve(limits, 1_000, now).unwrap();
        usage.settle(limits, first, 1_000, now);
        assert_eq!(usage.left(limits, now).unwrap().limit, 1_000);
        let later = now + Duration::from_secs(60);
        let short = usage.reserve(limits, 600, later).unwrap_err();
        assert_eq!(short.window, "day");
        assert!((5_600..5_760).contains(&short.wait.as_secs()), "{short:?}");
        let allowance = usage.left(limits, later).unwrap();
        assert_eq!((allowance.limit, allowance.remaining), (1_500, 501));
    }

    #[test]
    fn what_can_never_be_there_is_not_waited_for() {
        let (limits, now) = (limits(100, 10_000, 3), millstream_clock::now());
        let mut usage = TokenUsage::new(now);
        let reserved = usage.reserve(limits, u64::MAX, now).unwrap();
        assert_eq!((reserved, left(&usage, limits, now)), (Reserved { minute: 33, day: 33 }, 0));
        assert!(usage.reserve(limits, 2, now).is_err());
        let tiny = super::tests::limits(1, 1, 100);
        assert_eq!(TokenUsage::new(now).left(tiny, now).unwrap().limit, 1);
    }

    #[test]
    fn limits_may_change_while_requests_run() {
        let (none, some, now) = (limits(0, 0, 1), limits(100, 0, 1), millstream_clock::now());
        let mut usage = TokenUsage::new(now);
        let before = usage.reserve(none, 500, now).unwrap();
        assert_eq!((before, usage.left(none, now)), (Reserved::default(), None));
        usage.settle(some, before, 30, now);
        assert_eq!(left(&usage, some, now), 70, "it is charged although nothing was reserved");
        let during = usage.reserve(some, 60, now).unwrap();
        usage.settle(none, during, 10, now);
        let more = limits(1_000, 0, 1);
        let during = usage.reserve(more, 1, now).unwrap();
        usage.settle(more, during, 1, now);
        assert!(left(&usage, more, now + Duration::from_secs(120)) == 1_000);
    }

    proptest! {
        /// Whatever is reserved, used, refused and in whatever order it ends: nothing stays taken, and no debt lasts.
        #[test]
        fn no_reservation_leaks_and_no_debt_lasts(
            minute in 1_u64..100_000,
            day in prop::option::of(1_u64..1_000_000),
            steps in prop::collection::vec((0_u64..20_000, 0_u64..200_000, 0_u64..200_000, any::<bool>()), 1..80),
        ) {
            let limits = limits(minute, day.unwrap_or(0), 1);
            let mut now = millstream_clock::now();
            let mut usage = TokenUsage::new(now);
            let mut under_way = Vec::new();
            for (ms, wanted, used, ends) in steps {
                now += Duration::from_millis(ms);
                match usage.reserve(limits, wanted, now) {
                    Ok(reserved) => under_way.push((reserved, used)),
                    Err(Shortage { wait, .. }) => {
                        // The wait is true, if nobody else comes.
                        let mut then = usage;
                        prop_assert!(then.reserve(limits, wanted, now + wait + Duration::from_millis(1)).is_ok());
                    }
                }
                if ends && !under_way.is_empty() {
                    let (reserved, used) = under_way.remove(0);
                    usage.settle(limits, reserved, used, now);
                }
                let allowance = usage.left(limits, now).unwrap();
                prop_assert!(allowance.remaining <= allowance.limit);
                // A debt is paid within the window.
                let paid = now + Duration::from_secs(60).max(Duration::from_secs(if day.is_some() { 86_400 } else { 0 }));
                prop_assert!(under_way.len() > 1 || usage.check(limits, paid + Duration::from_secs(86_400)).is_ok());
            }
            for (reserved, _) in under_way {
                usage.settle(limits, reserved, 0, now);
            }
            let filled = now + Duration::from_secs(2 * 86_400 + 1);
            for (rate, bucket) in [(limits.minute, usage.minute), (limits.day, usage.day)] {
                if let Some(rate) = rate {
                    prop_assert_eq!(bucket.level(rate, filled), (as_u64(rate.burst), Duration::ZERO));
                }
            }
        }

        /// As long as no bound is met, what is left is what was there without what was used.
        #[test]
        fn what_is_left_is_exact(uses in prop::collection::vec((0_u64..100, 0_u64..100), 0..50)) {
            let (limits, now) = (limits(10_000, 0, 1), millstream_clock::now());
            let mut usage = TokenUsage::new(now);
            let reserved: Vec<_> = uses.iter().map(|(wanted, _)| usage.reserve(limits, *wanted, now).unwrap()).collect();
            let taken: u64 = uses.iter().map(|(wanted, _)| wanted).sum();
            prop_assert_eq!(left(&usage, limits, now), 10_000 - taken);
            reserved.iter().zip(&uses).for_each(|(reserved, (_, used))| usage.settle(limits, *reserved, *used, now));
            let used: u64 = uses.iter().map(|(_, used)| used).sum();
            prop_assert_eq!(left(&usage, limits, now), 10_000 - used);
        }
    }
}
