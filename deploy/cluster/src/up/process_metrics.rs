//! What a process uses of its machine, read when somebody asks. Written here and not by the recorder: its counters are
//! whole numbers, and seconds of CPU are not.

use std::fs;

use millstream_proto::metric::{Definition, Kind};
use rustix::time::{ClockId, clock_gettime};

const MEMORY: Definition = Definition {
    name: "millstream_process_resident_memory_bytes",
    kind: Kind::Gauge,
    help: "Memory of this process that is in RAM.",
    labels: &[],
};
const CPU: Definition = Definition {
    name: "millstream_process_cpu_seconds_total",
    kind: Kind::Counter,
    help: "CPU time that this process has used.",
    labels: &[],
};

/// Everything that is told of the process.
pub(super) const ALL: &[Definition] = &[MEMORY, CPU];

/// The process's metrics in Prometheus's text form.
pub(super) fn render() -> String {
    let mut text = String::new();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = resident_bytes(&status) {
        family(&mut text, &MEMORY, "gauge", &bytes.to_string());
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    family(&mut text, &CPU, "counter", &format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec));
    text
}

fn family(text: &mut String, definition: &Definition, kind: &str, value: &str) {
    let Definition { name, help, .. } = definition;
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"));
}

/// `VmRSS:  123 kB`, in bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t     16 kB\n"), Some(16 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let text = render();
        assert!(text.contains("# TYPE millstream_process_cpu_seconds_total counter\n"), "{text}");
        assert!(text.contains("\nmillstream_process_resident_memory_bytes "), "{text}");
    }
}
