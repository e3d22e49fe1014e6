use std::time::Duration;

use super::*;

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\na,8000,1,2,T4\nb,8000,1,4,G2\nc,64000,1,0,\n";
const TASKS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
    1,1000,1,1,500,\n2,2000,1,2,1000,G2|T4\n3,1000,1,1,1000,T4\n4,500,1,0,0,\n5,1000,1,1,330,\n";

fn run(policy: Policy, seed: u64) -> Outcome {
    let (nodes, tasks) = (Nodes::parse("n", NODES).unwrap(), Tasks::parse("t", TASKS).unwrap());
    let setup = Setup { nodes: &nodes, tasks: &tasks, policy, ratio: 1.3 };
    let mut time = Duration::ZERO;
    let clock = || {
        time += Duration::from_micros(1);
        time
    };
    simulate(&setup, seed, clock, |done| assert!((0.0..=1.0).contains(&done)))
}

#[test]
fn a_seed_gives_the_same_every_time_and_never_more_than_the_bound() {
    for policy in [Policy::Fragmentation, Policy::BestFit, Policy::Random] {
        for seed in 0..6 {
            let outcome = run(policy, seed);
            assert_eq!(outcome, run(policy, seed));
            assert!(outcome.allocated_pct_at_100 <= outcome.bound_pct_at_100 + 0.1, "{outcome:?}");
            assert!(outcome.allocated_pct_at_end <= outcome.bound_pct_at_end + 0.1, "{outcome:?}");
            assert!(outcome.bound_pct_at_end <= 100.0 && outcome.allocated_pct_at_end > 40.0, "{outcome:?}");
            assert!(outcome.num_failed < outcome.num_tasks);
        }
    }
}

#[test]
fn a_summary_holds_means_and_percentiles() {
    assert_eq!(Summary::of(Policy::Random, 1.3, vec![]), None);
    let summary = Summary::of(Policy::Random, 1.3, (0..4).map(|seed| run(Policy::Random, seed)).collect());
    let summary = summary.unwrap();
    assert_eq!(summary.seeds, [0, 1, 2, 3]);
    assert!((summary.decision_us_p50 - 1.0).abs() < 1e-9 && (summary.decision_us_p99 - 1.0).abs() < 1e-9);
    let json = serde_json::to_value(&summary).unwrap();
    for key in ["allocated_pct_at_100", "allocated_pct_at_end", "decision_us_p50", "decision_us_p99", "seeds"]
    {
        assert!(json.get(key).is_some(), "{key}");
    }
}

#[test]
fn all_faults_of_a_file_come_together_with_their_places() {
    let text =
        "name,cpu_milli,num_gpu,gpu_milli\na,x,1,500\nb,1, 1,-2\nc,1,2,500\nd,1\n\ne,1,NaN,1001\nf,1,1,0\n";
    let faults = Tasks::parse("tasks.csv", text).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "tasks.csv:2:3: `cpu_milli` is `x`; set it to a whole number from 0 to 100000000",
            "tasks.csv:3:8: `gpu_milli` is `-2`; set it to a whole number from 0 to 1000",
            "tasks.csv:4:7: `gpu_milli` is `500` with `num_gpu` 2; more than one GPU comes whole: set it to 1000",
            "tasks.csv:5:1: the row has 2 fields, the first line 4; give every column a field, and put a field that holds a comma in quotes",
            "tasks.csv:7:5: `num_gpu` is `NaN`; set it to a whole number from 0 to 64",
            "tasks.csv:7:9: `gpu_milli` is `1001`; set it to a whole number from 0 to 1000",
            "tasks.csv:8:7: `gpu_milli` is `0` with `num_gpu` 1; set it to 1 to 1000, or `num_gpu` to 0",
        ]
    );
    let columns = Nodes::parse("nodes.csv", "cpu,gpu\n1,2\n").unwrap_err();
    assert_eq!(columns.len(), 2, "{columns:?}");
    assert!(Nodes::parse("nodes.csv", "").is_err());
}

#[test]
fn a_field_in_quotes_may_hold_a_comma() {
    let text = "name,cpu_milli,gpu,model\n\"a, the first\",\"8000\",2,\"T4\"\n";
    let nodes = Nodes::parse("nodes.csv", text).unwrap();
    assert_eq!(nodes.rows, [NodeRow { cpu_milli: 8000, num_gpus: 2, model: "T4".to_owned() }]);
}
