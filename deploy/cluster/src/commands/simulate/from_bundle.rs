//! `cluster simulate --from`: what a debug bundle says was decided, decided again by the same code; and, with other bounds, what the
//! recorded hour would have come to.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use millstream_pipelines::{DeploymentSpec, FullName};
use millstream_proto::event::Event;
use millstream_proto::series::Series;
use millstream_proto::status::ClusterStatus;
use millstream_proto::what_if::{WhatIf, WhatIfRequest};
use millstream_simulate::recorded::decisions::{
    Compared, Comparison, Past, Scaled, TOLERANCE_MS, Verdict, compare,
};
use millstream_simulate::recorded::places::{Places, places};
use millstream_simulate::recorded::{Specs, otherwise};
use serde::{Deserialize, Serialize};

use crate::debug_bundle::{Contents, file};
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::Output;
use crate::style;
use crate::table::{Table, column, terminal};
use crate::words::percent;

/// Flags of `cluster simulate --from`.
#[derive(Debug, Args)]
pub(crate) struct FromArgs {
    /// Decide again what this bundle of `cluster debug bundle` says was decided: scaling over its last hour, and places.
    #[arg(long, value_name = "BUNDLE", required = true)]
    from: PathBuf,
    /// Only this deployment.
    #[arg(long, value_name = "PIPELINE/DEPLOYMENT")]
    deployment: Option<FullName>,
    /// What the hour would have come to with at least so many replicas.
    #[arg(long, value_name = "N", requires = "deployment")]
    min: Option<u32>,
    /// The same with at most so many.
    #[arg(long, value_name = "N", requires = "deployment")]
    max: Option<u32>,
    /// The same with this `target_ongoing_requests`.
    #[arg(long, value_name = "N", requires = "deployment")]
    target_ongoing: Option<f64>,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Answer {
    /// How far apart decisions may be that are taken for the same one.
    tolerance_ms: u64,
    deployments: Vec<Comparison>,
    /// Deployments that cannot be decided about again, and why.
    left_out: Vec<LeftOut>,
    /// Of all deployments; absent where one is asked for.
    places: Option<Places>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otherwise: Option<WhatIf>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    deployment: String,
    why: String,
}

#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Event>,
}

/// A bundle's documents.
struct Recorded {
    status: ClusterStatus,
    series: Series,
    events: Vec<Event>,
    specs: Specs,
    /// Pipelines whose files are not there or cannot be read, and why.
    unread: Vec<(String, String)>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &FromArgs) -> Result<(), Failure> {
    let recorded = Recorded::read(&Contents::read(&args.from)?)?;
    let answer = recorded.answer(args)?;
    Output::of(global).show(&answer, || render(&answer))
}

impl Recorded {
    fn read(bundle: &Contents) -> Result<Self, Failure> {
        let status: ClusterStatus = bundle.json(file::STATUS)?;
        let series: Series = bundle.json(file::SERIES)?;
        if series.step_ms != 1000 {
            return Err(Failure::failed(format!(
                "the series of the bundle have a number each {} ms; a second is needed to decide again",
                series.step_ms
            )));
        }
        let Events { events } = bundle.json(file::EVENTS)?;
        let (mut specs, mut unread) = (Specs::default(), Vec::new());
        for pipeline in &status.pipelines {
            let path = file::pipeline(&pipeline.name, pipeline.revision);
            let added = bundle.text(&path).map_err(|failure| failure.message());
            let added = added.and_then(|text| specs.add(&path, text, &status));
            unread.extend(added.err().map(|why| (pipeline.name.clone(), why)));
        }
        Ok(Self { status, series, events, specs, unread })
    }

    fn answer(&self, args: &FromArgs) -> Result<Answer, Failure> {
        let has_places = args.deployment.is_none() && !self.specs.0.is_empty();
        let mut answer = Answer {
            tolerance_ms: TOLERANCE_MS,
            deployments: Vec::new(),
            left_out: Vec::new(),
            places: has_places.then(|| places(&self.status, &self.specs)),
            otherwise: None,
        };
        let unread = self
            .unread
            .iter()
            .map(|(pipeline, why)| LeftOut { deployment: format!("{pipeline}/*"), why: why.clone() });
        if let Some(name) = &args.deployment {
            let spec = self.specs.0.get(name).ok_or_else(|| self.unknown(name))?;
            self.decide(name, spec, &mut answer);
            answer.otherwise = self.otherwise(name, spec, args)?;
            return Ok(answer);
        }
        answer.left_out.extend(unread);
        for (name, spec) in &self.specs.0 {
            self.decide(name, spec, &mut answer);
        }
        Ok(answer)
    }

    fn unknown(&self, name: &FullName) -> Failure {
        let pipeline = name.pipeline.as_str();
        if let Some((_, why)) = self.unread.iter().find(|(unread, _)| unread == pipeline) {
            return Failure::failed(format!("nothing can be decided again about `{name}`: {why}"));
        }
        let known: Vec<_> = self.specs.0.keys().map(ToString::to_string).collect();
        let there = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        Failure::refused(format!("the bundle has no deployment `{name}`; {there}"))
    }

    fn decide(&self, name: &FullName, spec: &DeploymentSpec, answer: &mut Answer) {
        let settings = &spec.autoscaling;
        let mut leave_out = |why: String| answer.left_out.push(LeftOut { deployment: name.to_string(), why });
        if settings.min_replicas == settings.max_replicas {
            return leave_out(format!("its number is fixed: {}", settings.max_replicas));
        }
        let pipeline = self.status.pipelines.iter().find(|it| it.name == name.pipeline.as_str());
        let deployed_at_ms = pipeline.map_or(0, |pipeline| pipeline.deployed_at_ms);
        let past =
            Past { deployment: name, settings, deployed_at_ms, series: &self.series, events: &self.events };
        match compare(&past) {
            Some(comparison) => answer.deployments.push(comparison),
            None => leave_out("nothing was recorded since its settings are what they are".to_owned()),
        }
    }

