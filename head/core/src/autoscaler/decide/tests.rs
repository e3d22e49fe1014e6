use proptest::prelude::*;

use super::*;

fn config(min: u32, max: u32, target: f64) -> Autoscaling {
    Autoscaling {
        min_replicas: min,
        max_replicas: max,
        target_ongoing_requests: target,
        ..Autoscaling::default()
    }
}

/// A deployment whose replicas follow the target at once or never, and a clock.
struct Run {
    config: Autoscaling,
    scaling: Scaling,
    ready: u32,
    follow: Follow,
    now: Duration,
}

#[derive(PartialEq)]
enum Follow {
    AtOnce,
    Never,
}

impl Run {
    fn new(config: Autoscaling, replicas: u32, follow: Follow) -> Self {
        let scaling = Scaling { target: replicas, ..Scaling::default() };
        Self { config, scaling, ready: replicas, follow, now: Duration::from_secs(1000) }
    }

    /// Lets time pass, then decides with that many ongoing requests.
    fn step(&mut self, seconds: f64, ongoing: u32) -> Decision {
        self.now += Duration::from_secs_f64(seconds);
        let observed = Observed {
            ongoing: f64::from(ongoing),
            ongoing_now: u64::from(ongoing),
            ready: self.ready,
            starting: self.scaling.target.saturating_sub(self.ready),
            ..Observed::default()
        };
        let decision = decide(&self.config, &self.scaling, &observed, self.now);
        self.scaling = decision.scaling;
        if self.follow == Follow::AtOnce {
            self.ready = decision.scaling.target;
        }
        decision
    }

    /// Steps of one second with the same load; returns the seconds after which the target changed, with its new value.
    fn hold(&mut self, seconds: u32, ongoing: u32) -> Vec<(u32, u32)> {
        let mut changes = Vec::new();
        for second in 0..=seconds {
            let before = self.scaling.target;
            self.step(if second == 0 { 0.0 } else { 1.0 }, ongoing);
            if self.scaling.target != before {
                changes.push((second, self.scaling.target));
            }
        }
        changes
    }
}

fn delays(mut config: Autoscaling, up_s: u64, down_s: u64) -> Autoscaling {
    config.upscale_delay = Duration::from_secs(up_s);
    config.downscale_delay = Duration::from_secs(down_s);
    config
}

#[test]
fn factors_smooth_steps_and_a_step_down_is_never_rounded_away() {
    // (ready, raw, factor up, factor down) → wanted
    let table = [
        (10, 20.0, 0.5, 1.0, 15),
        (20, 5.0, 1.0, 0.5, 13),
        (10, 9.0, 1.0, 0.5, 9),
        (10, 20.0, 1.0, 1.0, 20),
        (10, 10.0, 0.5, 0.5, 10),
        (10, 9.5, 1.0, 0.5, 10),
        (0, 3.0, 1.0, 1.0, 3),
        (4, 1.0, 1.0, 3.0, 1),
        (1, 100.0, 1.0, 1.0, 100),
    ];
    for (ready, raw, up, down, wanted) in table {
        let config = Autoscaling { upscaling_factor: up, downscaling_factor: down, ..config(0, 1000, 2.0) };
        let observed = Observed { ongoing: raw * 2.0, ready, ..Observed::default() };
        assert_eq!(inputs(&config, &observed).wanted, wanted, "{ready} {raw} {up} {down}");
    }
}

#[test]
fn the_first_request_of_none_starts_replicas_at_once() {
    for (factor, max, expected) in [(1.0, 100, 1), (0.2, 100, 1), (10.0, 100, 10), (10.0, 4, 4)] {
        let config = Autoscaling { upscaling_factor: factor, ..config(0, max, 1.0) };
        let mut run = Run::new(config, 0, Follow::AtOnce);
        assert_eq!(run.step(1.0, 0).rule, None);
        let decision = run.step(1.0, 1);
        assert_eq!((decision.rule, decision.scaling.target), (Some(Rule::FromZero), expected));
    }
}

#[test]
fn delays_hold_wishes_and_an_opposite_one_starts_them_again() {
    let settings =
        Autoscaling { idle_timeout: Duration::from_secs(300), ..delays(config(0, 2, 1.0), 30, 600) };
    let mut run = Run::new(settings.clone(), 1, Follow::AtOnce);
    assert_eq!(run.hold(29, 2), []);
    assert_eq!(run.hold(0, 0), []);
    assert_eq!(run.hold(29, 2), [], "the wait began again");
    assert_eq!(run.hold(1, 2), [(1, 2)]);
    assert_eq!(run.hold(599, 0), []);
    assert_eq!(run.hold(0, 2), []);
    assert_eq!(run.hold(901, 0), [(600, 1), (901, 0)], "the last one leaves after its own idle time");
}

