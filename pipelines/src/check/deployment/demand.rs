//! What one replica needs of a node: cores, memory, GPUs, labels.

use std::collections::BTreeMap;

use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader};
use crate::{Demand, Device, EngineKind, GpuDemand};

/// Cores of a replica that asks for none, in thousandths. Small on purpose: a replica keeps cores busy only while it has
/// calls, and a machine of two cores should hold a pipeline of three models.
const DEFAULT_CPU_MILLI: u64 = 100;
/// The same for an engine that runs no model.
const SMALL_CPU_MILLI: u64 = 10;
/// Memory of a replica that asks for none.
const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;
/// The same for an engine that runs no model.
const SMALL_MEMORY_BYTES: u64 = 16 << 20;

const MAX_CPUS: f64 = 1024.0;
const MAX_GPUS: f64 = 64.0;
const MAX_BYTES: u64 = 1 << 50;

const DEVICES: [(&str, Device); 3] = [("gpu", Device::Gpu), ("cpu", Device::Cpu), ("auto", Device::Auto)];

/// Reads the keys about resources.
pub(super) fn demand(
    table: &mut Reader<'_>,
    engine: EngineKind,
    faults: &mut FaultSink<'_>,
) -> (Device, Demand) {
    let small = engine.runs_no_model();
    let cpu_milli = cpus(table, faults).unwrap_or(if small { SMALL_CPU_MILLI } else { DEFAULT_CPU_MILLI });
    let default_memory = if small { SMALL_MEMORY_BYTES } else { DEFAULT_MEMORY_BYTES };
    let memory_bytes = table.bytes("memory", 1..=MAX_BYTES, faults).unwrap_or(default_memory);
    let gpus = gpus(table, faults);
    let device = device(table, gpus, faults);
    let gpu_memory_bytes = table.bytes("gpu_memory", 1..=MAX_BYTES, faults).unwrap_or(0);
    let accelerators = accelerators(table, faults);
    if gpus == Some(GpuDemand::None) {
        for key in ["gpu_memory", "accelerator"] {
            if let Some((name, _)) = table.raw(key) {
                let message = format!("{} is given, but `gpus` is `0`", table.label(key));
                faults.push(
                    name.span.clone(),
                    message,
                    "set `gpus` to the share of a GPU that a replica needs",
                );
            }
        }
    }
    let demand = Demand {
        cpu_milli,
        memory_bytes,
        gpus: gpus.unwrap_or(GpuDemand::None),
        gpu_memory_bytes,
        accelerators,
        labels: labels(table, faults),
        max_replicas_per_node: table.int("max_replicas_per_node", 1..=10_000, faults),
    };
    (device, demand)
}

fn cpus(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<u64> {
    let cpus = table.number("cpus", 0.001..=MAX_CPUS, faults)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 1,024,000")]
    Some((cpus * 1000.0).round() as u64)
}

/// The GPUs asked for; `None` when the value is wrong.
fn gpus(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<GpuDemand> {
    let Some((_, raw)) = table.raw("gpus") else { return Some(GpuDemand::None) };
    let Some(gpus) = raw.as_f64() else {
        table.wrong_kind("gpus", raw, "a number", faults);
        return None;
    };
    let help = if !(0.0..=MAX_GPUS).contains(&gpus) {
        "set it to a share below 1 such as `0.25`, or to whole GPUs from 1 to 64"
    } else if gpus > 1.0 && gpus.fract() != 0.0 {
        "shares of one GPU are below 1, and more than one GPU comes whole: `0.5`, `1`, `2`"
    } else if gpus < 1.0 && (gpus * 1000.0 - (gpus * 1000.0).round()).abs() > 1e-6 {
        "shares are counted in thousandths: `0.125`"
    } else {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 64,000")]
        return Some(match (gpus * 1000.0).round() as u32 {
            0 => GpuDemand::None,
            share @ 1..=999 => GpuDemand::Share(share),
            whole => GpuDemand::Whole(whole / 1000),
        });
    };
    faults.push(raw.span.clone(), format!("{} is `{gpus}`", table.label("gpus")), help);
    None
}

fn device(table: &mut Reader<'_>, gpus: Option<GpuDemand>, faults: &mut FaultSink<'_>) -> Device {
    let default = if gpus.is_none_or(|gpus| gpus == GpuDemand::None) { Device::Cpu } else { Device::Gpu };
    let Some(device) = table.word("device", &DEVICES, faults) else { return default };
    let (message, help) = match (device, gpus) {
        (Device::Gpu | Device::Auto, Some(GpuDemand::None)) => (
            "asks for a GPU, but `gpus` is `0`",
            "set `gpus` to the share of a GPU that a replica needs, or leave `device` out",
        ),
        (Device::Cpu, Some(GpuDemand::Share(_) | GpuDemand::Whole(_))) => (
            "is `cpu`, but `gpus` asks for a GPU",
            "remove one of the two, or set `device = \"auto\"` to take what there is",
        ),
        _ => return device,
    };
    if let Some((_, raw)) = table.raw("device") {
        faults.push(raw.span.clone(), format!("{} {message}", table.label("device")), help);
    }
    default
}

/// `accelerator = "NVIDIA H200"` or a list of such.
fn accelerators(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Vec<String> {
    let Some((_, raw)) = table.raw("accelerator") else { return Vec::new() };
    let items = match &raw.value {
        RawValue::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(raw),
    };
    let mut found = Vec::new();
    for item in items {
        match item.as_text() {
            Some(text) if !text.trim().is_empty() => found.push(text.to_owned()),
            Some(_) => faults.push(
                item.span.clone(),
                format!("{} is empty", table.label("accelerator")),
                "name a model such as `\"NVIDIA H200\"`, or leave it out for any",
            ),
            None => table.wrong_kind("accelerator", item, "a string, or a list of strings", faults),
        }
    }
    if items.is_empty() {
        let message = format!("{} is an empty list", table.label("accelerator"));
        faults.push(
            raw.span.clone(),
            message,
            "name a model such as `\"NVIDIA H200\"`, or leave it out for any",
        );
    }
    found
}

fn labels(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> BTreeMap<String, String> {
    let Some((_, raw)) = table.raw("labels") else { return BTreeMap::new() };
    let Some(labels) = raw.as_table() else {
        table.wrong_kind("labels", raw, "a table such as `{ zone = \"a\" }`", faults);
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, raw) in &labels.entries {
        match raw.as_text() {
            Some(text) => {
                found.insert(key.text.clone(), text.to_owned());
            }
            None => table.wrong_kind(&format!("labels.{}", key.text), raw, "a string", faults),
        }
    }
    found
}
