//! Tokens: what goes into models and what generators make of it. For generators each number stands twice: under a name of ours, and
//! under the one that vLLM gives it, which dashboards, gateways and autoscalers for language models read.
//!
//! Sources: vLLM's metrics (`vllm/v1/metrics`), and the model server protocol of the Gateway API inference extension, which asks for
//! the number of running and of waiting requests, the use of the cache, its size, and the adapters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use millstream_engine::{EngineMeter, FinishReason, Generated, PrefixLookup, SequenceLoad};
use millstream_pipelines::Task;
use millstream_proto::metric::{Definition, Kind, SECONDS};

/// Bounds for single tokens and for whole answers, in seconds; those of vLLM.
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const NEXT_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const WHOLE: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0,
    100_000.0,
];

/// Tokens of a block of a cache, for those that count blocks.
const BLOCK_TOKENS: usize = 16;

/// A metric of ours.
const fn ours(name: &'static str, kind: Kind, help: &'static str) -> Definition {
    Definition { name, kind, help, labels: &["deployment"] }
}

/// A metric of vLLM's.
const fn twin(name: &'static str, kind: Kind, help: &'static str) -> Definition {
    Definition { name, kind, help, labels: &["model_name"] }
}

const PROMPT_TOKENS: Definition = ours(
    "millstream_prompt_tokens_total",
    Kind::Counter,
    "Tokens that went into models: of prompts, and of texts to embed or to rank.",
);
const GENERATED_TOKENS: Definition =
    ours("millstream_generated_tokens_total", Kind::Counter, "Tokens that generators have made.");
const TIME_TO_FIRST_TOKEN: Definition = ours(
    "millstream_time_to_first_token_seconds",
    Kind::Histogram(SECONDS),
    "Time from a call's arrival at a replica to the first token of its answer.",
);
const INTER_TOKEN: Definition = ours(
    "millstream_inter_token_seconds",
    Kind::Histogram(SECONDS),
    "Time from one token of an answer to the next.",
);
const SEQUENCES: Definition = Definition {
    name: "millstream_generated_sequences_total",
    kind: Kind::Counter,
    help: "Answers of generators that ended, by why.",
    labels: &["deployment", "finish_reason"],
};
const CACHE_USED: Definition = ours(
    "millstream_kv_cache_used_ratio",
    Kind::Gauge,
    "Part of the caches of a generator's replicas that sequences under way fill, 0 to 1.",
);

const V_FIRST_TOKEN: Definition = twin(
    "vllm:time_to_first_token_seconds",
    Kind::Histogram(FIRST_TOKEN),
    "As `millstream_time_to_first_token_seconds`.",
);
const V_NEXT_TOKEN: Definition = twin(
    "vllm:inter_token_latency_seconds",
    Kind::Histogram(NEXT_TOKEN),
    "As `millstream_inter_token_seconds`.",
);
const V_PER_TOKEN: Definition = twin(
    "vllm:request_time_per_output_token_seconds",
    Kind::Histogram(NEXT_TOKEN),
    "Mean time from one token of an answer to the next, of answers of two tokens or more.",
);
const V_WHOLE: Definition = twin(
    "vllm:e2e_request_latency_seconds",
    Kind::Histogram(WHOLE),
    "Time from a call's arrival at a replica to the end of its answer.",
);
const V_QUEUE: Definition = twin(
    "vllm:request_queue_time_seconds",
    Kind::Histogram(WHOLE),
    "Time from a call's arrival at a replica to the beginning of its prompt.",
);
const V_PREFILL: Definition = twin(
    "vllm:request_prefill_time_seconds",
    Kind::Histogram(WHOLE),
    "Time from the beginning of a prompt to the first token of the answer.",
);
const V_DECODE: Definition = twin(
    "vllm:request_decode_time_seconds",
    Kind::Histogram(WHOLE),
    "Time from the first token of an answer to its last one.",
);
const V_INFERENCE: Definition = twin(
    "vllm:request_inference_time_seconds",
    Kind::Histogram(WHOLE),
    "Time from the beginning of a prompt to the end of the answer.",
);
const V_PROMPT: Definition =
    twin("vllm:request_prompt_tokens", Kind::Histogram(TOKENS), "Tokens of a call's prompt.");
