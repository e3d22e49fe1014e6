//! What a process uses of its machine, read when somebody asks. Written here and not by the recorder: its counters are
//! whole numbers, and seconds of CPU are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::histogram;
use millstream_proto::metric::{Definition, Kind, SECONDS};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

const fn gauge(name: &'static str, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Gauge, help, labels: &[] }
}

const fn counter(name: &'static str, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Counter, help, labels: &[] }
}

const BUILD: Definition = Definition {
    name: "millstream_build_info",
    kind: Kind::Gauge,
    help: "1, with the version of this process.",
    labels: &["version"],
};
const MEMORY: Definition =
    gauge("millstream_process_resident_memory_bytes", "Memory of this process that is in RAM.");
const CPU: Definition =
    counter("millstream_process_cpu_seconds_total", "CPU time that this process has used.");
const OPEN_FILES: Definition =
    gauge("millstream_process_open_files", "Files, sockets and the like that this process has open.");
const MAX_FILES: Definition =
    gauge("millstream_process_max_open_files", "How many this process may have open.");
const THREADS: Definition = gauge("millstream_process_threads", "Threads of this process.");
const GROUP_MEMORY: Definition = gauge(
    "millstream_cgroup_memory_bytes",
    "Memory of the control group that this process is in, as its limit counts it; only where there is a limit.",
);
const GROUP_MAX_MEMORY: Definition = gauge(
    "millstream_cgroup_memory_limit_bytes",
    "Memory that the control group of this process may use; only where there is a limit.",
);
const GROUP_THROTTLED: Definition = counter(
    "millstream_cgroup_cpu_throttled_seconds_total",
    "Time for which the control group of this process was kept from running by its CPU limit; only where there is one.",
);

const LOOP_LAG: Definition = Definition {
    name: "millstream_event_loop_lag_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "How much later than asked a timer of this process's runtime went off; beyond a few milliseconds its threads are too busy.",
    labels: &[],
};

/// How often a timer is set to see how late it goes off.
const LAG_INTERVAL: Duration = Duration::from_millis(250);

/// Everything that is told of the process.
pub(super) const ALL: &[Definition] = &[
    BUILD,
    MEMORY,
    CPU,
    OPEN_FILES,
    MAX_FILES,
    THREADS,
    GROUP_MEMORY,
    GROUP_MAX_MEMORY,
    GROUP_THROTTLED,
    LOOP_LAG,
];

/// Measures how late timers go off. Never returns.
pub(super) async fn watch_lag() {
    let lag = histogram!(LOOP_LAG.name);
    loop {
        let due = millstream_clock::now() + LAG_INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        lag.record(millstream_clock::now().saturating_duration_since(due));
    }
}

/// The process's metrics in Prometheus's text form.
pub(super) fn render() -> String {
    let mut text = String::new();
    let build = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    family(&mut text, &BUILD, &build, "1");
    let mut add = |definition: &Definition, value: Option<String>| {
        value.iter().for_each(|value| family(&mut text, definition, "", value));
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_status = |field| number_of(&status, field);
    add(&MEMORY, of_status("VmRSS:").and_then(|kib| kib.checked_mul(1024)).map(|bytes| bytes.to_string()));
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    add(&CPU, Some(format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec)));
    // One of them is the folder that is being read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
    add(&OPEN_FILES, open.map(|count| count.to_string()));
    add(&MAX_FILES, getrlimit(Resource::Nofile).current.map(|limit| limit.to_string()));
    add(&THREADS, of_status("Threads:").map(|count| count.to_string()));
    let group = ControlGroup::of_this_process();
    add(&GROUP_MEMORY, group.memory.map(|(used, _)| used.to_string()));
    add(&GROUP_MAX_MEMORY, group.memory.map(|(_, limit)| limit.to_string()));
    add(&GROUP_THROTTLED, group.throttled_us.map(|us| format!("{}.{:06}", us / 1_000_000, us % 1_000_000)));
    text
}

fn family(text: &mut String, definition: &Definition, labels: &str, value: &str) {
    let Definition { name, help, kind, .. } = definition;
    let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n\n"));
}

/// The number of a line such as `VmRSS:  123 kB`.
fn number_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the kernel says of the control group that this process is in (cgroup v2).
#[derive(Debug, Default, PartialEq, Eq)]
struct ControlGroup {
    /// Bytes used, and the limit.
    memory: Option<(u64, u64)>,
    /// Microseconds for which its CPU limit held it back.
    throttled_us: Option<u64>,
}

impl ControlGroup {
    fn of_this_process() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
        path.map_or_else(Self::default, |path| {
            // In a container the path is often that of the machine, and the container's own group is mounted at the top.
            let own = PathBuf::from(format!("/sys/fs/cgroup{path}"));
            Self::read(if own.is_dir() { &own } else { Path::new("/sys/fs/cgroup") })
        })
    }

    fn read(folder: &Path) -> Self {
        let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let limit = file("memory.max").trim().parse().ok();
        let used = file("memory.current").trim().parse().ok();
        let has_cpu_limit = file("cpu.max").split_whitespace().next().is_some_and(|quota| quota != "max");
        let throttled_us = number_of(&file("cpu.stat"), "throttled_usec").filter(|_| has_cpu_limit);
        Self { memory: used.zip(limit), throttled_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert_eq!(number_of("Name:\tx\nVmRSS:\t     16 kB\n", "VmRSS:"), Some(16));
        assert_eq!(number_of("Name:\tx\n", "VmRSS:"), None);
        let text = render();
        for line in [
            "# TYPE millstream_process_cpu_seconds_total counter\n",
            "\nmillstream_process_resident_memory_bytes ",
            "\nmillstream_process_open_files ",
            "\nmillstream_process_threads ",
            "\nmillstream_build_info{version=\"",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_control_group_tells_its_limits_where_it_has_some() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(ControlGroup::read(folder.path()), ControlGroup::default());
        write("memory.max", "max\n");
        write("memory.current", "1000\n");
        write("cpu.max", "max 100000\n");
        write("cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n");
        assert_eq!(ControlGroup::read(folder.path()), ControlGroup::default());
        write("memory.max", "4096\n");
        write("cpu.max", "50000 100000\n");
        let expected = ControlGroup { memory: Some((1000, 4096)), throttled_us: Some(2_500_000) };
        assert_eq!(ControlGroup::read(folder.path()), expected);
    }
}
