//! `cluster validate`: all faults of pipeline files, without a cluster; with one in reach also whether deployments of
//! other pipelines exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use millstream_pipelines::{Faults, FullName, Plan, closest};
use serde_json::json;

use crate::client::Client;
use crate::exit::{Cause, Failure, WRONG_USAGE};
use crate::global::Global;
use crate::output::{self, Output};
use crate::pipeline_file::PipelineFile;
use crate::style;

/// Flags of `cluster validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Pipeline files; a folder stands for its `.toml` files, `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ValidateArgs) -> Result<(), Failure> {
    let (files, faults) = PipelineFile::sort_all(&args.files)?;
    if !faults.is_empty() {
        return Err(with_valid(global, &files, faults)?);
    }
    let foreign = foreign(&files);
    let stored = if foreign.is_empty() { None } else { ask(global).await? };
    if let Some((address, plans)) = &stored {
        check_foreign(&foreign, plans, address)?;
    }
    let names: Vec<_> = files.iter().map(|file| file.plan.name()).collect();
    let answer = json!({"valid": true, "pipelines": names, "checked_against_cluster": stored.is_some()});
    Output::of(global).show(&answer, || lines(&files))
}

/// The faults of some files, beside which it is said that the others have none.
fn with_valid(global: &Global, files: &[PipelineFile], faults: Vec<Faults>) -> Result<Failure, Failure> {
    let output = Output::of(global);
    if output != Output::Json && !files.is_empty() {
        output.text(&lines(files))?;
    }
    let names: Vec<_> = files.iter().map(|file| &file.file.file_name).collect();
    Ok(Failure::faults(faults).with("valid_files", json!(names)))
}

fn lines(files: &[PipelineFile]) -> String {
    files.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(file: &PipelineFile) -> String {
    let (used, deployments) = (file.plan.targets().len(), file.plan.deployments().len());
    format!(
        "{} {}: pipeline `{}`, {deployments} deployment{}, {used} used by stages",
        style::good("ok"),
        file.file.file_name,
        file.plan.name(),
        if deployments == 1 { "" } else { "s" },
    )
}

/// Deployments of pipelines that are not among the files, each with the file that calls it.
fn foreign(files: &[PipelineFile]) -> Vec<(&str, &FullName)> {
    let declared = declared_by(files.iter().map(|file| &file.plan));
    files
        .iter()
        .flat_map(|file| file.plan.targets().iter().map(|target| (file.file.file_name.as_str(), target)))
        .filter(|(_, target)| !declared.contains(target))
        .collect()
}

/// The pipelines of a cluster, and its address. Files are checked without one too, so that one which does not answer or
/// refuses the token is only mentioned.
async fn ask(global: &Global) -> Result<Option<(String, Vec<Plan>)>, Failure> {
    match stored(global).await {
        Ok(stored) => Ok(Some(stored)),
        Err(failure) if failure.code() == WRONG_USAGE => Err(failure),
        Err(failure) => {
            if let Cause::Text(reason) = failure.into_cause() {
                output::note(format_args!("deployments of other pipelines are not checked: {reason}"));
            }
            Ok(None)
        }
    }
}

async fn stored(global: &Global) -> Result<(String, Vec<Plan>), Failure> {
    let mut client = Client::connect(global).await?;
    let stored = client.pipelines().await?;
    let plans = stored.iter().filter_map(|stored| Plan::compile(&stored.file_name, &stored.source).ok());
    Ok((client.address().to_owned(), plans.collect()))
}

fn check_foreign(foreign: &[(&str, &FullName)], plans: &[Plan], address: &str) -> Result<(), Failure> {
    let there = declared_by(plans.iter());
    let names: Vec<_> = there.iter().map(ToString::to_string).collect();
    let missing = foreign.iter().filter(|(_, target)| !there.contains(target)).map(|(file, target)| {
        let help = match closest(&target.to_string(), names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("deploy pipeline `{}` first", target.pipeline),
        };
        format!("{file}: deployment `{target}` is not in the cluster on `{address}`; {help}")
    });
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::invalid(missing.join("\n"))) }
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