const V_ANSWER: Definition =
    twin("vllm:request_generation_tokens", Kind::Histogram(TOKENS), "Tokens of a call's answer.");
const V_MAX: Definition = twin(
    "vllm:request_max_num_generation_tokens",
    Kind::Histogram(TOKENS),
    "Most tokens that a call's answer could have had.",
);
const V_PROMPT_TOTAL: Definition =
    twin("vllm:prompt_tokens_total", Kind::Counter, "As `millstream_prompt_tokens_total`.");
const V_ANSWER_TOTAL: Definition =
    twin("vllm:generation_tokens_total", Kind::Counter, "As `millstream_generated_tokens_total`.");
const V_SUCCESS: Definition = Definition {
    name: "vllm:request_success_total",
    kind: Kind::Counter,
    help: "As `millstream_generated_sequences_total`.",
    labels: &["model_name", "finished_reason"],
};
const V_PREFIX_QUERIES: Definition = twin(
    "vllm:prefix_cache_queries_total",
    Kind::Counter,
    "Tokens of prompts that were looked for in a cache of prefixes: of `sim`, as no other engine has one.",
);
const V_PREFIX_HITS: Definition = twin(
    "vllm:prefix_cache_hits_total",
    Kind::Counter,
    "Tokens of prompts that were found in a cache of prefixes.",
);
const V_PREEMPTIONS: Definition = twin(
    "vllm:num_preemptions_total",
    Kind::Counter,
    "Sequences that gave way to others and began anew; always 0, as none does.",
);
const V_RUNNING: Definition =
    twin("vllm:num_requests_running", Kind::Gauge, "Sequences under way in the replicas of this worker.");
const V_WAITING: Definition = twin(
    "vllm:num_requests_waiting",
    Kind::Gauge,
    "Calls that wait in the replicas of this worker; more may wait at ingresses.",
);
const V_CACHE: Definition =
    twin("vllm:kv_cache_usage_perc", Kind::Gauge, "As `millstream_kv_cache_used_ratio`: 1 is all of it.");
const V_CACHE_CONFIG: Definition = Definition {
    name: "vllm:cache_config_info",
    kind: Kind::Gauge,
    help: "Size of the caches of the replicas of this worker, in blocks of so many tokens; the value is 1.",
    labels: &["model_name", "block_size", "num_gpu_blocks"],
};
const V_ADAPTERS: Definition = Definition {
    name: "vllm:lora_requests_info",
    kind: Kind::Gauge,
    help: "Adapters: there are none; the value is 1.",
    labels: &["model_name", "max_lora", "running_lora_adapters", "waiting_lora_adapters"],
};

/// Everything that is counted of tokens.
pub const ALL: &[Definition] = &[
    PROMPT_TOKENS,
    GENERATED_TOKENS,
    TIME_TO_FIRST_TOKEN,
    INTER_TOKEN,
    SEQUENCES,
    CACHE_USED,
    V_FIRST_TOKEN,
    V_NEXT_TOKEN,
    V_PER_TOKEN,
    V_WHOLE,
    V_QUEUE,
    V_PREFILL,
    V_DECODE,
    V_INFERENCE,
    V_PROMPT,
    V_ANSWER,
    V_MAX,
    V_PROMPT_TOTAL,
    V_ANSWER_TOTAL,
    V_SUCCESS,
    V_PREFIX_QUERIES,
    V_PREFIX_HITS,
    V_PREEMPTIONS,
    V_RUNNING,
    V_WAITING,
    V_CACHE,
    V_CACHE_CONFIG,
    V_ADAPTERS,
];

/// Counts what one replica does. Handles are made once, so that counting looks nothing up.
pub(crate) struct ReplicaMeter {
    batch_sizes: Histogram,
    prompt_tokens: Counter,
    generator: Option<GeneratorMeter>,
}

