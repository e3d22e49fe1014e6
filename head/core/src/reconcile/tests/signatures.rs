//! Revisions that do not fit the models that have been loaded for them.

use millstream_pipelines::PortType;
use millstream_pipelines::types::ModelSignature;

use super::*;
use crate::desired::Compiled;
use crate::model::StartFailure;

impl Cluster {
    /// A file whose stage passes `input` to a model and answers with its `output`.
    fn deploy_scored(&mut self, input: &str, output: &str) {
        self.deploy_text(input, output, "");
    }

    /// The same, with more in the file.
    fn deploy_text(&mut self, input: &str, output: &str, more: &str) {
        let source = format!(
            "name = \"p\"\nroute = \"/p\"\n[request]\nx = \"f32[?,4]\"\n[deployments.model]\ntask = \"tensor\"\n\
             model = \"file:/m.onnx\"\n[stages.scored]\nuse = \"model\"\ninputs.{input} = \"request.x\"\n\
             [response]\nlabel = \"scored.{output}\"\n{more}"
        );
        let compiled = Compiled::from_text("p.toml", &source).unwrap();
        let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
        if let Deployed::New(revision) = deploy(&self.desired, candidate, 1).unwrap() {
            self.desired.add(&name("p"), revision);
        }
    }

    /// The model is loaded: it takes `x` and returns `label`.
    fn load_model(&mut self, replica: &str) {
        let (node, session, mut report) = self.find(replica);
        let port = |name: &str, ty: &str| [(name.to_owned(), ty.parse::<PortType>().unwrap())].into();
        report.state = ReplicaState::Ready;
        report.signature = Some(Arc::new(ModelSignature {
            inputs: port("x", "f32[?,4]"),
            outputs: port("label", "i64[?]"),
        }));
        self.see(Observation::ReplicaChanged(node, session, report));
    }

    fn start_failure(&self) -> Option<StartFailure> {
        self.state.routes.pipelines[0].deployments[0].start_failure
    }
}

#[test]
fn a_first_revision_that_does_not_fit_its_model_never_serves() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy_scored("features", "label");
    cluster.short();
    assert_eq!(cluster.start_failure(), None, "it is loading");
    cluster.load_model("p-model-1-1");
    cluster.short();
    assert_eq!(cluster.routed("p"), [""; 0]);
    assert_eq!(cluster.start_failure(), Some(StartFailure::Mismatch));
    let status = cluster.status().pipelines.remove(0);
    assert_eq!((status.state, status.serving_revision), (PipelineState::Failed, None));
    let mismatch = status.mismatch.unwrap();
    assert!(mismatch.contains("`inputs.features` is unknown: the model has no such input"), "{mismatch}");

    cluster.deploy_scored("x", "label");
    cluster.short();
    assert_eq!(cluster.routed("p"), ["p-model-1-1"], "the model is there already");
    let status = cluster.status().pipelines.remove(0);
    assert_eq!(
        (status.state, status.serving_revision, status.mismatch),
        (PipelineState::Ready, Some(2), None)
    );
}

#[test]
fn a_revision_that_does_not_fit_leaves_the_one_before_as_it_is() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy_scored("x", "label");
    cluster.short();
    cluster.load_model("p-model-1-1");
    cluster.short();
    assert_eq!(cluster.routed("p"), ["p-model-1-1"]);
    cluster.deploy_scored("x", "labels");
    assert_eq!(cluster.short(), [""; 0], "its replica stays, and is known");
    let status = cluster.status().pipelines.remove(0);
    assert_eq!((status.state, status.serving_revision), (PipelineState::Ready, Some(1)));
    let verdict = &status.verdicts[0];
    assert_eq!((verdict.revision, verdict.outcome.as_str()), (2, "rolled_back"));
    assert!(verdict.reason.starts_with("it does not fit its models:\np.toml:"), "{}", verdict.reason);
    assert!(verdict.reason.contains("did you mean `label`?"), "{}", verdict.reason);
}

#[test]
fn requests_are_told_when_replicas_fail_each_time_they_start() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy("p", &[model(1, 1)]);
    cluster.short();
    let fail = |cluster: &mut Cluster, restarts| {
        cluster.report("p-model-1-1", ReplicaState::Starting, restarts);
        cluster.report("p-model-1-1", ReplicaState::Failed, restarts);
        cluster.short();
        cluster.start_failure()
    };
    assert_eq!([fail(&mut cluster, 0), fail(&mut cluster, 1)], [None; 2]);
    assert_eq!(fail(&mut cluster, 2), Some(StartFailure::Replicas));
    cluster.report("p-model-1-1", ReplicaState::Starting, 3);
    cluster.short();
    assert_eq!(cluster.start_failure(), Some(StartFailure::Replicas), "it most likely fails again");
    cluster.set("p-model-1-1", ReplicaState::Ready);
    cluster.short();
    assert_eq!((cluster.start_failure(), cluster.routed("p").len()), (None, 1));
    // One that ran and crashed is waited for.
    cluster.report("p-model-1-1", ReplicaState::Failed, 4);
    cluster.short();
    assert_eq!(cluster.start_failure(), None);
}

#[test]
fn a_model_that_may_have_no_replica_is_loaded_once_before_its_revision_serves() {
    let scales_to_zero = "[deployments.model.autoscaling]\nmin_replicas = 0\nmax_replicas = 2\n";
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy_text("features", "label", scales_to_zero);
    assert_eq!(cluster.short(), ["serve p@1 soon", "start p/model@1 n1"]);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Starting);
    cluster.load_model("p-model-1-1");
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Failed);
    // The one that fits serves, and what was loaded leaves when it has been idle.
    cluster.deploy_text("x", "label", scales_to_zero);
    let commands = cluster.short();
    assert_eq!(commands, ["scale p/model 0-1", "serve p@2", "update p-model-1-1@2"]);
    assert_eq!(cluster.routed("p"), ["p-model-1-1"]);
    cluster.pass(3600.0);
    assert_eq!(cluster.short(), ["scale p/model 1-0", "retire p-model-1-1", "stop p-model-1-1"]);
    cluster.obey();
    // The same for the revision after it, which never has requests to start by.
    cluster.deploy_text("wrong", "label", scales_to_zero);
    assert_eq!(cluster.short(), ["start p/model@3 n1"]);
    cluster.load_model("p-model-1-2");
    cluster.short();
    let status = cluster.status().pipelines.remove(0);
    assert_eq!((status.serving_revision, status.verdicts.len()), (Some(2), 1));
}

#[test]
fn a_new_head_does_not_load_what_is_scaled_to_zero() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy_text("x", "label", "[deployments.model.autoscaling]\nmin_replicas = 0\n");
    cluster.short();
    cluster.load_model("p-model-1-1");
    cluster.short();
    cluster.pass(3600.0);
    cluster.obey();
    cluster.restart_head();
    cluster.join("n1");
    cluster.pass(10.0);
    assert_eq!(cluster.short(), ["settle", "serve p@1"]);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
}
