//! Rollouts as tables: where one stands, what is seen, what follows.

use super::*;

const READY: Observed = Observed {
    mode: Mode::Rolling,
    ready: true,
    moved: false,
    cannot_start: None,
    trial: Trial::Needed,
    busy: true,
    next_step: None,
    max_p95: None,
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
        (Phase::Trial, &READY, 2.0, (0, 1), Next::Enter(Phase::Half)),
        (Phase::Half, &READY, 9999.0, (0, 1), Next::Stay),
        (Phase::Half, &READY, 9999.0, (0, 19), Next::Stay),
        (Phase::Half, &READY, 9999.0, (1, 18), Next::Enter(Phase::Moving)),
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

/// Outcomes a second of both revisions, for so long; the time until the verdict when there is one.
struct Spell {
    seconds: u32,
    new: (u64, u64),
    old: (u64, u64),
}

/// A canary that saw this, one after the other, reported each tenth of a second; returns when it was convicted, from the
/// beginning of the last spell.
fn convicted_after(phase: Phase, spells: &[Spell]) -> Option<f64> {
    let mut rollout = Rollout::begin(2, 1, phase, Duration::ZERO);
    let observed = Observed { mode: Mode::Canary { permille: 100 }, ..READY };
    let (mut now, mut start) = (Duration::ZERO, Duration::ZERO);
    let mut verdict = None;
    for spell in spells {
        start = now;
        // What comes in whole numbers is spread over the second.
        let at = |each: u64, tenth: u64| each * (tenth + 1) / 10 - each * tenth / 10;
        for tenth in (0..u64::from(spell.seconds) * 10).map(|tenth| tenth % 10) {
            now += Duration::from_millis(100);
            rollout.count(2, &tally(at(spell.new.0, tenth), at(spell.new.1, tenth)), now);
            rollout.count(1, &tally(at(spell.old.0, tenth), at(spell.old.1, tenth)), now);
            let next = step(&rollout, &observed, &Timing::default(), now);
            if verdict.is_none() && matches!(next, Next::RollBack(_)) {
                verdict = Some(now);
            }
        }
    }
    verdict.map(|at| at.as_secs_f64() - start.as_secs_f64())
}

#[test]
fn a_verdict_is_about_the_present() {
    let spell = |seconds, new, old| Spell { seconds, new, old };
    // What was, what is, and by when it is convicted; `None`: not within that spell.
    let table = [
        (
            "a million good answers, then all fail",
            vec![spell(1000, (1000, 0), (9000, 0)), spell(20, (0, 1000), (9000, 0))],
            Some(1.0),
        ),
        ("the same, slowly", vec![spell(5000, (2, 0), (18, 0)), spell(200, (0, 2), (18, 0))], Some(6.0)),
        ("half fail", vec![spell(1000, (100, 0), (900, 0)), spell(20, (50, 50), (900, 0))], Some(10.0)),
        (
            "the old one failed long ago",
            vec![spell(1000, (100, 0), (0, 900)), spell(30, (50, 50), (900, 0))],
            Some(20.0),
        ),
        ("both fail", vec![spell(1000, (100, 0), (900, 0)), spell(300, (0, 100), (0, 900))], None),
        (
            "both fail alike, slowly",
            vec![spell(1000, (1, 0), (9, 0)), spell(30, (0, 1), (0, 9)), spell(900, (1, 0), (9, 0))],
            None,
        ),
        ("three of a hundred fail, as always", vec![spell(3000, (97, 3), (900, 0))], None),
        (
            "the new one failed at first",
            vec![spell(10, (96, 4), (900, 0)), spell(1000, (100, 0), (900, 0))],
            None,
        ),
    ];
    for (what, spells, expected) in table {
        for phase in [Phase::Trial, Phase::Moving, Phase::Watching] {
            let found = convicted_after(phase, &spells);
            match expected {
                Some(within) => {
                    assert!(found.is_some_and(|at| at > 0.0 && at <= within), "{what} {phase:?}: {found:?}");
                }
                None => assert_eq!(found, None, "{what} {phase:?}"),
            }
        }
    }
}

#[test]
fn a_revision_that_has_taken_over_is_compared_with_what_the_old_one_last_did() {
    // One in ten fails, before and after: that is no reason to go back.
    let alike = [
        Spell { seconds: 60, new: (9, 1), old: (90, 10) },
        Spell { seconds: 600, new: (90, 10), old: (0, 0) },
    ];
    assert_eq!(convicted_after(Phase::Moving, &alike), None);
    let worse = [
        Spell { seconds: 60, new: (9, 1), old: (90, 10) },
        Spell { seconds: 600, new: (70, 30), old: (0, 0) },
    ];
    assert!(convicted_after(Phase::Moving, &worse).is_some_and(|at| at <= 10.0));
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
    let part = |phase, mode: Mode| {
        let rollout = Rollout { part: mode.part(), ..Rollout::begin(2, 1, phase, Duration::ZERO) };
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
        (Phase::Trial, Mode::Steps { permille: 50 }, (50, 0)),
        (Phase::Trial, Mode::Promoted { permille: 30 }, (100, 0)),
        (Phase::Trial, Mode::Promoted { permille: 300 }, (300, 0)),
        (Phase::Half, Mode::Promoted { permille: 700 }, (700, 0)),
        (Phase::Moving, Mode::Rolling, (1000, 0)),
        (Phase::Watching, Mode::Rolling, (1000, 0)),
    ];
    for (phase, mode, expected) in table {
        assert_eq!(part(phase, mode), expected, "{phase:?} {mode:?}");
    }
    let waits = Rollout::begin(2, 1, Phase::Trial, Duration::ZERO);
    assert_eq!(waits.permille(Mode::Canary { permille: 300 }), 0, "until there are replicas for it");
}

#[test]
fn steps_follow_one_another_by_time_and_one_that_fails_stays() {
    let step = |percent: u16, hold| TrafficStep { permille: percent * 10, hold: seconds(hold) };
    let steps = [step(5, 600.0), step(25, 60.0), step(100, 0.0)];
    let after = |permille, hold| Some(NextStep { permille, after: seconds(hold) });
    for (present, expected) in [
        (50, after(250, 600.0)),
        (250, after(1000, 60.0)),
        (400, after(1000, 60.0)),
        (10, after(50, 600.0)),
        (1000, None),
    ] {
        assert_eq!(NextStep::of(&steps, present), expected, "{present}");
    }
    let observed = Observed { mode: Mode::Steps { permille: 50 }, next_step: after(250, 600.0), ..READY };
    for (waited, new, expected) in [
        (599.0, (1000, 0), Next::Stay),
        (600.0, (1000, 0), Next::Advance(250)),
        (600.0, (0, 0), Next::Advance(250)),
        (600.0, (0, 3), Next::Stay),
    ] {
        assert_eq!(next(Phase::Trial, &observed, waited, new), expected, "{waited} {new:?}");
    }
    assert!(matches!(next(Phase::Trial, &observed, 1.0, (50, 50)), Next::RollBack(_)));
    let rollout = Rollout::begin(2, 1, Phase::Trial, seconds(100.0));
    let woken = wake_at(&rollout, observed.next_step, &Timing::default(), seconds(101.0));
    assert_eq!(woken, Some(seconds(700.0)));
}

#[test]
fn time_wakes_a_rollout_when_a_wait_is_over() {
    let timing = Timing::default();
    let at = |phase, waited_ms| {
        let waited = Duration::from_millis(waited_ms);
        let rollout = Rollout::begin(2, 1, phase, seconds(100.0));
        wake_at(&rollout, None, &timing, seconds(100.0) + waited).map(|at| (at - seconds(100.0)).as_millis())
    };
    assert_eq!(at(Phase::Starting, 0), None);
    assert_eq!(at(Phase::Trial, 0), Some(300));
    assert_eq!(at(Phase::Trial, 300), Some(2000));
    assert_eq!(at(Phase::Trial, 2000), None);
    assert_eq!(at(Phase::Watching, 2000), Some(30_000));
}
