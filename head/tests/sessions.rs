//! The head over the network: what people deploy reaches workers and ingresses, and survives whatever dies.

use std::time::{Duration, Instant};

use crate::common::{Control, Ingress, Worker, echo, fast, register, report, routed, start, try_start};
use millstream_head::Timing;
use millstream_head::store::Store;
use millstream_head::store::embedded::EmbeddedStore;
use millstream_proto::status::{NodeState, PipelineState, ReplicaState as State};
use millstream_proto::v1::{self, ReplicaState};
use millstream_test_support::{LIMIT, until};

#[tokio::test]
async fn a_deploy_starts_a_replica_and_routes_it_once_ready() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    assert!(ingress.table().await.pipelines.is_empty(), "an empty cluster has an empty table");
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();

    let deployed = control.deploy(echo("p", 1, "0ms")).await.unwrap();
    assert_eq!((deployed.name.as_str(), deployed.revision, deployed.changed), ("p", 1, true));
    let again = control.deploy(echo("p", 1, "0ms")).await.unwrap();
    assert_eq!((again.revision, again.changed), (1, false));

    let order = worker.start_order().await;
    assert_eq!((order.pipeline.as_str(), order.deployment.as_str(), order.revision), ("p", "model", 1));
    assert_eq!(order.source_dir, "/pipelines");
    let spec: millstream_pipelines::DeploymentSpec = serde_json::from_str(&order.spec_json).unwrap();
    assert_eq!(spec.name.as_str(), "model");
    let table = ingress.table().await;
    assert!(routed(&table, "p").is_empty(), "requests wait while nothing is ready");
    assert_eq!(table.pipelines[0].variants[0].revision, 1);

    let loading = v1::ReplicaReport { doing: "warming up".into(), ..report(&order, ReplicaState::Starting) };
    worker.say(loading).await;
    let doing = until("the progress is shown", async || {
        let status = control.status().await;
        let replica = status.pipelines[0].deployments[0].replicas.first()?.clone();
        (replica.doing == "warming up").then_some((replica, status.pipelines[0].state))
    });
    let (replica, state) = doing.await;
    assert_eq!(
        (replica.state, replica.node.as_str(), state),
        (State::Starting, "node-1", PipelineState::Starting)
    );

    worker.report(&order, ReplicaState::Ready).await;
    let table = ingress.until_routed("p", &[&order.replica_id]).await;
    let replica = &table.pipelines[0].deployments[0].replicas[0];
    assert_eq!((replica.node_id.as_str(), replica.address.as_str()), ("node-1-id", "127.0.0.1:16"));
    ingress.ack(table.version).await;
    ingress.load("p", "model", 3, 2).await;
    let status = until("status follows", async || {
        let status = control.status().await;
        let model = &status.pipelines[0].deployments[0];
        (status.ingresses[0].routes_version == table.version.unwrap().number && model.queued == 2)
            .then_some(status)
    });
    let status = status.await;
    let pipeline = &status.pipelines[0];
    assert_eq!((pipeline.state, pipeline.serving_revision), (PipelineState::Ready, Some(1)));
    let model = &pipeline.deployments[0];
    assert_eq!((model.target_replicas, model.ready_replicas, model.ongoing), (1, 1, 3));
    assert_eq!((status.leader.as_str(), status.epoch), ("head-1", worker.epoch));
    head.stop().await;
}

