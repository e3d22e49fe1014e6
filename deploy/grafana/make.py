#!/usr/bin/env python3
"""Makes the Grafana boards beside this file: python3 deploy/grafana/make.py

A test compares its output with the committed boards, and sends each query to a real Prometheus."""

import json
import pathlib
import sys

from panels import (
    DEPLOYMENT,
    DEPLOYMENTS,
    GOOD_IS_ZERO,
    PIPELINE,
    PIPELINES,
    board,
    colors,
    largest,
    panel,
    quantile,
    rate,
    stat,
)


def numbers_of_requests():
    """How requests do, in a line."""
    requests, errors = "millstream_requests_total", f'{PIPELINE}, class="5xx"'
    duration, good = "millstream_request_duration_seconds", f'{PIPELINE}, class="2xx"'
    failed = f"{rate(requests, errors)} / {rate(requests, PIPELINE)}"
    return [
        stat("Requests", "Requests that ended, a second.", "reqps", rate(requests, PIPELINE)),
        stat(
            "Errors", "Part of the requests that failed by a fault of the server.", "percentunit", failed,
            **colors(("green", None), ("orange", 0.001), ("red", 0.0144)),
        ),
        stat("p50", "Half of the good answers took at most this long.", "s", quantile(0.5, duration, good, "")),
        stat("p99", "99% of the good answers took at most this long.", "s", quantile(0.99, duration, good, "")),
        stat(
            "Missing replicas", "Replicas that are wanted and not ready: they start, or fit on no node.", "short",
            f"sum(clamp_min({largest('millstream_target_replicas', by='deployment')}"
            f" - {largest('millstream_ready_replicas', by='deployment')}, 0))", **GOOD_IS_ZERO,
        ),
        stat(
            "Alerts", "Alerts that fire. What to do: docs/alerts.md.", "short",
            'count(ALERTS{alertname=~"Millstream.*", alertstate="firing"}) or vector(0)', **GOOD_IS_ZERO,
        ),
    ]


def requests_over_time():
    """How requests do, over time."""
    requests, errors = "millstream_requests_total", f'{PIPELINE}, class="5xx"'
    duration, good = "millstream_request_duration_seconds", f'{PIPELINE}, class="2xx"'
    of_pipelines = f"{rate(requests, errors, 'pipeline')} / {rate(requests, PIPELINE, 'pipeline')}"
    return [
        panel(
            "Requests by class", "Requests that ended, a second. 499: the client left before its answer.", "reqps",
            (rate(requests, PIPELINE, "class"), "{{class}}"),
        ),
        panel(
            "Errors by pipeline", "Part of the requests that failed by a fault of the server.", "percentunit",
            (of_pipelines, "{{pipeline}}"),
        ),
        panel(
            "Latency", "Time from a request's head to its answer or to the last byte of a stream. Good answers only.",
            "s", *((quantile(part, duration, good, ""), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)),
        ),
        panel(
            "p95 by pipeline", "95% of a pipeline's good answers took at most this long.", "s",
            (quantile(0.95, duration, good, "pipeline"), "{{pipeline}}"),
        ),
    ]


def stages_and_rollouts():
    """Where requests fail or wait, and what takes over."""
    cached = rate("millstream_cache_requests_total", f'{PIPELINE}, result=~"hit|joined"', "pipeline, stage")
    calls = rate("millstream_cache_requests_total", PIPELINE, "pipeline, stage")
    not_over = largest("millstream_rollout_phase", f'{PIPELINE}, phase!="none"', "pipeline, phase")
    not_ready = largest("millstream_rollout_state", f'{PIPELINE}, state!="ready"', "pipeline, state")
    return [
        panel(
            "p95 by stage", "95% of a stage's calls took at most this long, with waiting and every try. The highest "
            "curve is the stage to look at first.", "s",
            (quantile(0.95, "millstream_stage_duration_seconds", PIPELINE, "pipeline, stage"), "{{pipeline}} {{stage}}"),
        ),
        panel(
            "Stages that failed", "Failures a second, by on_error. With `skip` and `use` the client gets 200 and a "
            "poorer answer.", "ops",
            (rate("millstream_stage_failures_total", PIPELINE, "pipeline, stage, on_error"),
             "{{pipeline}} {{stage}} ({{on_error}})"),
        ),
        panel(
            "Answered from caches", "Part of the calls of a stage with a cache that reached no model.", "percentunit",
            (f"{cached} / {calls}", "{{pipeline}} {{stage}}"),
        ),
        panel(
            "Turned away for their API key", "Requests a second over the rate or the concurrency of their key.", "reqps",
            (rate("millstream_key_requests_total", 'result!="admitted"', "key, result"), "{{key}} ({{result}})"),
        ),
        panel(
            "Rollouts", "1 while a new revision of the pipeline is in this phase.", "short",
            (not_over, "{{pipeline}} {{phase}}"),
        ),
        panel(
            "Pipelines that are not ready", "1 while the newest revision of the pipeline is in this state.", "short",
            (not_ready, "{{pipeline}} {{state}}"),
        ),
    ]


