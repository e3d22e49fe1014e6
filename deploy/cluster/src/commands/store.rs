//! Stores pipelines: none of them when the cluster refuses one, as far as that can be asked beforehand.

use std::collections::BTreeMap;

use millstream_pipelines::Plan;
use millstream_proto::v1::DeployResponse;

use crate::client::Client;
use crate::exit::Failure;
use crate::pipeline_file::PipelineFile;

/// Stores pipelines, in order.
///
/// # Errors
/// When one is refused. Those before it may be stored then, and the failure names them: another change may have come between
/// the check and the store, and not every file can be checked before those that it follows are stored.
pub(crate) async fn store(
    client: &mut Client,
    files: Vec<PipelineFile>,
) -> Result<Vec<DeployResponse>, Failure> {
    if files.len() > 1 {
        check(client, &files).await?;
    }
    let mut answers = Vec::with_capacity(files.len());
    for file in files {
        match client.deploy(file.request).await {
            Ok(answer) => answers.push(answer),
            Err(failure) => return Err(stored_before(failure, &answers)),
        }
    }
    Ok(answers)
}

/// Asks the cluster about each file whose answer does not depend on the files before it.
async fn check(client: &mut Client, files: &[PipelineFile]) -> Result<(), Failure> {
    let stored = client.pipelines().await?;
    let stored = stored.iter().filter_map(|stored| {
        let plan = Plan::compile(&stored.file_name, &stored.source).ok()?;
        Some((stored.name.as_str(), plan))
    });
    let stored: BTreeMap<&str, Plan> = stored.collect();
    for (index, file) in files.iter().enumerate() {
        let before = files.iter().take(index).map(|file| &file.plan);
        let mut before = before.map(|plan| (plan, stored.get(plan.name().as_str())));
        if !before.any(|(new, old)| may_depend(&file.plan, new, old)) {
            client.plan_deploy(file.request.clone()).await?;
        }
    }
    Ok(())
}

/// Whether a pipeline that is refused now may be accepted once another has changed from `old` to `new`: it calls the other, or
/// the other gives up a route or its calls.
fn may_depend(plan: &Plan, new: &Plan, old: Option<&Plan>) -> bool {
    let calls =
        |plan: &Plan, other: &Plan| plan.targets().iter().any(|target| target.pipeline == *other.name());
    calls(plan, new) || old.is_some_and(|old| old.route() != new.route() || calls(old, plan))
}

/// A failure that says what is stored all the same.
fn stored_before(failure: Failure, answers: &[DeployResponse]) -> Failure {
    let changed = answers.iter().filter(|answer| answer.changed);
    let names: Vec<_> =
        changed.map(|answer| format!("`{}` revision {}", answer.name, answer.revision)).collect();
    if names.is_empty() {
        return failure;
    }
    failure.and(&format!("stored before that, and rolled out: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use millstream_test_support::Echo;

    use super::*;

    fn plan(echo: &Echo) -> Plan {
        Plan::compile("p.toml", &echo.to_string()).unwrap()
    }

    #[test]
    fn a_file_depends_on_one_before_it_that_it_calls_or_that_makes_room() {
        let (a, b) = (plan(&Echo::new("a")), plan(&Echo::new("b")));
        assert!(!may_depend(&b, &a, None));
        assert!(!may_depend(&b, &a, Some(&a)));
        assert!(may_depend(&plan(&Echo::new("b").uses("a/model")), &a, None), "calls it");
        assert!(may_depend(&b, &a, Some(&plan(&Echo::new("a").route("/old")))), "gives up its route");
        assert!(may_depend(&b, &a, Some(&plan(&Echo::new("a").uses("b/model")))), "called it");
    }

    #[test]
    fn a_failure_names_what_is_stored() {
        let answer = |name: &str, changed| DeployResponse { name: name.into(), revision: 2, changed };
        let text = |answers: &[_]| match stored_before(Failure::invalid("no"), answers).into_cause() {
            crate::exit::Cause::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&[answer("a", false)]), "no");
        assert_eq!(
            text(&[answer("a", true), answer("b", true)]),
            "no\nstored before that, and rolled out: `a` revision 2, `b` revision 2"
        );
    }
}
