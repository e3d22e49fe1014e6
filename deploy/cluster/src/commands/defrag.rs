//! `cluster defrag --dry-run`.

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_proto::defrag::{DefragPlan, DeviceRef};

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Flags of `cluster defrag`.
#[derive(Debug, Args)]
pub(crate) struct DefragArgs {
    /// Only show the moves; nothing else exists yet.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DefragArgs) -> Result<(), Failure> {
    if !args.dry_run {
        return Err(Failure::usage(
            "`cluster defrag` moves nothing by itself yet; add --dry-run to see which moves would make whole GPUs free",
        ));
    }
    let plan = Client::connect(global).await?.plan_defrag().await?;
    Output::of(global).show(&plan, || render(&plan))
}

fn render(plan: &DefragPlan) -> String {
    if plan.moves.is_empty() {
        return "no move would make a whole GPU free".to_owned();
    }
    let device = |device: &DeviceRef| format!("{} GPU {}", device.node, device.index);
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["MOVE", "REPLICA", "DEPLOYMENT", "SHARE", "FROM", "TO"]);
    for (number, made) in (1..).zip(&plan.moves) {
        table.add_row([
            number.to_string(),
            made.replica.to_string(),
            made.deployment.clone(),
            made.share.to_string(),
            device(&made.from),
            device(&made.to),
        ]);
    }
    let freed: Vec<_> = plan.freed.iter().map(device).collect();
    let heading = style::good(format!("free afterwards ({}):", freed.len()));
    format!("{table}\n{heading} {}", freed.join(", "))
}