def counts_of_replicas():
    """Why there are that many replicas."""
    ready, aim = (largest(f"millstream_{name}", DEPLOYMENT, "deployment")
                  for name in ("ready_replicas", "target_ongoing_requests"))
    return [
        panel(
            "Replicas", "Ready: take calls. Target: what the autoscaler has decided. Desired: what the requests of this "
            "moment ask for.", "short",
            *((largest(f"millstream_{name}_replicas", DEPLOYMENT, "deployment"), f"{{{{deployment}}}} {name}")
              for name in ("ready", "target", "desired")),
        ),
        panel(
            "Ongoing and queued requests", "Above the line `made for` the deployment asks for more replicas. It is the "
            "ready replicas times target_ongoing_requests.", "short",
            (largest("millstream_ongoing_requests", DEPLOYMENT, "deployment"), "{{deployment}} ongoing"),
            (largest("millstream_queued_requests", DEPLOYMENT, "deployment"), "{{deployment}} queued"),
            (f"{ready} * {aim}", "{{deployment}} made for"),
        ),
        panel(
            "Changes of the target", "Decisions of the autoscaler in the last five minutes, by rule. For the figures: "
            "cluster explain DEPLOYMENT.", "short",
            (f"sum by (deployment, reason) (increase(millstream_scale_decisions_total{{{DEPLOYMENT}}}[5m]))",
             "{{deployment}} {{reason}}"),
        ),
        panel(
            "Replicas by state", "Of every revision.", "short",
            (largest("millstream_replicas", DEPLOYMENT, "deployment, state"), "{{deployment}} {{state}}"),
        ),
        panel(
            "Replicas without a place", "Wanted, and fit on no node, by what is short.", "short",
            (largest("millstream_pending_placements", DEPLOYMENT, "deployment, reason") + " > 0",
             "{{deployment}} {{reason}}"),
        ),
        panel(
            "Restarts", "Replicas started again after a failure, in the last five minutes.", "short",
            (f"sum by (deployment) (increase(millstream_replica_restarts_total{{{DEPLOYMENT}}}[5m]))", "{{deployment}}"),
        ),
    ]


def calls():
    """How calls to replicas do."""
    waited, took, batch = "millstream_queue_wait_seconds", "millstream_call_duration_seconds", "millstream_batch_size"
    mean = f"{rate(batch + '_sum', DEPLOYMENT, 'deployment')} / {rate(batch + '_count', DEPLOYMENT, 'deployment')}"
    return [
        panel(
            "Wait for a replica", "Time in the queue of an ingress. It grows when there are too few replicas.", "s",
            *((quantile(part, waited, DEPLOYMENT, "deployment"), f"{{{{deployment}}}} p{part * 100:g}")
              for part in (0.5, 0.95)),
        ),
        panel(
            "Calls", "Time from sending a call to a replica to its end. It grows when the model is slow.", "s",
            *((quantile(part, took, DEPLOYMENT, "deployment"), f"{{{{deployment}}}} p{part * 100:g}")
              for part in (0.5, 0.95)),
        ),
        panel(
            "Batch size", "Inputs that went into the engine together.", "short",
            (mean, "{{deployment}} mean"),
            (quantile(0.95, batch, DEPLOYMENT, "deployment"), "{{deployment}} p95"),
        ),
        panel(
            "Batch sizes", "Batches a second by size. A bar counts those that are larger than the bar before it says and "
            "not larger than it says itself.", "short",
            (rate(batch + "_bucket", DEPLOYMENT, "le"), "{{le}}"), kind="bargauge", format="heatmap",
        ),
        panel(
            "Calls by outcome", "Calls that ended, a second.", "ops",
            (rate("millstream_calls_total", DEPLOYMENT, "deployment, outcome"), "{{deployment}} {{outcome}}"),
        ),
        panel(
            "Retries and calls turned away", "Calls sent again, by reason, and calls turned away because the queue was "
            "full, a second.", "ops",
            (rate("millstream_retries_total", DEPLOYMENT, "deployment, reason"), "{{deployment}} again: {{reason}}"),
            (rate("millstream_shed_calls_total", DEPLOYMENT, "deployment"), "{{deployment}} turned away"),
        ),
        panel(
            "Calls in replicas", "As workers count them, with those in batch queues.", "short",
            (f"sum by (deployment) (millstream_replica_ongoing_requests{{{DEPLOYMENT}}})", "{{deployment}}"),
        ),
        panel(
            "Memory of models", "As far as the engines know it, over all replicas.", "bytes",
            (f"sum by (deployment) (millstream_model_memory_bytes{{{DEPLOYMENT}}})", "{{deployment}}"),
        ),
    ]