/// Counts what the replica of a generator does.
struct GeneratorMeter {
    prompt_tokens: Counter,
    /// Tokens looked for in a cache of prefixes, and found there.
    prefix: [Counter; 2],
    tokens: [Counter; 2],
    first_token: [Histogram; 2],
    next_token: [Histogram; 2],
    ended: [[Counter; 2]; FinishReason::ALL.len()],
    times: TimeHistograms,
    sizes: [Histogram; 3],
    load: LoadCell,
}

/// The times of an answer.
struct TimeHistograms {
    per_token: Histogram,
    whole: Histogram,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
    inference: Histogram,
}

/// The newest [`SequenceLoad`].
#[derive(Default)]
struct LoadCell([AtomicUsize; 3]);

impl ReplicaMeter {
    /// For a replica of the deployment of that full name.
    pub(crate) fn of(deployment: &str, task: Task) -> Self {
        let prompt_tokens = counter!(PROMPT_TOKENS.name, "deployment" => deployment.to_owned());
        Self {
            batch_sizes: super::batch_sizes(deployment.to_owned()),
            prompt_tokens,
            generator: (task == Task::Generate).then(|| GeneratorMeter::of(deployment)),
        }
    }

    /// What the sequences under way hold; `None` for what is no generator.
    pub(crate) fn load(&self) -> Option<SequenceLoad> {
        self.generator.as_ref().map(|generator| generator.load.get())
    }
}

impl EngineMeter for ReplicaMeter {
    fn ran(&self, num_inputs: usize) {
        // Far below 2^32.
        self.batch_sizes.record(u32::try_from(num_inputs).unwrap_or(u32::MAX));
    }

    fn reads(&self, num_tokens: usize) {
        if num_tokens > 0 {
            self.prompt_tokens.increment(num_tokens as u64);
            self.generator.iter().for_each(|it| it.prompt_tokens.increment(num_tokens as u64));
        }
    }

    fn prefix(&self, lookup: PrefixLookup) {
        if let Some(generator) = &self.generator {
            let [tokens, found] = &generator.prefix;
            tokens.increment(lookup.tokens as u64);
            found.increment(lookup.found as u64);
        }
    }

    fn first_token(&self, after: Duration) {
        if let Some(generator) = &self.generator {
            generator.tokens.iter().for_each(|counter| counter.increment(1));
            generator.first_token.iter().for_each(|histogram| histogram.record(after));
        }
    }

    fn next_token(&self, after: Duration) {
        if let Some(generator) = &self.generator {
            generator.tokens.iter().for_each(|counter| counter.increment(1));
            generator.next_token.iter().for_each(|histogram| histogram.record(after));
        }
    }

    fn generated(&self, generated: &Generated) {
        self.generator.iter().for_each(|generator| generator.generated(generated));
    }

    fn holds(&self, load: SequenceLoad) {
        self.generator.iter().for_each(|generator| generator.load.set(load));
    }
}

impl GeneratorMeter {
    fn of(deployment: &str) -> Self {
        let histogram = |definition: &Definition| histogram!(definition.name, definition.labels[0] => deployment.to_owned());
        let counter = |definition: &Definition| counter!(definition.name, definition.labels[0] => deployment.to_owned());
        let ended = |reason: FinishReason, definition: &Definition| {
            let labels = [
                (definition.labels[0], deployment.to_owned()),
                (definition.labels[1], reason.as_str().into()),
            ];
            counter!(definition.name, &labels)
        };
        // There, and 0, for those that divide by them.
        counter(&V_PREEMPTIONS).absolute(0);
        let prefix = [counter(&V_PREFIX_QUERIES), counter(&V_PREFIX_HITS)];
        prefix.iter().for_each(|counter| counter.absolute(0));
        Self {
            prompt_tokens: counter(&V_PROMPT_TOTAL),
            prefix,
            tokens: [counter(&GENERATED_TOKENS), counter(&V_ANSWER_TOTAL)],
            first_token: [histogram(&TIME_TO_FIRST_TOKEN), histogram(&V_FIRST_TOKEN)],
            next_token: [histogram(&INTER_TOKEN), histogram(&V_NEXT_TOKEN)],
            ended: FinishReason::ALL.map(|reason| [ended(reason, &SEQUENCES), ended(reason, &V_SUCCESS)]),
            times: TimeHistograms {
                per_token: histogram(&V_PER_TOKEN),
                whole: histogram(&V_WHOLE),
                queue: histogram(&V_QUEUE),
                prefill: histogram(&V_PREFILL),
                decode: histogram(&V_DECODE),
                inference: histogram(&V_INFERENCE),
            },
            sizes: [histogram(&V_PROMPT), histogram(&V_ANSWER), histogram(&V_MAX)],
            load: LoadCell::default(),
        }
    }