#[tokio::test]
async fn a_killed_worker_leaves_the_routes_and_is_replaced_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut first = Worker::join(&head, register("node-1")).await.unwrap();
    let mut second = Worker::join(&head, register("node-22")).await.unwrap();
    control.deploy(echo("p", 2, "0ms")).await.unwrap();
    let (a, b) = (first.serve_next().await, second.serve_next().await);
    let mut both = [a.replica_id.as_str(), b.replica_id.as_str()];
    both.sort_unstable();
    ingress.until_routed("p", &both).await;

    let killed = Instant::now();
    first.kill();
    ingress.until_routed("p", &[&b.replica_id]).await;
    let status = control.status().await;
    assert_eq!(status.nodes[0].state, NodeState::Unreachable);
    assert_eq!(status.pipelines[0].state, PipelineState::Degraded);

    let c = second.serve_next().await;
    // It was last heard of a beat before, at the earliest.
    assert!(killed.elapsed() >= fast().replace_after - fast().heartbeat, "not before it is given up");
    let mut now = [b.replica_id.as_str(), c.replica_id.as_str()];
    now.sort_unstable();
    let table = ingress.until_routed("p", &now).await;
    ingress.ack(table.version).await;

    // It comes back with what it had: one too many by now.
    let mut back = register("node-1");
    back.replicas = vec![report(&a, ReplicaState::Ready)];
    let mut first = Worker::join(&head, back).await.unwrap();
    assert_eq!(first.stop_order().await.replica_id, a.replica_id, "of the emptiest node");
    head.stop().await;
}

#[tokio::test]
async fn a_node_that_comes_back_in_time_keeps_its_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    let start = worker.serve_next().await;
    ingress.until_routed("p", &[&start.replica_id]).await;
    worker.kill();
    ingress.until_routed("p", &[]).await;
    let mut back = register("node-1");
    back.replicas = vec![report(&start, ReplicaState::Ready)];
    let mut worker = Worker::join(&head, back).await.unwrap();
    ingress.until_routed("p", &[&start.replica_id]).await;
    worker.expect_no_order(&mut control, "other").await;
    head.stop().await;
}

#[tokio::test]
async fn a_head_that_restarts_keeps_pipelines_and_adopts_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    control.deploy(echo("gone", 1, "0ms")).await.unwrap();
    let mut starts = [worker.serve_next().await, worker.serve_next().await];
    starts.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
    let [gone, kept] = starts;
    let before = ingress.until_routed("p", &[&kept.replica_id]).await;
    control.delete("gone").await.unwrap();
    let epoch = worker.epoch;
    head.stop().await;
    assert!(ingress.ends().await, "streams end with the head");

    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let listed = control.list().await;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].revision), ("p", 1));
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut back = register("node-1");
    back.epoch = epoch;
    back.replicas = vec![report(&kept, ReplicaState::Ready), report(&gone, ReplicaState::Ready)];
    let mut worker = Worker::join(&head, back).await.unwrap();
    assert!(worker.epoch > epoch, "a new term");
    let table = ingress.table().await;
    assert_eq!(routed(&table, "p"), [kept.replica_id.as_str()], "the first table is whole already");
    let (before, version) = (before.version.unwrap(), table.version.unwrap());
    assert!(version.epoch > before.epoch, "versions grow across restarts");
    assert_eq!(version, v1::TableVersion { epoch: worker.epoch, number: 1 });
    ingress.ack(table.version).await;
    let stop = worker.stop_order().await;
    assert_eq!(stop.replica_id, gone.replica_id, "what nobody asks for stops");
    worker.report(&gone, ReplicaState::Stopped).await;
    worker.expect_no_order(&mut control, "other").await;
    worker.expect_no_order(&mut control, "another").await;
    let again = control.deploy(echo("gone", 1, "0ms")).await.unwrap();
    assert_eq!(again.revision, 2, "numbers are not used again");
    head.stop().await;
}

#[tokio::test]
async fn a_head_that_stopped_last_does_not_wait_for_reports() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    let replica = worker.serve_next().await;
    worker.report(&replica, ReplicaState::Draining).await;
    worker.leave_with(report(&replica, ReplicaState::Stopped)).await;
    until("the last words are heard", async || {
        let status = control.status().await;
        status.pipelines[0].deployments[0].replicas.is_empty().then_some(())
    })
    .await;
    head.stop().await;

    // Longer than the wait for an order.
    let slow = Timing { settle: 2 * LIMIT, ..fast() };
    let head = try_start(dir.path(), slow).await.unwrap();
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    worker.start_order().await;
    head.stop().await;
}

