//! Rollouts as tables: where one stands, what is seen, what follows.

use super::*;

const READY: Observed = Observed {
    mode: Mode::Rolling,
    ready: true,
    moved: false,
    cannot_start: None,
    trial: Trial::Needed,
    busy: true,
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn tally(answered: u64, failed: u64) -> Tally {
    Tally { requests: Outcomes { answered, failed }, ..Tally::default() }
}

/// What follows `waited` seconds into a phase, after these outcomes of the new revision; the old one never fails.
fn next(phase: Phase, observed: &Observed, waited: f64, new: (u64, u64)) -> Next {
    let mut rollout = Rollout::begin(2, 1, phase, seconds(100.0));
    rollout.count(2, &tally(new.0, new.1), seconds(100.0));
    rollout.count(1, &tally(new.0 * 9, 0), seconds(100.0));
    step(&rollout, observed, &Timing::default(), seconds(100.0 + waited))
}

#[test]
fn a_rollout_goes_from_phase_to_phase() {
    let idle = Observed { busy: false, ..READY };
    let not_ready = Observed { ready: false, ..READY };
    let skipped = Observed { trial: Trial::Skipped, ..READY };
    let moved = Observed { moved: true, ..READY };
    let table = [
        (Phase::Starting, &not_ready, 99.0, (0, 0), Next::Stay),
        (Phase::Starting, &READY, 0.0, (0, 0), Next::Enter(Phase::Trial)),
        (Phase::Starting, &skipped, 0.0, (0, 0), Next::Enter(Phase::Moving)),
        (Phase::Trial, &READY, 0.5, (19, 0), Next::Stay),
        (Phase::Trial, &READY, 0.5, (20, 0), Next::Enter(Phase::Moving)),
        (Phase::Trial, &not_ready, 0.5, (20, 0), Next::Stay),
        (Phase::Trial, &READY, 2.0, (3, 0), Next::Enter(Phase::Moving)),
        (Phase::Trial, &READY, 2.0, (3, 1), Next::Enter(Phase::Half)),
        (Phase::Trial, &idle, 0.2, (0, 0), Next::Stay),
        (Phase::Trial, &idle, 0.3, (0, 0), Next::Enter(Phase::Moving)),
        (Phase::Trial, &idle, 0.3, (1, 0), Next::Stay),
        (Phase::Half, &READY, 7.9, (9, 1), Next::Stay),
        (Phase::Half, &READY, 8.0, (9, 1), Next::Enter(Phase::Moving)),
        (Phase::Half, &READY, 99.0, (0, 19), Next::Stay),
        (Phase::Half, &READY, 99.0, (0, 1), Next::Stay),
        (Phase::Moving, &READY, 99.0, (99, 0), Next::Stay),
        (Phase::Moving, &moved, 0.0, (0, 0), Next::Enter(Phase::Watching)),
        (Phase::Watching, &moved, 29.0, (0, 0), Next::Stay),
        (Phase::Watching, &moved, 30.0, (0, 0), Next::End),
    ];
    for (phase, observed, waited, new, expected) in table {
        assert_eq!(next(phase, observed, waited, new), expected, "{phase:?} {waited} {new:?} {observed:?}");
    }
}

#[test]
fn errors_lead_back_from_every_phase() {
    let reason = "10 of 20 requests failed, before it 0 of 90".to_owned();
    for phase in [Phase::Trial, Phase::Half, Phase::Moving, Phase::Watching] {
        assert_eq!(next(phase, &READY, 0.0, (10, 10)), Next::RollBack(reason.clone()), "{phase:?}");
    }
}

#[test]
fn what_cannot_start_leads_back_until_everything_has_moved() {
    let observed = Observed { ready: false, cannot_start: Some("no such file".into()), ..READY };
    for phase in [Phase::Starting, Phase::Trial, Phase::Half, Phase::Moving] {
        assert_eq!(next(phase, &observed, 0.0, (0, 0)), Next::RollBack("no such file".into()), "{phase:?}");
    }
    assert_eq!(next(Phase::Watching, &observed, 0.0, (0, 0)), Next::Stay);
}

#[test]
fn canaries_and_shadows_stay_until_people_say_so_and_still_lead_back() {
    for mode in [Mode::Canary { permille: 100 }, Mode::Shadow { permille: 100 }] {
        let observed = Observed { mode, ..READY };
        assert_eq!(
            next(Phase::Starting, &Observed { trial: Trial::Skipped, ..observed.clone() }, 0.0, (0, 0)),
            Next::Enter(Phase::Trial)
        );
        assert_eq!(next(Phase::Trial, &observed, 9999.0, (500, 0)), Next::Stay);
        assert!(matches!(next(Phase::Trial, &observed, 1.0, (10, 10)), Next::RollBack(_)));
    }
    assert_eq!(next(Phase::Trial, &READY, 9999.0, (3, 0)), Next::Enter(Phase::Moving), "once promoted");
}

#[test]
fn traffic_follows_the_phase() {
    let part = |phase, mode| {
        let rollout = Rollout::begin(2, 1, phase, Duration::ZERO);
        (rollout.permille(mode), rollout.shadow_permille(mode))
    };
    let table = [
        (Phase::Starting, Mode::Rolling, (0, 0)),
        (Phase::Starting, Mode::Canary { permille: 300 }, (0, 0)),
        (Phase::Starting, Mode::Shadow { permille: 300 }, (0, 0)),
        (Phase::Trial, Mode::Rolling, (100, 0)),
        (Phase::Half, Mode::Rolling, (500, 0)),
        (Phase::Trial, Mode::Canary { permille: 300 }, (300, 0)),
        (Phase::Trial, Mode::Shadow { permille: 300 }, (0, 300)),
        (Phase::Moving, Mode::Rolling, (1000, 0)),
        (Phase::Watching, Mode::Rolling, (1000, 0)),
    ];
    for (phase, mode, expected) in table {
        assert_eq!(part(phase, mode), expected, "{phase:?} {mode:?}");
    }
}

#[test]
fn time_wakes_a_rollout_when_a_wait_is_over() {
    let timing = Timing::default();
    let at = |phase, waited_ms| {
        let waited = Duration::from_millis(waited_ms);
        let rollout = Rollout::begin(2, 1, phase, seconds(100.0));
        wake_at(&rollout, &timing, seconds(100.0) + waited).map(|at| (at - seconds(100.0)).as_millis())
    };
    assert_eq!(at(Phase::Starting, 0), None);
    assert_eq!(at(Phase::Trial, 0), Some(300));
    assert_eq!(at(Phase::Trial, 300), Some(2000));
    assert_eq!(at(Phase::Trial, 2000), None);
    assert_eq!(at(Phase::Watching, 2000), Some(30_000));
}

/// Seconds, and failures, until a canary that answered a million requests and then fails all is rolled back.
fn conviction(per_second: u64) -> (u64, u64) {
    let mut rollout = Rollout::begin(2, 1, Phase::Trial, Duration::ZERO);
    let canary = Observed { mode: Mode::Canary { permille: 100 }, ..READY };
    let mut now = 0;
    while rollout.tally(2).requests.answered < 1_000_000 {
        now += 1;
        rollout.count(2, &tally(per_second, 0), seconds(now as f64));
        rollout.count(1, &tally(per_second * 9, 0), seconds(now as f64));
    }
    let good_until = now;
    loop {
        now += 1;
        rollout.count(2, &tally(0, per_second), seconds(now as f64));
        rollout.count(1, &tally(per_second * 9, 0), seconds(now as f64));
        match step(&rollout, &canary, &Timing::default(), seconds(now as f64)) {
            Next::RollBack(_) => return (now - good_until, rollout.tally(2).requests.failed),
            next => assert_eq!(next, Next::Stay),
        }
    }
}

#[test]
fn a_canary_that_turns_bad_is_rolled_back_within_10_seconds_or_200_failures_whichever_is_later() {
    for per_second in [1, 5, 20, 1_000] {
        let (waited, failures) = conviction(per_second);
        assert!(waited <= 10 || failures <= 200, "{per_second} a second: {waited} s, {failures} failures");
    }
}

#[test]
fn failures_of_the_baseline_long_ago_do_not_excuse_the_new_revision() {
    let mut rollout = Rollout::begin(2, 1, Phase::Trial, Duration::ZERO);
    rollout.count(1, &tally(0, 5_000), seconds(1.0));
    rollout.count(1, &tally(5_000, 0), seconds(60.0));
    rollout.count(1, &tally(5_000, 0), seconds(75.0));
    rollout.count(2, &tally(15, 5), seconds(75.0));
    assert!(matches!(step(&rollout, &READY, &Timing::default(), seconds(75.0)), Next::RollBack(_)));
}
