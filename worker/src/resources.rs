//! What the node has: cores and memory within the limits that this process is held to, and devices.

use std::path::Path;

use millstream_proto::v1;

use crate::DeclaredGpu;

/// Where a control group's memory limit stands: version 2, then version 1.
const CGROUP_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Everything that the node has. Reads files and the driver: call it off the async threads.
pub(crate) fn detect(declared: Option<&[DeclaredGpu]>) -> v1::Resources {
    let gpus = declared.map_or_else(found_gpus, declared_gpus);
    v1::Resources { cpu_milli: num_cores() as u64 * 1000, memory_bytes: memory_bytes(), gpus }
}

/// Cores that this process may use: its affinity and its control group's quota.
pub(crate) fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// CPU threads for one engine: what its demand says when that is a core or more, else an even part of the machine
/// among the replicas of its deployment that are there when it starts, itself counted: they are there because all are
/// busy at once. Deployments do not count one another: models of a pipeline mostly take turns, and idle threads cost
/// nothing. Never more than there are cores.
pub(crate) fn num_threads(cpu_milli: u64, num_cores: usize, num_replicas: usize) -> usize {
    let num_cores = num_cores.max(1);
    let wanted = if cpu_milli >= 1000 {
        usize::try_from(cpu_milli.div_ceil(1000)).unwrap_or(num_cores)
    } else {
        num_cores / num_replicas.max(1)
    };
    wanted.clamp(1, num_cores)
}

/// The machine's memory, or what a control group lets this process have of it; 0 where neither is known.
#[must_use]
pub fn memory_bytes() -> u64 {
    let total = read("/proc/meminfo").and_then(|text| parse_meminfo(&text));
    let limit = CGROUP_LIMITS.iter().find_map(read).and_then(|text| parse_limit(&text));
    match (total, limit) {
        (Some(total), Some(limit)) => total.min(limit),
        (total, limit) => total.or(limit).unwrap_or(0),
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `MemTotal:  123 kB`, in bytes.
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A number of bytes, or `max` for none.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn declared_gpus(gpus: &[DeclaredGpu]) -> Vec<v1::Gpu> {
    (0_u32..)
        .zip(gpus)
        .map(|(index, gpu)| v1::Gpu { index, model: gpu.model.clone(), memory_bytes: gpu.memory_bytes })
        .collect()
}

/// Devices that the driver's management library knows; none where there is no library.
fn found_gpus() -> Vec<v1::Gpu> {
    let nvml = match nvml_wrapper::Nvml::init() {
        Ok(nvml) => nvml,
        Err(error) => {
            tracing::debug!(%error, "no devices: the driver's management library is not usable");
            return Vec::new();
        }
    };
    let count = nvml.device_count().unwrap_or(0);
    (0..count)
        .filter_map(|index| {
            let gpu = describe(&nvml, index);
            if let Err(error) = &gpu {
                tracing::warn!(index, %error, "device left out: the driver does not describe it");
            }
            gpu.ok()
        })
        .collect()
}

fn describe(nvml: &nvml_wrapper::Nvml, index: u32) -> Result<v1::Gpu, nvml_wrapper::error::NvmlError> {
    let device = nvml.device_by_index(index)?;
    Ok(v1::Gpu { index, model: device.name()?, memory_bytes: device.memory_info()?.total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something() {
        let resources = detect(Some(&[]));
        assert!(resources.cpu_milli >= 1000);
        assert!(resources.memory_bytes > 64 << 20, "{resources:?}");
        assert!(resources.gpus.is_empty());
    }

    /// Where there is a device the driver names it; elsewhere there is nothing to compare with.
    #[test]
    fn real_devices_are_found_where_there_are_any() {
        let found = found_gpus();
        if !Path::new("/dev/nvidia0").exists() {
            eprintln!("skipped: no device on this machine");
            assert_eq!(found, []);
            return;
        }
        eprintln!("{found:?}");
        assert!(!found.is_empty());
        assert!(found.iter().all(|gpu| !gpu.model.is_empty() && gpu.memory_bytes > 1 << 30), "{found:?}");
    }

    #[test]
    fn declared_devices_are_numbered_in_order() {
        let gpu = |model: &str| DeclaredGpu { model: model.into(), memory_bytes: 5 };
        let gpus = declared_gpus(&[gpu("a"), gpu("b")]);
        assert_eq!(gpus[1], v1::Gpu { index: 1, model: "b".into(), memory_bytes: 5 });
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(parse_meminfo("MemTotal:       16 kB\nMemFree: 1 kB"), Some(16 * 1024));
        assert_eq!(parse_meminfo("MemFree: 1 kB"), None);
        assert_eq!(parse_limit("1048576\n"), Some(1 << 20));
        assert_eq!(parse_limit("max\n"), None);
    }

    #[test]
    fn threads_follow_the_demand_or_share_the_machine() {
        // thousandths asked for, cores, replicas, threads
        let cases =
            [(0, 8, 2, 4), (500, 8, 3, 2), (500, 2, 3, 1), (1000, 8, 1, 1), (1500, 8, 1, 2), (9000, 4, 1, 4)];
        for (cpu_milli, cores, replicas, expected) in cases {
            assert_eq!(num_threads(cpu_milli, cores, replicas), expected, "{cpu_milli} {cores} {replicas}");
        }
    }
}
