use std::time::Duration;

use crate::{Device, EngineKind, GpuDemand, ModelRef, Plan, Task};

fn plan(text: &str) -> Plan {
    Plan::compile("x.toml", text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str) -> Vec<String> {
    match Plan::compile("x.toml", text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.faults.into_iter().map(|fault| fault.message).collect(),
    }
}

#[test]
fn defaults_are_filled_in() {
    let plan = plan(
        "name = \"x\"\n[deployments.e]\ntask = \"embed\"\nmodel = \"m\"\n[deployments.o]\nengine = \"echo\"\n",
    );
    assert_eq!((plan.route(), plan.timeout(), plan.can_stream()), (None, None, false));
    let specs: Vec<_> = plan.deployments().values().collect();
    let (embed, echo) = (specs[0], specs[1]);
    assert_eq!((embed.task, embed.engine, embed.device), (Task::Embed, EngineKind::Auto, Device::Cpu));
    assert_eq!(embed.model, Some(ModelRef::Alias { name: "m".into(), alias: "production".into() }));
    assert_eq!((embed.demand.cpu_milli, embed.demand.memory_bytes), (100, 256 << 20));
    assert_eq!(
        (embed.batch.max_size, embed.batch.max_wait, embed.limits.max_ongoing_requests),
        (32, Duration::ZERO, 64)
    );
    assert_eq!((embed.autoscaling.min_replicas, embed.autoscaling.max_replicas), (1, 1));
    assert_eq!(embed.autoscaling.upscale_delay, Duration::from_millis(500));
    assert_eq!(
        (embed.limits.drain_timeout, embed.limits.start_timeout),
        (Duration::from_secs(30), Duration::from_secs(300))
    );
    assert!(embed.limits.idempotent && embed.engine_settings.is_none());
    assert_eq!((echo.task, echo.engine, echo.model.clone()), (Task::Custom, EngineKind::Echo, None));
    assert_eq!((echo.demand.cpu_milli, echo.limits.max_ongoing_requests), (10, 64));
    assert_eq!(echo.echo().unwrap().delay, Duration::ZERO);
}

#[test]
fn every_key_is_read() {
    let plan = plan(
        r#"
        name = "all"
        timeout = "10s"
        [deployments.d]
        task = "tensor"
        engine = "onnx"
        model = "m:3"
        gpus = 0.25
        device = "auto"
        cpus = 1.5
        memory = "2GiB"
        gpu_memory = "512MiB"
        accelerator = ["NVIDIA H200", "NVIDIA L4"]
        labels = { zone = "a" }
        max_replicas_per_node = 2
        batch = { max_size = 8, max_wait = "250us", max_tokens = 512, preferred_sizes = [2, 6] }
        autoscaling = { min_replicas = 0, max_replicas = 9, target_ongoing_requests = 1.5, look_back = "10s", upscale_delay = "1s", downscale_delay = "2m", idle_timeout = "1h", upscaling_factor = 2, downscaling_factor = 0.5 }
        max_ongoing_requests = 5
        max_queued_requests = 0
        drain_timeout = "1m"
        start_timeout = "2m"
        max_surge = 3
        idempotent = false
        signature = { inputs = { features = "f32[?,42]", "weird name" = "i64[1]" } }
        "#,
    );
    let spec = plan.deployments().values().next().unwrap();
    assert_eq!(plan.timeout(), Some(Duration::from_secs(10)));
    assert_eq!(spec.demand.gpus, GpuDemand::Share(250));
    assert_eq!((spec.device, spec.demand.cpu_milli, spec.demand.memory_bytes), (Device::Auto, 1500, 2 << 30));
    assert_eq!((spec.demand.gpu_memory_bytes, spec.demand.accelerators.len()), (512 << 20, 2));
    assert_eq!((spec.demand.labels["zone"].as_str(), spec.demand.max_replicas_per_node), ("a", Some(2)));
    assert_eq!(
        (spec.batch.max_wait, spec.batch.preferred_sizes.as_slice()),
        (Duration::from_micros(250), &[2, 6][..])
    );
    assert_eq!((spec.autoscaling.min_replicas, spec.autoscaling.max_replicas), (0, 9));
    assert_eq!(
        (spec.autoscaling.idle_timeout, spec.autoscaling.upscaling_factor),
        (Duration::from_secs(3600), 2.0)
    );
    assert_eq!((spec.limits.max_ongoing_requests, spec.limits.max_queued_requests), (5, Some(0)));
    assert_eq!((spec.limits.max_surge, spec.limits.idempotent), (3, false));
    assert_eq!(spec.inputs.signature["features"].to_string(), "f32[?,42]");
    let json = serde_json::to_string(spec).unwrap();
    assert_eq!(&serde_json::from_str::<crate::DeploymentSpec>(&json).unwrap(), spec, "travels as JSON");
}

#[test]
fn gpus_by_table() {
    let of = |gpus: &str| {
        let text = format!("name = \"x\"\n[deployments.e]\ntask = \"embed\"\nmodel = \"m\"\ngpus = {gpus}\n");
        Plan::compile("x", &text).ok().map(|plan| plan.deployments().values().next().unwrap().demand.gpus)
    };
    for (gpus, expected) in [
        ("0", Some(GpuDemand::None)),
        ("0.0", Some(GpuDemand::None)),
        ("0.001", Some(GpuDemand::Share(1))),
        ("0.333", Some(GpuDemand::Share(333))),
        ("0.999", Some(GpuDemand::Share(999))),
        ("1", Some(GpuDemand::Whole(1))),
        ("1.0", Some(GpuDemand::Whole(1))),
        ("2", Some(GpuDemand::Whole(2))),
        ("64", Some(GpuDemand::Whole(64))),
        ("0.9999", None),
        ("0.3333", None),
        ("1.5", None),
        ("-1", None),
        ("65", None),
        ("nan", None),
        ("inf", None),
        ("\"1\"", None),
    ] {
        assert_eq!(of(gpus), expected, "{gpus}");
    }
}

#[test]
fn autoscaling_auto_and_min_alone() {
    for (autoscaling, expected) in [
        ("\"auto\"", (1, 100)),
        ("{ min_replicas = 3 }", (3, 3)),
        ("{ max_replicas = 3 }", (1, 3)),
        ("{}", (1, 1)),
    ] {
        let plan =
            plan(&format!("name = \"x\"\n[deployments.o]\nengine = \"echo\"\nautoscaling = {autoscaling}\n"));
        let found = &plan.deployments().values().next().unwrap().autoscaling;
        assert_eq!((found.min_replicas, found.max_replicas), expected, "{autoscaling}");
    }
}

#[test]
fn targets_are_full_names_each_once() {
    let plan = plan(
        r#"
        name = "p"
        route = "/p"
        [deployments.e]
        engine = "echo"
        [stages.a]
        use = "e"
        inputs = { x = 1 }
        [stages.b]
        use = "p/e"
        inputs = { x = "a.x" }
        [stages.c]
        use = "search/embedder"
        inputs = { texts = ["'literal'"] }
        [response]
        b = "b.x"
        c = "c"
        "#,
    );
    let targets: Vec<String> = plan.targets().iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["p/e", "search/embedder"]);
}

