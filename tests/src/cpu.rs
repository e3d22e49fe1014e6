//! What a server costs, however busy the machine is.

use std::fs;

use anyhow::{Context as _, Result};

/// The CPU time of a process so far, its own and the kernel's for it, in seconds. `/proc` counts hundredths of them, whatever the
/// kernel's own tick is.
pub fn cpu_s_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The 14th and 15th field; the second may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().context("ticks"));
    Ok(f64::from(ticks.sum::<Result<u32>>()?) / 100.0)
}
