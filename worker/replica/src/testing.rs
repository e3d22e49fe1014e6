//! A small engine that computes in steps, for tests of what surrounds an engine: it answers its inputs, waits in a
//! step while its gate is shut, panics when an input is `boom`, and remembers its batches.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "for tests alone")]

use std::sync::{Arc, Condvar, Mutex};

use millstream_engine::{
    Call, Engine, EngineFactory, LoadArgs, LoadError, Progress, Stepped, SteppingEngine,
};
use millstream_pipelines::Batch;
use millstream_values::Value;

/// A gate that steps or loads wait at while it is shut.
#[derive(Default)]
pub struct Gate {
    shut: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Whoever comes waits.
    pub fn shut(&self) {
        *self.shut.lock().unwrap() = true;
    }

    /// Lets all pass.
    pub fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let _open = self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap();
    }
}

/// What tests hold of the engine.
#[derive(Default, Clone)]
pub struct Probe {
    /// Loading waits here.
    pub load_gate: Arc<Gate>,
    /// Steps wait here.
    pub step_gate: Arc<Gate>,
    /// Sizes of the batches so far, each noted as its step begins.
    pub batches: Arc<Mutex<Vec<usize>>>,
    /// `max_size` of every batch setting that was given.
    pub settings: Arc<Mutex<Vec<u32>>>,
    /// Calls that a step takes; 0 for any number.
    pub room: Arc<Mutex<usize>>,
}

/// Makes step engines, under the name of an engine that files can ask for.
pub struct StepFactory(pub Probe);

impl EngineFactory for StepFactory {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn accepts(&self, _: &LoadArgs<'_>) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        (args.progress)("waiting at the gate");
        self.0.load_gate.pass();
        if args.spec.echo().is_some() {
            return Err(LoadError::Model("settings of echo make no sense here".to_owned()));
        }
        Ok(Engine::stepping(StepEngine(self.0.clone())))
    }
}

/// See the module.
pub struct StepEngine(pub Probe);

impl SteppingEngine for StepEngine {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        Ok(())
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        let num_inputs = calls.len();
        if num_inputs == 0 {
            return Stepped { progress: Progress::Idle, num_inputs };
        }
        self.0.batches.lock().unwrap().push(num_inputs);
        self.0.step_gate.pass();
        for call in calls {
            assert_ne!(call.inputs.get("text").and_then(Value::as_text), Some("boom"));
            call.reply.finish(Ok(call.inputs));
        }
        Stepped { progress: Progress::Idle, num_inputs }
    }

    fn room(&self) -> usize {
        let room = *self.0.room.lock().unwrap();
        if room == 0 { usize::MAX } else { room }
    }

    fn set_batch(&mut self, batch: &Batch) {
        self.0.settings.lock().unwrap().push(batch.max_size);
    }

    fn memory_bytes(&self) -> u64 {
        7
    }
}
