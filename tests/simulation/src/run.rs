//! Running seeds: once as they are, again with a trace when one fails, and smaller while it still fails.

use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checks::{Rule, Violation};
use crate::scenario::Scenario;
use crate::world::World;
use crate::{Mutation, Trace};

/// Lines of the history that a failure shows.
const LAST_LINES: usize = 60;
/// Runs that making a script smaller may take.
const MAX_SHRINKS: usize = 300;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Requests that were answered.
    pub num_answered: u64,
    /// Requests that failed, as faults may make them.
    pub num_failed: u64,
}

/// A seed that breaks a rule.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was not as it must be.
    pub violation: Violation,
    /// What was done to the cluster, made as small as it still fails.
    pub script: Vec<String>,
    /// The end of the history of that script.
    pub lines: Vec<String>,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {}", self.seed, self.violation)?;
        writeln!(f, "smallest script found:")?;
        for line in &self.script {
            writeln!(f, "  {line}")?;
        }
        let skipped = self.lines.len().saturating_sub(LAST_LINES);
        writeln!(f, "its last events ({skipped} before them):")?;
        for line in &self.lines[skipped..] {
            writeln!(f, "  {line}")?;
        }
        write!(f, "run it alone, with all events: MILLSTREAM_SIM_SEED={}", self.seed)
    }
}

/// Runs a seed.
///
/// # Errors
/// The rule that it breaks.
pub fn run(seed: u64, mutation: Mutation) -> Result<Report, Violation> {
    run_scenario(Scenario::draw(seed), mutation, Trace::Off).0
}

/// Runs a seed; returns all that happened beside its end.
pub fn traced(seed: u64, mutation: Mutation) -> (Result<Report, Violation>, Vec<String>) {
    let scenario = Scenario::draw(seed);
    let head = format!(
        "{:?}, room: {:?}, {} nodes, {} ingresses",
        scenario.weather,
        scenario.room,
        scenario.nodes.len(),
        scenario.num_ingresses
    );
    let (result, mut lines) = run_scenario(scenario, mutation, Trace::On);
    lines.insert(0, head);
    (result, lines)
}

/// Makes the script of a seed that fails smaller, for as long as it breaks the same rule.
#[must_use]
pub fn shrink(seed: u64, mutation: Mutation, violation: Violation) -> Failure {
    let mut smallest = Scenario::draw(seed);
    let mut broken = violation;
    let mut runs = 0;
    let mut size = (smallest.script.len() / 2).max(1);
    loop {
        let mut start = 0;
        while start < smallest.script.len() && runs < MAX_SHRINKS {
            let mut smaller = smallest.clone();
            let end = (start + size).min(smaller.script.len());
            smaller.script.drain(start..end);
            runs += 1;
            match run_scenario(smaller.clone(), mutation, Trace::Off).0 {
                Err(same) if same.rule == broken.rule => (smallest, broken) = (smaller, same),
                _ => start += size,
            }
        }
        if size == 1 || runs >= MAX_SHRINKS {
            break;
        }
        size = (size / 2).max(1);
    }
    let script =
        smallest.script.iter().map(|(at, op)| format!("{:>7.3} s  {op:?}", at.as_secs_f64())).collect();
    let (_, lines) = run_scenario(smallest, mutation, Trace::On);
    Failure { seed, violation: broken, script, lines }
}

fn run_scenario(
    scenario: Scenario,
    mutation: Mutation,
    trace: Trace,
) -> (Result<Report, Violation>, Vec<String>) {
    let mut world = World::new(scenario, mutation, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
        Err(Violation { rule: Rule::NoPanic, detail: text.to_owned() })
    });
    let client = &world.cx.client;
    let report = Report { num_answered: client.num_answered, num_failed: client.num_failed };
    (result.map(|()| report), world.cx.take_lines())
}
