//! `[deployments.X]` to a [`DeploymentSpec`]: every range checked, every default filled in.
//!
//! A table with faults still gives a spec where its task is known, with defaults for what is wrong, so that the stages
//! that use it are checked too.

use crate::check::about;
use crate::fault::FaultSink;
use crate::plan::About;
use crate::raw::{Key, Raw, Reader};
use crate::{DeploymentSpec, EngineKind, ModelRef, Name, Task};

mod batch;
mod demand;
mod inputs;
mod limits;
mod model;
mod own;
mod scaling;

/// Most lanes of a replica.
const MAX_LANES: u32 = 1024;

const TASKS: [(&str, Task); 6] = [
    ("embed", Task::Embed),
    ("rerank", Task::Rerank),
    ("generate", Task::Generate),
    ("classify", Task::Classify),
    ("tensor", Task::Tensor),
    ("custom", Task::Custom),
];

/// Those that a file may name. [`EngineKind::Process`] comes with a version that can run it.
const ENGINES: [(&str, EngineKind); 6] = [
    ("auto", EngineKind::Auto),
    ("onnx", EngineKind::Onnx),
    ("candle", EngineKind::Candle),
    ("generator", EngineKind::Generator),
    ("echo", EngineKind::Echo),
    ("sim", EngineKind::Sim),
];

/// Checks one deployment, and what its table says of it. `None` when not even its task is known.
pub(super) fn deployment(
    name: &Name,
    key: &Key,
    raw: &Raw,
    faults: &mut FaultSink<'_>,
) -> Option<(DeploymentSpec, About)> {
    let mut table = Reader::entry("deployment", key, raw, faults)?;
    let engine = engine(&mut table, faults);
    let task = task(&mut table, engine, faults);
    let model = model(&mut table, engine, faults);
    let (device, demand) = demand::demand(&mut table, engine, faults);
    let batch = batch::batch(&mut table, faults);
    let lanes = table.int("lanes", 1..=MAX_LANES, faults);
    let autoscaling = scaling::replicas(&mut table, faults);
    let limits = limits::limits(&mut table, engine, &batch, faults);
    let engine_settings = own::settings(&mut table, engine, faults);
    let inputs = inputs::inputs(&mut table, task, faults);
    // Aliases are read with those of the whole file.
    let _ = table.raw("serving");
    let about = about::of_deployment(&mut table, task, faults);
    table.finish(faults);
    let spec = DeploymentSpec {
        name: name.clone(),
        task: task?,
        engine,
        model,
        device,
        demand,
        batch,
        lanes,
        autoscaling,
        limits,
        engine_settings,
        inputs,
    };
    Some((spec, about))
}

fn engine(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> EngineKind {
    table.word("engine", &ENGINES, faults).unwrap_or(EngineKind::Auto)
}

/// The engine as a file names it.
fn word_of(engine: EngineKind) -> &'static str {
    ENGINES.iter().find(|(_, kind)| *kind == engine).map_or("", |(word, _)| word)
}

/// The task; required but for engines that do whatever they do.
fn task(table: &mut Reader<'_>, engine: EngineKind, faults: &mut FaultSink<'_>) -> Option<Task> {
    let Some((_, raw)) = table.raw("task") else {
        match engine {
            EngineKind::Echo | EngineKind::Process => return Some(Task::Custom),
            EngineKind::Sim => return Some(Task::Generate),
            _ => {}
        }
        let help = "add `task = \"…\"`: `embed`, `rerank`, `generate`, `classify`, `tensor` or `custom`";
        faults.push(table.span(), format!("{} is missing", table.label("task")), help);
        return None;
    };
    let task = table.word("task", &TASKS, faults)?;
    let allowed: &[Task] = match engine {
        EngineKind::Generator | EngineKind::Sim => &[Task::Generate],
        EngineKind::Candle => &[Task::Embed, Task::Rerank, Task::Classify],
        EngineKind::Onnx => &[Task::Embed, Task::Rerank, Task::Classify, Task::Tensor, Task::Custom],
        EngineKind::Auto | EngineKind::Process | EngineKind::Echo => return Some(task),
    };
    if !allowed.contains(&task) {
        let word =
            |wanted: Task| TASKS.iter().find(|(_, task)| *task == wanted).map_or("", |(word, _)| *word);
        let engine = word_of(engine);
        let can: Vec<String> = allowed.iter().map(|&task| format!("`{}`", word(task))).collect();
        let message =
            format!("{} is `{}`, which engine `{engine}` does not do", table.label("task"), word(task));
        let help = format!("engine `{engine}` does {}; leave `engine` out to have it chosen", can.join(", "));
        faults.push(raw.span.clone(), message, help);
    }
    Some(task)
}

fn model(table: &mut Reader<'_>, engine: EngineKind, faults: &mut FaultSink<'_>) -> Option<ModelRef> {
    let Some((_, raw)) = table.raw("model") else {
        if !engine.runs_no_model() && engine != EngineKind::Process {
            let help = "add `model = \"mini-embedder@production\"` or the name of another model, or `\"file:FOLDER\"`";
            faults.push(table.span(), format!("{} is missing", table.label("model")), help);
        }
        return None;
    };
    if engine.runs_no_model() {
        let name = word_of(engine);
        let message = format!("{} is given, but engine `{name}` runs no model", table.label("model"));
        faults.push(raw.span.clone(), message, "remove the model, or the engine");
        return None;
    }
    let (text, raw) = table.text("model", faults)?;
    match model::parse(text) {
        Ok(model) => Some(model),
        Err(help) => {
            let message = format!("{} is `{text}`, which names no model", table.label("model"));
            faults.push(raw.span.clone(), message, help);
            None
        }
    }
}