#[test]
fn the_latest_wish_is_applied() {
    let mut run = Run::new(delays(config(1, 100, 1.0), 30, 600), 1, Follow::AtOnce);
    assert_eq!(run.hold(29, 50), []);
    assert_eq!(run.step(1.0, 7).scaling.target, 7);
}

#[test]
fn a_little_more_load_is_no_wish_while_nobody_waits() {
    // (replicas, ongoing, waiting, tolerance) → target after the delay, with 10 aimed at per replica
    let table = [
        (10, 120_u32, 0, 0.2, 10),
        (10, 121, 0, 0.2, 13),
        (10, 120, 1, 0.2, 12),
        (10, 101, 0, 0.0, 11),
        (1, 12, 0, 0.2, 1),
        (1, 13, 0, 0.2, 2),
    ];
    for (replicas, ongoing, queued, upscale_tolerance, expected) in table {
        let config = Autoscaling { upscale_tolerance, ..delays(config(1, 100, 10.0), 1, 600) };
        let mut scaling = Scaling { target: replicas, ..Scaling::default() };
        let observed = Observed {
            ongoing: f64::from(ongoing),
            ongoing_now: u64::from(ongoing),
            queued,
            ready: replicas,
            ..Observed::default()
        };
        for second in 0..=1 {
            scaling = decide(&config, &scaling, &observed, Duration::from_secs(second)).scaling;
        }
        assert_eq!(scaling.target, expected, "{replicas} {ongoing} {queued} {upscale_tolerance}");
    }
}

#[test]
fn replicas_on_their_way_are_not_asked_for_again() {
    let mut run = Run::new(delays(config(1, 200, 1.0), 0, 600), 1, Follow::Never);
    assert_eq!(run.step(0.0, 100).scaling.target, 100);
    for _ in 0..1000 {
        let decision = run.step(1.0, 100);
        assert_eq!((decision.rule, decision.scaling.target), (None, 100));
    }
}

#[test]
fn without_requests_replicas_that_start_are_waited_for() {
    let mut run =
        Run::new(Autoscaling { idle_timeout: Duration::ZERO, ..config(0, 4, 1.0) }, 0, Follow::Never);
    assert_eq!(run.step(0.0, 1).scaling.target, 1);
    assert_eq!(run.hold(1000, 0), [], "the request was given up, the replica is still coming");
    run.ready = 1;
    assert_eq!(run.step(1.0, 0).rule, Some(Rule::IdleToZero));
}

#[test]
fn a_replica_that_never_comes_is_given_up_when_nobody_waits() {
    let config = config(0, 4, 1.0);
    let scaling = Scaling { target: 1, ..Scaling::default() };
    let nothing = Observed::default();
    let decision = decide(&config, &scaling, &nothing, Duration::from_secs(1));
    assert_eq!(decision.wake_at, Some(Duration::from_secs(301)));
    let decision = decide(&config, &decision.scaling, &nothing, Duration::from_secs(301));
    assert_eq!((decision.rule, decision.scaling.target), (Some(Rule::IdleToZero), 0));
}

#[test]
fn a_load_that_swings_around_the_target_moves_nothing() {
    let mut run = Run::new(delays(config(1, 100, 50.0), 30, 30), 1, Follow::AtOnce);
    for step in 0..1000 {
        assert_eq!(run.step(1.0, if step % 2 == 0 { 100 } else { 40 }).rule, None);
    }
}

#[test]
fn the_load_counts_as_a_whole_however_it_is_spread() {
    // All of it on one of four replicas makes no difference: only the sum is seen.
    for (ongoing, expected) in [(20, 4), (100, 20), (10, 2)] {
        let mut run = Run::new(delays(config(1, 100, 5.0), 0, 0), 4, Follow::AtOnce);
        assert_eq!(run.step(0.0, ongoing).scaling.target, expected);
    }
}

#[test]
fn a_loop_that_is_late_fires_by_the_clock() {
    let mut run = Run::new(delays(config(1, 100, 1.0), 100, 600), 1, Follow::AtOnce);
    run.step(0.0, 9);
    let start = run.now;
    while run.step(0.6, 9).rule.is_none() {}
    let after = (run.now - start).as_secs_f64();
    assert!((100.0..=100.6).contains(&after), "{after}");
}

