//! How long a replica works on each request, from a formula over its tokens.

use std::time::Duration;

use millstream_pipelines::Formula;

use super::trace::Trace;

/// Names that a formula may use, in the order in which values are given.
const NAMES: [&str; 2] = ["prompt", "generated"];
/// Longest service time, in seconds.
const MAX_SECONDS: f64 = 86_400.0;

/// A request with the time that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// When it comes, from the first one on.
    pub at: Duration,
    /// How long a replica works on it.
    pub service: Duration,
}

/// Why there are no service times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The formula is none.
    #[error("service time `{text}`, column {column}: {message}; {help}; it may use `prompt` and `generated`")]
    Formula {
        /// The formula.
        text: String,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// It gives no time for a request.
    #[error(
        "service time `{text}`: line {line} of the trace (prompt {prompt}, generated {generated}): {reason}; write a \
         formula that gives seconds from 0 to 86400 for every request"
    )]
    Value {
        /// The formula.
        text: String,
        /// The request's line.
        line: usize,
        /// Its prompt tokens.
        prompt: u32,
        /// Its generated tokens.
        generated: u32,
        /// What is wrong.
        reason: String,
    },
}

/// The requests of a trace with their service times by `formula`, in seconds.
///
/// # Errors
/// [`ServiceError`], with the first request that it gives no time for.
pub fn jobs(trace: &Trace, formula: &str) -> Result<Vec<Job>, ServiceError> {
    let compiled = Formula::compile(formula, &NAMES).map_err(|fault| ServiceError::Formula {
        text: formula.to_owned(),
        column: formula.get(..fault.range.start).map_or(1, |before| before.chars().count() + 1),
        message: fault.message,
        help: fault.help,
    })?;
    let job = |arrival: &super::trace::Arrival| {
        let super::trace::Arrival { at, prompt, generated, line } = *arrival;
        let text = formula.to_owned();
        let refused = |reason| ServiceError::Value { text, line, prompt, generated, reason };
        match compiled.eval(&[f64::from(prompt), f64::from(generated)]) {
            Ok(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => {
                Ok(Job { at, service: Duration::from_secs_f64(seconds) })
            }
            Ok(seconds) => Err(refused(format!("it gives {seconds}"))),
            Err(error) => Err(refused(error.to_string())),
        }
    };
    trace.arrivals.iter().map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaling::trace::Arrival;

    fn trace() -> Trace {
        let arrival = |line| Arrival { at: Duration::from_secs(1), prompt: 100, generated: 10, line };
        Trace { arrivals: vec![arrival(2), arrival(3)] }
    }

    #[test]
    fn a_formula_gives_each_request_its_time() {
        let jobs = jobs(&trace(), "0.05 + 0.0002*prompt + 0.02*generated").unwrap();
        assert_eq!(jobs[1].service, Duration::from_secs_f64(0.27));
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_place() {
        for (formula, text) in [
            ("0.05 + promt", "column 8"),
            ("prompt - 1000", "line 2 of the trace (prompt 100, generated 10): it gives -900"),
            ("prompt * 1e6", "it gives 100000000"),
            ("1 / (prompt - 100)", "line 2"),
            ("'a'", "not a number"),
        ] {
            let error = jobs(&trace(), formula).unwrap_err().to_string();
            assert!(error.contains(text), "{formula}: {error}");
        }
    }
}
