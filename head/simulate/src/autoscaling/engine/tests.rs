use super::*;

fn settings(min: u32, max: u32) -> Settings {
    let autoscaling = Autoscaling { min_replicas: min, max_replicas: max, ..Autoscaling::default() };
    Settings { autoscaling, policy: Policy::Ours, max_ongoing: 8, start_time: Duration::from_secs(5) }
}

/// Requests of one second, `per_second` of them, for that long.
fn steady(per_second: u32, seconds: u32) -> Vec<Job> {
    let at = |index: u32| Duration::from_secs(1) * index / per_second;
    (0..per_second * seconds).map(|index| Job { at: at(index), service: Duration::from_secs(1) }).collect()
}

#[test]
fn one_request_from_zero_waits_for_one_start() {
    let jobs = [Job { at: Duration::ZERO, service: Duration::from_secs(2) }];
    let outcome = run(&jobs, &settings(0, 4));
    assert_eq!((outcome.wait_p50_ms, outcome.scale_events, outcome.shed), (5000.0, 1, 0));
    assert!((outcome.replica_seconds - 7.0).abs() < 1e-9);
}

#[test]
fn a_fixed_deployment_never_scales() {
    let outcome = run(&steady(3, 100), &settings(2, 2));
    assert_eq!((outcome.scale_events, outcome.max_replicas_used), (0, 2));
    assert!((outcome.wait_p99_ms - 0.0).abs() < 1e-9);
    assert!((outcome.replica_seconds - 2.0 * outcome.duration_seconds).abs() < 1e-6);
}

#[test]
fn a_steady_load_gets_the_replicas_that_its_target_asks_for() {
    let outcome = run(&steady(8, 300), &settings(1, 40));
    assert_eq!(outcome.max_replicas_used, 4);
    assert!(outcome.scale_events <= 4, "{outcome:?}");
}

#[test]
fn a_queue_that_is_full_sheds_and_every_request_is_accounted_for() {
    let jobs: Vec<_> =
        (0..200).map(|_| Job { at: Duration::ZERO, service: Duration::from_secs(60) }).collect();
    let outcome = run(&jobs, &settings(1, 1));
    // 8 run, 64 wait.
    assert_eq!((outcome.shed, outcome.requests), (128, 200));
}

#[test]
fn idle_time_between_bursts_ends_replicas() {
    let burst = |start: u64| (0..10).map(move |_| start).map(Duration::from_secs);
    let service = Duration::from_secs(1);
    let jobs: Vec<_> = burst(0).chain(burst(1000)).map(|at| Job { at, service }).collect();
    let outcome = run(&jobs, &settings(0, 8));
    assert!(outcome.replica_seconds < 2.0 * 400.0 * 5.0, "{outcome:?}");
    assert_eq!(outcome.wait_p50_ms, 5000.0, "both began from zero");
}

#[test]
fn the_same_trace_gives_the_same_outcome_and_the_peer_reacts_later() {
    let jobs = steady(20, 200);
    let ours = run(&jobs, &settings(1, 40));
    assert_eq!(ours, run(&jobs, &settings(1, 40)));
    let peer = run(&jobs, &Settings { policy: Policy::Peer, ..settings(1, 40) });
    assert!(peer.wait_p95_ms > ours.wait_p95_ms, "{peer:?} {ours:?}");
}