#[test]
fn bounds_that_change_apply_at_once_and_wishes_say_what_held_them() {
    let mut run = Run::new(delays(config(1, 8, 1.0), 0, 0), 1, Follow::AtOnce);
    let decision = run.step(0.0, 20);
    let Inputs { unbounded, wanted, bounded_by, .. } = decision.inputs;
    assert_eq!((unbounded, wanted, bounded_by), (20, 8, Some(Bound::MaxReplicas)));
    run.config.max_replicas = 3;
    let decision = run.step(0.0, 20);
    assert_eq!((decision.rule, decision.scaling.target), (Some(Rule::Bounds), 3));
    run.config.min_replicas = 2;
    assert_eq!(run.step(0.0, 0).inputs.bounded_by, Some(Bound::MinReplicas));
    assert_eq!(run.scaling.target, 2);
}

#[test]
fn a_request_between_two_reports_is_no_idleness() {
    let config = config(0, 1, 1.0);
    let at = Duration::from_secs;
    let mut scaling = Scaling { target: 1, ..Scaling::default() };
    let observed = |last_active| Observed { ready: 1, last_active, ..Observed::default() };
    scaling = decide(&config, &scaling, &observed(None), at(0)).scaling;
    let decision = decide(&config, &scaling, &observed(Some(at(299))), at(300));
    assert_eq!((decision.rule, decision.wake_at), (None, Some(at(599))));
}

fn settings() -> impl Strategy<Value = Autoscaling> {
    let factors = (0.1..4.0_f64, 0.1..4.0_f64);
    (0_u32..5, 0_u32..40, 0.2..20.0_f64, (0_u64..5_000, 0_u64..20_000, 0_u64..20_000), factors).prop_map(
        |(min_replicas, more, target, (up, down, idle), (upscaling_factor, downscaling_factor))| {
            Autoscaling {
                min_replicas,
                max_replicas: (min_replicas + more).max(1),
                target_ongoing_requests: target,
                upscale_delay: Duration::from_millis(up),
                downscale_delay: Duration::from_millis(down),
                idle_timeout: Duration::from_millis(idle),
                upscaling_factor,
                downscaling_factor,
                ..Autoscaling::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn bounds_and_delays_hold_whatever_happens(
        config in settings(),
        steps in prop::collection::vec((1_u64..3_000, 0_u32..200), 1..200),
    ) {
        let mut run = Run::new(config.clone(), config.min_replicas, Follow::AtOnce);
        // Since when the intent went the same way, seen from outside.
        let mut intent: Option<(Direction, Duration)> = None;
        for (wait_ms, ongoing) in steps {
            let before = run.scaling.target;
            let decision = run.step(Duration::from_millis(wait_ms).as_secs_f64(), ongoing);
            let target = decision.scaling.target;
            prop_assert!((config.min_replicas..=config.max_replicas).contains(&target));
            prop_assert!(decision.wake_at.is_none_or(|at| at > run.now));
            prop_assert_eq!(decision.rule.is_some(), target != before);
            let direction = match decision.inputs.wanted.cmp(&before) {
                std::cmp::Ordering::Greater => Some(Direction::Up),
                std::cmp::Ordering::Less => Some(Direction::Down),
                std::cmp::Ordering::Equal => None,
            };
            intent = direction.map(|direction| match intent {
                Some((same, since)) if same == direction => (direction, since),
                _ => (direction, run.now),
            });
            match (decision.rule, intent) {
                (Some(Rule::Upscale), Some((Direction::Up, since))) =>
                    prop_assert!(run.now - since >= config.upscale_delay),
                (Some(Rule::Downscale), Some((Direction::Down, since))) =>
                    prop_assert!(run.now - since >= config.downscale_delay),
                (Some(Rule::Upscale | Rule::Downscale), _) => prop_assert!(false, "a move without an intent"),
                (Some(Rule::IdleToZero), _) => prop_assert_eq!((before, ongoing), (1, 0)),
                _ => {}
            }
            if decision.rule.is_some() {
                intent = None;
            }
        }
    }

    #[test]
    fn a_constant_load_settles_and_never_moves_again(config in settings(), ongoing in 0_u32..300) {
        let mut run = Run::new(config.clone(), config.min_replicas, Follow::AtOnce);
        // A factor above 1 overshoots; those up to 1 come nearer with every step.
        let config = Autoscaling {
            upscaling_factor: config.upscaling_factor.min(1.0),
            downscaling_factor: config.downscaling_factor.min(1.0),
            ..config
        };
        run.config = config;
        run.hold(3_000, ongoing);
        prop_assert_eq!(run.hold(2_000, ongoing), vec![]);
    }
}
