//! The cluster as it changes, as server-sent events: a picture without single replicas, at most once a second, and each
//! decision as it is made. All who look share the text of a picture; it is made once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Stream};
use futures_util::stream::{self, StreamExt as _};

use super::documents::EventView;
use super::refused::Refused;
use crate::control::cluster::StatusWatch;
use crate::leadership::Leadership;
use crate::server::http::Site;

/// Shortest time between two pictures.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often something is sent when nothing changes, so that both ends know that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One watcher.
struct Watcher {
    leadership: Leadership,
    watch: StatusWatch,
    /// Whether a picture was sent.
    has_begun: bool,
    /// The last decision that was sent.
    last_decision: Option<u64>,
}

/// Follows the cluster until the caller leaves.
pub(crate) async fn live(
    State(site): State<Arc<Site>>,
) -> Result<Stream<impl futures_util::Stream<Item = Result<Sse, Infallible>>>, Refused> {
    // Who asks a head that does not lead is told who does.
    site.leadership.term()?;
    let watcher = Watcher {
        leadership: site.leadership.clone(),
        watch: StatusWatch::new(site.leadership.clone()),
        has_begun: false,
        last_decision: None,
    };
    let closing = site.host.closing.clone();
    let events = stream::unfold(watcher, Watcher::next).flat_map(stream::iter).map(Ok);
    let events = events.take_until(async move { closing.cancelled().await });
    Ok(Stream::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Watcher {
    /// What is new: decisions first, then the picture that follows from them.
    async fn next(mut self) -> Option<(Vec<Sse>, Self)> {
        if std::mem::replace(&mut self.has_begun, true) {
            tokio::time::sleep(INTERVAL).await;
        }
        let shown = self.watch.next().await?;
        let mut events = self.decisions();
        match shown {
            Ok(shown) => events.push(Sse::default().event("summary").data(shown.summary_json())),
            // Another head may lead by now: the page asks again and is told.
            Err(error) => tracing::debug!(%error, "the cluster is not shown for a moment"),
        }
        Some((events, self))
    }

    /// The decisions since the last look; those from before the first one are read from `/api/events`.
    fn decisions(&mut self) -> Vec<Sse> {
        let Ok(term) = self.leadership.term() else { return Vec::new() };
        let Some(last) = self.last_decision else {
            self.last_decision = Some(term.events.newest());
            return Vec::new();
        };
        let new = term.events.after(last);
        self.last_decision = new.last().map(|event| event.sequence).or(self.last_decision);
        let sent =
            new.into_iter().map(|event| Sse::default().event("decision").json_data(EventView::from(event)));
        sent.filter_map(Result::ok).collect()
    }
}
