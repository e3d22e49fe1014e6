//! What processes take of the machine, by `/proc`, and what they may.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory of a process (PSS): its own, and its part of what it shares.
#[must_use]
pub fn pss_mib_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
    kib / 1024.0
}

/// The CPU time of a process so far, its own and the kernel's for it, in seconds. `/proc` counts hundredths of them, whatever the
/// kernel's own tick is.
pub fn cpu_s_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The 14th and 15th field; the second may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().context("ticks"));
    Ok(f64::from(ticks.sum::<Result<u32>>()?) / 100.0)
}

/// Lets this process, and those that it starts, open so many files and sockets at a time, or as many as it may.
pub fn allow_descriptors(wanted: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    }
    Ok(())
}
