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
    rollout.tally.insert(2, tally(new.0, new.1));
    rollout.tally.insert(1, tally(new.0 * 9, 0));
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
