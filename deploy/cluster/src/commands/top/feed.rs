//! News of the cluster, for as long as somebody looks: its status at each change, and its decisions once a second. A head that does not
//! answer is asked again each second, at the address that the data directory then names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::known::{Decisions, Extent};
use super::state::Input;
use crate::client::{Client, StatusWatch};
use crate::exit::{Cause, Failure};
use crate::global::Global;

/// Wait before a head that does not answer is asked again, and between two questions for decisions.
const PAUSE: Duration = Duration::from_secs(1);
/// Decisions are asked for from this long before the newest that is known: clocks are set back now and then.
const OVERLAP_MS: u64 = 10_000;

/// Sends news until it is dropped.
///
/// # Errors
/// When no cluster answers, or it does not accept the token: that is told before anything is shown.
pub(super) async fn follow(global: &Global, inputs: Sender<Input>) -> Result<JoinSet<()>, Failure> {
    let client = Client::connect(global).await?;
    let watch = client.watch_status().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(statuses(global.clone(), watch, inputs.clone()));
    tasks.spawn(decisions(global.clone(), client, inputs));
    Ok(tasks)
}

/// Sends each status, and that there is none while no head answers.
async fn statuses(global: Global, first: StatusWatch, inputs: Sender<Input>) {
    let mut opened = Ok(first);
    loop {
        let failure = match opened {
            Ok(watch) => pass_on(watch, &inputs).await,
            Err(failure) => failure,
        };
        if inputs.send(Input::Lost(reason(failure))).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        opened = reopen(&global).await;
    }
}

async fn reopen(global: &Global) -> Result<StatusWatch, Failure> {
    Client::connect(global).await?.watch_status().await
}

/// Sends each status; returns why there are no more.
async fn pass_on(mut watch: StatusWatch, inputs: &Sender<Input>) -> Failure {
    loop {
        let status = match watch.next().await {
            Ok(Some(status)) => Box::new(status),
            Ok(None) => return Failure::unreachable("the head has stopped"),
            Err(failure) => return failure,
        };
        if inputs.send(Input::Status(status)).await.is_err() {
            return Failure::nobody_reads();
        }
    }
}

/// Sends what was decided, all of it at first and again after each failure: another head may have other decisions.
async fn decisions(global: Global, client: Client, inputs: Sender<Input>) {
    let mut connected = Some(client);
    let mut newest_ms = None;
    let mut seconds = tokio::time::interval(PAUSE);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let client = match &mut connected {
            Some(client) => client,
            // That there is no head is told by whoever asks for statuses.
            None => match Client::connect(&global).await {
                Ok(client) => connected.insert(client),
                Err(_) => continue,
            },
        };
        let since_ms = newest_ms.map_or(0, |newest: u64| newest.saturating_sub(OVERLAP_MS));
        let Ok((events, head_now)) = client.explain_since("", since_ms).await else {
            (connected, newest_ms) = (None, None);
            continue;
        };
        let extent = if newest_ms.is_some() { Extent::New } else { Extent::All };
        newest_ms = events.last().map(|event| event.at_ms).or(newest_ms);
        let head_ms = head_now.map(ms_of);
        if inputs.send(Input::Decisions(Decisions { events, head_ms, extent })).await.is_err() {
            return;
        }
    }
}

/// Milliseconds since the Unix epoch.
fn ms_of(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// What is wrong, in one clause; what to do about it is for those who start the command.
fn reason(failure: Failure) -> String {
    match failure.into_cause() {
        Cause::Text(text) => text.split([';', '\n']).next().unwrap_or_default().to_owned(),
        Cause::Faults(_) | Cause::Nothing => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_first_clause() {
        let failure =
            Failure::unreachable("no cluster answers on `x`; start one with `cluster up`").and("more");
        assert_eq!(reason(failure), "no cluster answers on `x`");
    }
}
