//! `cluster validate`: all faults of pipeline files, without a cluster; with one in reach also whether deployments of
//! other pipelines exist.

use std::collections::BTreeSet;

use millstream_pipelines::{FullName, Plan};
use serde_json::json;

use crate::cli::{Global, ValidateArgs};
use crate::client::Client;
use crate::commands::{PipelineFile, read_files};
use crate::exit::Failure;
use crate::style;

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ValidateArgs) -> Result<(), Failure> {
    let files = read_files(&args.files, global)?;
    let checked = check_foreign(global, &files).await?;
    if global.json {
        let names: Vec<_> = files.iter().map(|file| file.plan.name()).collect();
        println!("{}", json!({"valid": true, "pipelines": names, "checked_against_cluster": checked}));
        return Ok(());
    }
    for file in &files {
        let stages = file.plan.targets().len();
        println!(
            "{} {}: pipeline `{}`, {} deployment{}, {stages} called",
            style::good("ok"),
            file.request.file_name,
            file.plan.name(),
            file.plan.deployments().len(),
            if file.plan.deployments().len() == 1 { "" } else { "s" },
        );
    }
    Ok(())
}

/// Checks deployments of pipelines that are not among the files; says whether a cluster was there to ask.
async fn check_foreign(global: &Global, files: &[PipelineFile]) -> Result<bool, Failure> {
    let declared = declared_by(files.iter().map(|file| &file.plan));
    let foreign: Vec<(&str, &FullName)> = files
        .iter()
        .flat_map(|file| file.plan.targets().iter().map(|target| (file.request.file_name.as_str(), target)))
        .filter(|(_, target)| !declared.contains(target))
        .collect();
    if foreign.is_empty() {
        return Ok(false);
    }
    let Ok(mut client) = Client::connect(global).await else {
        return Ok(false);
    };
    let stored = client.pipelines().await?;
    let plans: Vec<Plan> = stored
        .iter()
        .filter_map(|pipeline| Plan::compile(&pipeline.file_name, &pipeline.source).ok())
        .collect();
    let there = declared_by(plans.iter());
    let missing: Vec<String> = foreign
        .into_iter()
        .filter(|(_, target)| !there.contains(target))
        .map(|(file, target)| {
            format!(
                "{file}: deployment `{target}` is not in the cluster on `{}`; deploy pipeline `{}` first",
                client.address(),
                target.pipeline
            )
        })
        .collect();
    if missing.is_empty() { Ok(true) } else { Err(Failure::invalid(missing.join("\n"))) }
}

fn declared_by<'a>(plans: impl Iterator<Item = &'a Plan>) -> BTreeSet<FullName> {
    plans
        .flat_map(|plan| {
            plan.deployments()
                .keys()
                .map(|deployment| FullName { pipeline: plan.name().clone(), deployment: deployment.clone() })
        })
        .collect()
}
