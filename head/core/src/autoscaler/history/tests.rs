use proptest::prelude::*;

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn ongoing(ongoing: u64) -> Load {
    Load { ongoing, ..Load::default() }
}

const LONG: Duration = Duration::from_secs(100);

fn history(series: &[&[(f64, u64)]]) -> History<usize> {
    let mut history = History::default();
    for (reporter, series) in series.iter().enumerate() {
        for &(at, load) in *series {
            history.record(&reporter, ongoing(load), LONG, seconds(at));
        }
    }
    history
}

#[test]
fn series_of_several_reporters_merge_into_their_sum() {
    let history = history(&[&[(0.2, 5), (0.8, 7), (1.5, 6)], &[(0.1, 3), (0.9, 4), (1.4, 8)]]);
    let merged: Vec<_> =
        history.merged().iter().map(|point| (point.at.as_secs_f64(), point.milli / MILLI)).collect();
    assert_eq!(merged, [(0.1, 3), (0.2, 8), (0.8, 10), (0.9, 11), (1.4, 15), (1.5, 14)]);
    assert_eq!(history.ongoing_now(), 14);
}

#[test]
fn the_mean_weighs_each_step_by_its_time() {
    let history = history(&[&[(1.0, 4), (3.0, 0)], &[(2.0, 2)]]);
    // (now, look_back, known since) → mean
    let table = [
        (3.0, 2.0, 0.0, 5.0),
        (3.0, 4.0, 0.0, 10.0 / 3.0),
        (3.0, 10.0, 1.0, 5.0),
        (5.0, 2.0, 0.0, 2.0),
        (5.0, 4.0, 0.0, 3.5),
        (3.0, 2.0, 3.0, 2.0),
    ];
    for (now, look_back, since, mean) in table {
        let found = history.mean(seconds(look_back), seconds(since), seconds(now));
        assert!((found - mean).abs() < 1e-9, "{found} for {mean} at {now}");
    }
}

#[test]
fn a_constant_load_has_exactly_that_mean() {
    let history = history(&[&[(0.0, 6)]]);
    for micros in [1, 333_333, 999_999, 17_000_000] {
        let now = Duration::from_micros(micros);
        assert!((history.mean(seconds(2.0), Duration::ZERO, now) - 6.0).abs() < 1e-12);
    }
}

#[test]
fn a_reporter_that_is_gone_drops_out_with_its_past() {
    let mut history = history(&[&[(0.0, 6)], &[(0.0, 2)]]);
    history.forget(&0);
    assert!((history.mean(seconds(2.0), Duration::ZERO, seconds(4.0)) - 2.0).abs() < 1e-12);
    history.forget(&1);
    assert!(history.is_empty());
}

#[test]
fn requests_too_short_to_be_seen_are_activity_all_the_same() {
    let mut history = History::default();
    history.record(&0, Load::default(), LONG, seconds(1.0));
    assert_eq!(history.last_active(), None);
    history.record(&0, Load { arrived: 3, ..Load::default() }, LONG, seconds(2.0));
    assert_eq!((history.last_active(), history.is_empty()), (Some(seconds(2.0)), true));
    history.record(&0, ongoing(1), LONG, seconds(3.0));
    history.record(&0, ongoing(0), LONG, seconds(4.0));
    history.record(&0, ongoing(0), LONG, seconds(5.0));
    assert_eq!(history.last_active(), Some(seconds(4.0)), "the end of the last one counts");
}

#[test]
fn what_is_over_is_forgotten_and_the_size_is_bounded() {
    let mut history = History::default();
    for step in 0..100_000_u32 {
        history.record(&0, ongoing(u64::from(step % 7)), LONG, Duration::from_millis(100) * step);
        assert!(history.merged().len() <= MAX_POINTS);
    }
    let now = seconds(10_000.0);
    let mean = history.mean(LONG, Duration::ZERO, now);
    assert!((mean - 3.0).abs() < 0.1, "{mean}");
    history.record(&0, ongoing(0), LONG, now);
    assert_eq!(history.moves_until(LONG), Some(now + LONG));
    history.prune(LONG, now + LONG / 2);
    assert!(!history.is_empty());
    history.prune(LONG, now + LONG);
    assert!(history.is_empty());
}

proptest! {
    #[test]
    fn the_mean_is_that_of_the_merged_series(
        reports in prop::collection::vec((0_usize..3, 0_u64..50, 1_u64..400), 1..60),
        look_back_ms in 100_u64..20_000,
    ) {
        let mut history = History::default();
        let mut now = Duration::ZERO;
        for (reporter, load, wait_ms) in reports {
            now += Duration::from_millis(wait_ms);
            history.record(&reporter, ongoing(load), Duration::from_secs(3600), now);
        }
        now += Duration::from_millis(50);
        let look_back = Duration::from_millis(look_back_ms);
        let merged = history.merged();
        let from = now.saturating_sub(look_back);
        let ends = merged.iter().skip(1).map(|point| point.at).chain([now]);
        let area: f64 = merged.iter().zip(ends).map(|(point, end)| {
            end.min(now).saturating_sub(point.at.max(from)).as_secs_f64() * point.milli as f64 / 1000.0
        }).sum();
        let mean = history.mean(look_back, Duration::ZERO, now);
        prop_assert!((mean - area / (now - from).as_secs_f64()).abs() < 1e-6);
    }
}