    fn generated(&self, generated: &Generated) {
        let Generated { prompt_tokens, tokens, max_tokens, waited, prefill, decode, finish } = *generated;
        self.ended[finish as usize].iter().for_each(|counter| counter.increment(1));
        let times = &self.times;
        times.whole.record(waited + prefill + decode);
        times.queue.record(waited);
        times.prefill.record(prefill);
        times.decode.record(decode);
        times.inference.record(prefill + decode);
        if let Some(gaps) =
            u32::try_from(tokens).ok().and_then(|tokens| tokens.checked_sub(1)).filter(|&it| it > 0)
        {
            times.per_token.record(decode / gaps);
        }
        for (histogram, tokens) in self.sizes.iter().zip([prompt_tokens, tokens, max_tokens]) {
            histogram.record(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
    }
}

impl LoadCell {
    fn set(&self, load: SequenceLoad) {
        let SequenceLoad { sequences, cached_tokens, max_cached_tokens } = load;
        for (cell, number) in self.0.iter().zip([sequences, cached_tokens, max_cached_tokens]) {
            cell.store(number, Ordering::Relaxed);
        }
    }

    fn get(&self) -> SequenceLoad {
        let [sequences, cached_tokens, max_cached_tokens] =
            self.0.each_ref().map(|cell| cell.load(Ordering::Relaxed));
        SequenceLoad { sequences, cached_tokens, max_cached_tokens }
    }
}

/// Sets the gauges of a generator's replicas on this worker, which together have so many calls.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn set(deployment: &str, load: SequenceLoad, ongoing: u64) {
    let SequenceLoad { sequences, cached_tokens, max_cached_tokens } = load;
    let used = cached_tokens as f64 / (max_cached_tokens as f64).max(1.0);
    let set = |definition: &Definition, value: f64| {
        let gauge: Gauge = gauge!(definition.name, definition.labels[0] => deployment.to_owned());
        gauge.set(value);
    };
    set(&CACHE_USED, used);
    set(&V_CACHE, used);
    set(&V_RUNNING, sequences as f64);
    set(&V_WAITING, ongoing.saturating_sub(sequences as u64) as f64);
    let info = |definition: &Definition, values: [String; 3]| {
        let [first, second, third] = values;
        let mut labels = vec![("model_name", deployment.to_owned())];
        labels.extend(definition.labels[1..].iter().copied().zip([first, second, third]));
        gauge!(definition.name, &labels).set(1.0);
    };
    let blocks = max_cached_tokens / BLOCK_TOKENS;
    info(&V_CACHE_CONFIG, [BLOCK_TOKENS.to_string(), blocks.to_string(), String::new()]);
    info(&V_ADAPTERS, ["0".to_owned(), String::new(), String::new()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        for bounds in [FIRST_TOKEN, NEXT_TOKEN, WHOLE, TOKENS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }

    #[test]
    fn only_generators_have_sequences() {
        let load = SequenceLoad { sequences: 2, cached_tokens: 30, max_cached_tokens: 100 };
        for (task, held) in [(Task::Embed, None), (Task::Generate, Some(load))] {
            let meter = ReplicaMeter::of("p/d", task);
            meter.holds(load);
            assert_eq!(meter.load(), held);
        }
    }
}
