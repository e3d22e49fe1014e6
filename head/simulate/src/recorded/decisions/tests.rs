use millstream_status::event::ScaleInputs;
use millstream_status::series::OneSeries;

use super::*;

const START: u64 = 1_000_000;

fn one(metric: &str, values: impl IntoIterator<Item = Option<u16>>) -> OneSeries {
    OneSeries {
        metric: metric.to_owned(),
        pipeline: Some("p".into()),
        deployment: Some("p/model".into()),
        node: None,
        values: values.into_iter().map(|value| value.map(f32::from)).collect(),
    }
}

/// Numbers of seconds: so many of each value.
fn runs(runs: &[(usize, u16)]) -> Vec<Option<u16>> {
    runs.iter().flat_map(|&(seconds, value)| vec![Some(value); seconds]).collect()
}

/// Ten quiet seconds, twenty with six calls at a time, thirty quiet ones: one replica, then three, then one again.
fn series() -> Series {
    let series = vec![
        one("ongoing", runs(&[(10, 0), (20, 6), (30, 0)])),
        one("queued", runs(&[(60, 0)])),
        one("ready", runs(&[(14, 1), (30, 3), (16, 1)])),
        one("target", runs(&[(12, 1), (32, 3), (16, 1)])),
        one("calls_per_second", runs(&[(10, 0), (20, 30), (30, 0)])),
    ];
    Series { start_unix_ms: START, step_ms: 1000, series }
}

fn settings() -> Autoscaling {
    let downscale_delay = Duration::from_secs(12);
    Autoscaling { max_replicas: 4, downscale_delay, ..Autoscaling::default() }
}

fn event(second: u64, from: u32, to: u32, rule: Rule) -> Event {
    let decision = Decision::Scaled { from, to, rule: rule.to_string(), inputs: ScaleInputs::default() };
    Event {
        sequence: second,
        at_ms: START + second * 1000,
        pipeline: Some("p".into()),
        deployment: Some("model".into()),
        decision,
    }
}

fn compared(events: &[Event], series: &Series) -> Comparison {
    let deployment = "p/model".parse().unwrap();
    let settings = settings();
    let past = Past { deployment: &deployment, settings: &settings, deployed_at_ms: 0, series, events };
    compare(&past).unwrap()
}

fn verdicts(found: &Comparison) -> Vec<Verdict> {
    found.decisions.iter().map(|compared| compared.verdict).collect()
}

#[test]
fn the_same_decisions_are_made_again_of_what_was_recorded() {
    let events = [event(11, 1, 3, Rule::Upscale), event(44, 3, 1, Rule::Downscale)];
    let found = compared(&events, &series());
    assert_eq!(verdicts(&found), [Verdict::Same, Verdict::Same], "{found:#?}");
    assert!(found.same_target_ratio > 0.9, "{found:?}");
    assert_eq!((found.seconds, found.from_unix_ms), (60, START));
}

#[test]
fn decisions_of_one_side_alone_are_told() {
    let found = compared(&[event(30, 3, 4, Rule::Upscale)], &series());
    let count = |verdict| found.count(verdict);
    assert_eq!([count(Verdict::OnlyThen), count(Verdict::Same)], [1, 0], "{found:#?}");
    assert!(count(Verdict::OnlyAgain) >= 2, "{found:#?}");
}

#[test]
fn nothing_is_decided_again_before_the_bounds_were_set_by_hand() {
    let events = [event(11, 1, 2, Rule::Upscale), event(20, 2, 3, Rule::ByHand)];
    let found = compared(&events, &series());
    assert_eq!(found.from_unix_ms, START + 20_000);
    assert_eq!(verdicts(&found)[0], Verdict::Given, "{found:#?}");
}

#[test]
fn what_is_of_other_deployments_or_was_not_recorded_is_left_out() {
    let deployment = "p/other".parse().unwrap();
    let (settings, series) = (settings(), series());
    let events = [event(11, 1, 3, Rule::Upscale)];
    let past = Past {
        deployment: &deployment,
        settings: &settings,
        deployed_at_ms: 0,
        series: &series,
        events: &events,
    };
    assert_eq!(compare(&past), None);
    let deployment = "p/model".parse().unwrap();
    let late = START + 100_000;
    assert_eq!(compare(&Past { deployment: &deployment, deployed_at_ms: late, ..past }), None);
}

#[test]
fn a_gap_goes_on_with_the_number_that_was_wanted_after_it() {
    let mut series = series();
    for one in &mut series.series {
        one.values[20..25].fill(None);
    }
    let found = compared(&[event(11, 1, 3, Rule::Upscale), event(44, 3, 1, Rule::Downscale)], &series);
    assert_eq!(verdicts(&found), [Verdict::Same, Verdict::Same], "{found:#?}");
    assert_eq!(found.seconds, 55);
}