#[tokio::test]
async fn a_new_revision_starts_beside_the_old_one_which_stops_after_the_ack() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    let old = worker.serve_next().await;
    let table = ingress.until_routed("p", &[&old.replica_id]).await;
    ingress.ack(table.version).await;

    control.deploy(echo("p", 1, "1ms")).await.unwrap();
    let new = worker.start_order().await;
    assert_eq!(new.revision, 2);
    worker.report(&new, ReplicaState::Starting).await;
    let status = control.status().await;
    assert_eq!(
        (status.pipelines[0].state, status.pipelines[0].serving_revision),
        (PipelineState::Degraded, Some(1))
    );
    worker.report(&new, ReplicaState::Ready).await;
    let table = ingress.until_routed("p", &[&new.replica_id]).await;
    assert_eq!(table.pipelines[0].variants[0].revision, 2);
    worker.expect_no_order(&mut control, "z").await;
    ingress.ack(table.version).await;
    let stop = worker.stop_order().await;
    assert_eq!((stop.replica_id.as_str(), stop.drain_ms), (old.replica_id.as_str(), 30_000));
    worker.report(&old, ReplicaState::Stopped).await;
    until("only the new revision is left", async || {
        let status = control.status().await;
        let pipeline = &status.pipelines[0];
        (pipeline.state == PipelineState::Ready && pipeline.deployments[0].replicas.len() == 1).then_some(())
    })
    .await;
    head.stop().await;
}

#[tokio::test]
async fn sources_are_had_by_the_revisions_that_the_newest_table_names() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    let refused = ingress.source("p", 1).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    let old = worker.serve_next().await;
    let table = ingress.until_routed("p", &[&old.replica_id]).await;
    ingress.ack(table.version).await;
    let first = ingress.source("p", 1).await.unwrap();
    assert_eq!((first.file_name.as_str(), first.source), ("p.toml", echo("p", 1, "0ms").to_string()));

    control.deploy(echo("p", 1, "1ms")).await.unwrap();
    let new = worker.start_order().await;
    let early = ingress.source("p", 2).await.unwrap_err();
    assert_eq!(early.code(), tonic::Code::NotFound, "no table names it before it serves");
    worker.report(&new, ReplicaState::Ready).await;
    ingress.until_routed("p", &[&new.replica_id]).await;
    assert_eq!(ingress.source("p", 2).await.unwrap().source, echo("p", 1, "1ms").to_string());
    assert_eq!(ingress.source("p", 1).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(ingress.source("q", 2).await.unwrap_err().code(), tonic::Code::NotFound);
    head.stop().await;
}

#[tokio::test]
async fn a_revision_that_cannot_start_leaves_the_old_one_serving() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    let old = worker.serve_next().await;
    ingress.until_routed("p", &[&old.replica_id]).await;
    control.deploy(echo("p", 1, "1ms")).await.unwrap();
    let new = worker.start_order().await;
    for restarts in 0..3 {
        let failed = report(&new, ReplicaState::Failed);
        worker.say(v1::ReplicaReport { error: "no such model".into(), restarts, ..failed }).await;
    }
    let status = until("the verdict", async || {
        let status = control.status().await;
        (!status.pipelines[0].verdicts.is_empty()).then_some(status)
    });
    let status = status.await;
    let verdict = &status.pipelines[0].verdicts[0];
    assert_eq!((verdict.revision, verdict.outcome.as_str()), (2, "rolled_back"));
    assert!(verdict.reason.ends_with("no such model"), "{}", verdict.reason);
    assert_eq!((status.pipelines[0].revision, status.pipelines[0].serving_revision), (1, Some(1)));
    assert_eq!(worker.stop_order().await.replica_id, new.replica_id);
    head.stop().await;
}

