//! The files of nodes and of tasks, and what their columns mean.

use serde::Serialize;

use crate::table::{CsvFault, Place, Table};

const MAX_CPU_MILLI: u64 = 100_000_000;
const MAX_GPUS: u32 = 64;
const WHOLE_MILLI: u32 = 1000;

/// A node of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Devices.
    pub num_gpus: u32,
    /// Their model.
    pub model: String,
}

/// The nodes of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nodes {
    /// One a line.
    pub rows: Vec<NodeRow>,
}

/// A task of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Devices; 0 for none.
    pub num_gpus: u32,
    /// Thousandths of each device: below 1000 only with one device.
    pub gpu_milli: u32,
    /// Accepted models; empty means any.
    pub models: Vec<String>,
}

/// The tasks of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// One a line.
    pub tasks: Vec<Task>,
}

impl Nodes {
    /// Reads `cpu_milli`, `gpu` and `model`.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<CsvFault>> {
        let mut table = Table::new(file, text);
        let [cpu, gpu, model] = ["cpu_milli", "gpu", "model"].map(|name| table.column(name));
        let mut rows = Vec::new();
        while let Some(row) = table.next_whole_row() {
            let cpu_milli = table.number(&row, cpu, 0..=MAX_CPU_MILLI);
            let num_gpus = table.number(&row, gpu, 0..=MAX_GPUS);
            let model = table.field(&row, model).unwrap_or_default().to_owned();
            if let (Some(cpu_milli), Some(num_gpus)) = (cpu_milli, num_gpus) {
                rows.push(NodeRow { cpu_milli, num_gpus, model });
            }
        }
        if table.is_sound() && rows.iter().all(|row| row.num_gpus == 0) {
            table.fault(
                Place::START,
                "no node has a GPU".into(),
                "give at least one node `gpu` of 1 or more",
            );
        }
        table.finish(Self { rows })
    }
}

impl Tasks {
    /// Reads `cpu_milli`, `num_gpu`, `gpu_milli` and, when there, `gpu_spec`: accepted models, separated by `|`.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<CsvFault>> {
        let mut table = Table::new(file, text);
        let [cpu, count, milli] = ["cpu_milli", "num_gpu", "gpu_milli"].map(|name| table.column(name));
        let spec = table.optional_column("gpu_spec");
        let mut tasks = Vec::new();
        while let Some(row) = table.next_whole_row() {
            let cpu_milli = table.number(&row, cpu, 0..=MAX_CPU_MILLI);
            let num_gpus = table.number(&row, count, 0..=MAX_GPUS);
            let gpu_milli = table.number(&row, milli, 0..=WHOLE_MILLI);
            let (Some(cpu_milli), Some(num_gpus), Some(gpu_milli)) = (cpu_milli, num_gpus, gpu_milli) else {
                continue;
            };
            let fault = match (num_gpus, gpu_milli) {
                (1.., 0) => Some("set it to 1 to 1000, or `num_gpu` to 0"),
                (2.., 1..WHOLE_MILLI) => Some("more than one GPU comes whole: set it to 1000"),
                _ => None,
            };
            if let (Some(help), Some(milli)) = (fault, milli) {
                let message = format!("`gpu_milli` is `{gpu_milli}` with `num_gpu` {num_gpus}");
                table.fault(row.place(milli), message, help);
            }
            let models = table.field(&row, spec).unwrap_or_default().split('|');
            let models = models.map(str::trim).filter(|model| !model.is_empty()).map(str::to_owned).collect();
            let gpu_milli = if num_gpus == 0 { 0 } else { gpu_milli };
            tasks.push(Task { cpu_milli, num_gpus, gpu_milli, models });
        }
        if table.is_sound() && tasks.iter().all(|task| task.num_gpus == 0) {
            table.fault(
                Place::START,
                "no task asks for a GPU".into(),
                "add tasks with `num_gpu` of 1 or more",
            );
        }
        table.finish(Self { tasks })
    }
}