def nodes():
    """Nodes and devices."""
    booked, free = "millstream_gpu_share_booked_ratio", "millstream_gpu_share_free_ratio"
    of_nodes = "millstream_nodes"
    pending = "sum(max by (deployment, reason) (millstream_pending_placements))"
    return [
        stat("Nodes ready", "Nodes that take replicas.", "short", largest(of_nodes, 'state="ready"')),
        stat(
            "Nodes unreachable", "Nodes that the head does not hear.", "short",
            largest(of_nodes, 'state="unreachable"'), **GOOD_IS_ZERO,
        ),
        stat("Processes", "Processes that Prometheus reaches.", "short", 'sum(up{job="millstream"})'),
        stat("GPUs booked", "Part of all devices that replicas hold.", "percentunit",
             f"avg({largest(booked, by='node, gpu')})"),
        stat("GPUs free", "Sum of the free parts of all devices. A replica that needs a whole one may still find "
             "none.", "short", f"sum({largest(free, by='node, gpu')})"),
        stat("Without a place", "Replicas that are wanted and fit on no node.", "short", pending, **GOOD_IS_ZERO),
        panel(
            "GPU shares booked, now", "Part of each device that replicas hold. Booked is not the same as used.",
            "percentunit", (largest(booked, by="node, gpu"), "{{node}} {{gpu}}"), kind="bargauge", max=1,
        ),
        panel(
            "GPU shares booked", "Part of each device that replicas hold.", "percentunit",
            (largest(booked, by="node, gpu"), "{{node}} {{gpu}}"), max=1,
        ),
        panel("Nodes by state", "Nodes that are or were connected.", "short", (largest(of_nodes, by="state"), "{{state}}")),
        panel(
            "Last heartbeat", "Time since the head heard from a node. Normal is about a second.", "s",
            (largest("millstream_node_heartbeat_age_seconds", by="node"), "{{node}}"),
        ),
    ]


def processes():
    """Processes, and the head's own work."""
    return [
        panel(
            "CPU of processes", "Cores that a process uses.", "short",
            ('rate(millstream_process_cpu_seconds_total[$__rate_interval])', "{{instance}}"),
        ),
        panel(
            "Memory of processes", "Memory in RAM.", "bytes", ("millstream_process_resident_memory_bytes", "{{instance}}"),
        ),
        panel(
            "Store of the head", "99% of the operations took at most this long.", "s",
            (quantile(0.99, "millstream_store_duration_seconds", "", "operation"), "{{operation}}"),
        ),
        panel(
            "Reconciler of the head", "Wait: 99% of the messages waited at most this long for their turn. Busy: part of "
            "the time that the reconciler works; near 100% it cannot keep up.", "s",
            (quantile(0.99, "millstream_reconciler_lag_seconds", "", ""), "wait p99"),
            (rate("millstream_reconciler_event_seconds_sum"), "busy, seconds of a second"),
        ),
        panel(
            "Commands of the head", "What the reconciler has done, a second, by kind.", "ops",
            (rate("millstream_commands_total", by="kind"), "{{kind}}"),
        ),
    ]


def boards():
    """Each board by the name of its file."""
    made = [
        board(
            "overview", "overview", "How requests do, by pipeline and stage.", [PIPELINES],
            numbers_of_requests() + requests_over_time() + stages_and_rollouts(),
        ),
        board(
            "deployment", "deployments", "How many replicas each deployment has and why, where calls wait, and batches.",
            [PIPELINES, DEPLOYMENTS], counts_of_replicas() + calls(),
        ),
        board("nodes", "nodes", "Nodes, shares of GPUs, processes, and the head's own work.", [], nodes() + processes()),
    ]
    return {f"{each['uid']}.json": json.dumps(each, indent=2) + "\n" for each in made}


def main():
    """Writes the boards into the folder that is named, or beside this file."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for name, text in boards().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