#[test]
fn generators_stream_and_fallbacks_keep_types() {
    let text = r#"
        name = "p"
        route = "/p"
        [request]
        q = "text"
        [deployments.g]
        task = "generate"
        model = "m"
        [stages.a]
        use = "g"
        prompt = "{{ request.q }}"
        on_error = "use:b"
        when = "request.q != ''"
        [stages.b]
        use = "g"
        messages = "[{'role': 'user', 'content': request.q}]"
        [response]
        a = "a.text"
    "#;
    assert!(plan(text).can_stream());
    let swapped = text.replace("use:b", "use:a");
    assert_eq!(
        faults(&swapped),
        ["nobody uses the value of stage `b`", "stage `a` uses its own value"]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
}

#[test]
fn one_fault_brings_forth_no_others() {
    let text = r#"
        name = "p"
        route = "/p"
        [request]
        texts = "strings"
        [deployments.e]
        task = "embedd"
        model = "m"
        [stages.a]
        use = "e"
        inputs = { texts = "request.texts" }
        [stages.b]
        use = "op:similarity"
        inputs = { query = "a[0]", items = "request.texts", vectors = "a", keep = 3 }
        [response]
        b = "b.items"
    "#;
    assert_eq!(
        faults(text),
        [
            "field `texts` has type `strings`, which is unknown",
            "deployment `e`: `task` is `embedd`, which is unknown"
        ]
    );
}

#[test]
fn too_many_entries_and_too_large_files_are_refused() {
    let stages: String = (0..257).map(|n| format!("[stages.s{n}]\nuse = \"op:merge\"\n")).collect();
    let found = faults(&format!("name = \"x\"\nroute = \"/x\"\n{stages}[response]\na = 1\n"));
    assert_eq!(found, ["`stages` has 257 entries, more than 256"]);
    let found = faults(&"#".repeat((1 << 20) + 1));
    assert_eq!(found, ["the file has 1.1MiB, more than 1MiB"]);
}