    fn otherwise(
        &self,
        name: &FullName,
        spec: &DeploymentSpec,
        args: &FromArgs,
    ) -> Result<Option<WhatIf>, Failure> {
        let request = WhatIfRequest {
            deployment: name.to_string(),
            min_replicas: args.min,
            max_replicas: args.max,
            target_ongoing_requests: args.target_ongoing,
            since_s: None,
        };
        if (args.min, args.max, args.target_ongoing) == (None, None, None) {
            return Ok(None);
        }
        otherwise(spec, &self.series, &request).map(Some).map_err(Failure::usage)
    }
}

fn render(answer: &Answer) -> String {
    let mut text = String::new();
    for comparison in &answer.deployments {
        deployment(comparison, &mut text);
    }
    for LeftOut { deployment, why } in &answer.left_out {
        let _ = writeln!(text, "{}  left out: {why}", style::strong(deployment));
    }
    if let Some(found) = &answer.otherwise {
        text += &would_be(found);
    }
    if let Some(found) = &answer.places {
        of_places(found, &mut text);
    }
    text
}

fn deployment(comparison: &Comparison, text: &mut String) {
    let [same, other, then, again, given] =
        [Verdict::Same, Verdict::OtherNumber, Verdict::OnlyThen, Verdict::OnlyAgain, Verdict::Given]
            .map(|verdict| comparison.count(verdict));
    let num_then = same + other + then;
    let since = format!("in {}s since {}", comparison.seconds, local_time(comparison.from_unix_ms));
    let _ = write!(text, "{}  ", style::strong(&comparison.deployment));
    let _ = match num_then + again {
        0 => write!(text, "no decision by load {since}, and none again"),
        _ => write!(
            text,
            "{num_then} decisions by load {since}: {same} the same again, {other} with another number, {then} not again; \
             {again} only again"
        ),
    };
    let others =
        if given > 0 { format!("; {given} by people, a deploy or a new head") } else { String::new() };
    let same_target = percent(comparison.same_target_ratio);
    let _ = writeln!(text, "{others}\n    the same target in {same_target} of the seconds");
    let mut table = Table::new([
        column("TIME", 0),
        column("THEN", 0),
        column("AGAIN", 0),
        column("", 0),
        column("WHY", 1),
    ]);
    for compared in &comparison.decisions {
        let Compared { then, again, .. } = compared;
        let Some(shown) = then.as_ref().or(again.as_ref()) else { continue };
        let step = |scaled: &Option<Scaled>| {
            scaled.as_ref().map_or("-".to_owned(), |scaled| format!("{} → {}", scaled.from, scaled.to))
        };
        let row = [
            local_time(shown.at_ms).into(),
            step(then).into(),
            step(again).into(),
            verdict_of(compared).into(),
            shown.rule.clone().into(),
        ];
        table.row(row, []);
    }
    if !table.is_empty() {
        *text += &table.render(terminal().map(|(columns, _)| columns));
    }
    text.push('\n');
}

/// How a decision compares, and by how much it was earlier or later.
fn verdict_of(compared: &Compared) -> String {
    let apart = compared.then.as_ref().zip(compared.again.as_ref()).map(|(then, again)| {
        let seconds = |ms: u64| format!("{}.{}s", ms / 1000, ms % 1000 / 100);
        match again.at_ms >= then.at_ms {
            true => format!("{} later", seconds(again.at_ms - then.at_ms)),
            false => format!("{} earlier", seconds(then.at_ms - again.at_ms)),
        }
    });
    let word = match compared.verdict {
        Verdict::Same => "same",
        Verdict::OtherNumber => "another number",
        Verdict::OnlyThen => "not again",
        Verdict::OnlyAgain => "only again",
        Verdict::Given => "taken as it was",
    };
    apart.map_or_else(|| word.to_owned(), |apart| format!("{word}, {apart}"))
}

fn would_be(found: &WhatIf) -> String {
    let mut table = Table::new([
        column("", 0),
        column("REPLICA-SECONDS", 0),
        column("MOST READY", 0),
        column("CALLS THAT WAITED", 0),
    ]);
    for (name, replicas) in [("as it was", &found.actual), ("with these bounds", &found.simulated.replicas)] {
        table.row(
            [
                name.into(),
                format!("{:.0}", replicas.replica_seconds).into(),
                replicas.max_ready.to_string().into(),
                percent(replicas.waited_ratio).into(),
            ],
            [],
        );
    }
    table.render(terminal().map(|(columns, _)| columns))
}

fn of_places(found: &Places, text: &mut String) {
    let _ = writeln!(
        text,
        "{}  {} replicas; placed afresh onto empty nodes, {} are on another node",
        style::strong("places"),
        found.placed,
        found.elsewhere
    );
    for moved in &found.moved {
        let _ = writeln!(
            text,
            "    {} on {}: {} then, {} afresh",
            moved.deployment, moved.node, moved.then, moved.afresh
        );
    }
    for waiting in &found.waiting {
        let verdict = if waiting.same { "the same again" } else { "otherwise again" };
        let _ = writeln!(text, "    {} waits for a place: {verdict}", waiting.deployment);
        for node in &waiting.fits {
            let _ = writeln!(text, "        one fits on {node}");
        }
        for reason in &waiting.reasons {
            let _ = writeln!(text, "        {reason}");
        }
        if !waiting.same {
            for reason in &waiting.reasons_then {
                let _ = writeln!(text, "        then: {reason}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