#[tokio::test]
async fn a_live_name_is_refused_and_a_later_term_is_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let _worker = Worker::join(&head, register("node-1")).await.unwrap();
    let mut other = register("node-1");
    other.node_id = "another-machine".into();
    let Err(refused) = Worker::join(&head, other).await else { panic!("two nodes of one name") };
    assert_eq!(refused.code(), tonic::Code::Aborted);
    assert!(refused.message().contains("--node-name"), "{refused}");
    let mut nameless = register("node-3");
    nameless.name.clear();
    let Err(refused) = Worker::join(&head, nameless).await else { panic!("a node without a name") };
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let mut obedient = register("node-444");
    obedient.epoch = 70;
    let worker =
        until("the head goes on in a term above", async || Worker::join(&head, obedient.clone()).await.ok());
    assert_eq!(worker.await.epoch, 71);
    let mut stray = register("node-5");
    stray.epoch = u64::MAX - 1;
    let Err(refused) = Worker::join(&head, stray).await else {
        panic!("a number brought terms to their end")
    };
    assert!(refused.message().contains("delete the file `epoch`"), "{refused}");
    head.stop().await;
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let members = store.list(&["members/"]).await.unwrap();
    let keys: Vec<_> = members.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["members/node-1", "members/node-444"], "who was refused is not waited for");
}

#[tokio::test]
async fn workers_and_ingresses_of_another_cluster_are_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let worker = Worker::join(&head, register("node-1")).await.unwrap();
    let cluster = worker.cluster_id.clone();
    assert_eq!(cluster.len(), 36, "an id: {cluster:?}");
    let ingress = Ingress::join(&head, "ingress-1").await;
    assert_eq!(ingress.cluster_id, cluster);
    worker.kill();
    head.stop().await;

    let head = start(dir.path()).await;
    let of = |cluster_id: &str| v1::Register { cluster_id: cluster_id.into(), ..register("node-1") };
    let worker = Worker::join(&head, of(&cluster)).await.unwrap();
    assert_eq!(worker.cluster_id, cluster, "the cluster is the same after a restart");
    let Err(refused) = Worker::join(&head, of("another")).await else {
        panic!("a worker of another cluster")
    };
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("belongs to another cluster"), "{refused}");
    assert!(Ingress::join_cluster(&head, "ingress-1", &cluster).await.is_ok());
    let refused = Ingress::join_cluster(&head, "ingress-2", "another").await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    head.stop().await;
}

#[tokio::test]
async fn what_has_no_place_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    control.deploy(echo("p", 1, "0ms").deployment("cpus = 64")).await.unwrap();
    let pending = async |control: &mut Control| {
        let status = control.status().await;
        status.pipelines[0].deployments[0].pending.first().cloned()
    };
    let reason = until("no node", async || pending(&mut control).await).await;
    assert!(reason.contains("no node is connected"), "{reason}");
    let _worker = Worker::join(&head, register("node-1")).await.unwrap();
    let reason =
        until("too small", async || pending(&mut control).await.filter(|r| r.contains("node-1"))).await;
    assert_eq!(reason, "node-1: needs 64 cores, 2 free");
    head.stop().await;
}

#[tokio::test]
async fn a_shutdown_tells_ingresses_and_workers_first() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut ingress = Ingress::join(&head, "ingress-1").await;
    ingress.table().await;
    let mut worker = Worker::join(&head, register("node-1")).await.unwrap();
    control.shut_down(1234).await;
    assert_eq!(head.asked_to_stop().await, Duration::from_millis(1234));
    let v1::route_message::Body::Leave(leave) = ingress.message().await else { panic!("expected `leave`") };
    assert_eq!(leave.drain_ms, 1234);
    let v1::head_message::Body::Shutdown(shutdown) = worker.order().await else {
        panic!("expected `shutdown`")
    };
    assert_eq!(shutdown.drain_ms, 1234);
    head.stop().await;
}

#[tokio::test]
async fn a_worker_that_reads_slowly_gets_all_its_orders() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let resources = v1::Resources { cpu_milli: 1 << 40, memory_bytes: 1 << 50, gpus: vec![] };
    let register = v1::Register { resources: Some(resources), ..register("node-1") };
    let mut worker = Worker::join(&head, register).await.unwrap();
    control.deploy(echo("p", 3_000, "0ms")).await.unwrap();
    // More than wait for a worker, and than fit into the buffers of a connection.
    until("all are ordered", async || {
        let status = control.status().await;
        (status.pipelines[0].deployments[0].replicas.len() == 3_000).then_some(())
    })
    .await;
    for _ in 0..3_000 {
        worker.start_order().await;
    }
}
