//! What the last hour of a deployment would have come to with other bounds: its recorded numbers, replayed by the autoscaler's own
//! code. Changes nothing.

use millstream_core::present::series::CAPACITY;
use millstream_core::present::what_if;
use millstream_pipelines::FullName;
use millstream_proto::what_if::{WhatIf, WhatIfRequest};

use super::Error;
use crate::leadership::Term;

/// See the module.
pub(crate) fn what_if(term: &Term, request: &WhatIfRequest) -> Result<WhatIf, Error> {
    let text = &request.deployment;
    let name: FullName = text.parse().map_err(|_| {
        Error::NotFound(format!("`{text}` is not a deployment; write it as PIPELINE/DEPLOYMENT"))
    })?;
    let desired = term.catalog.desired();
    let wanted = desired.pipelines.get(&name.pipeline).and_then(|pipeline| pipeline.wanted());
    let spec = wanted.and_then(|wanted| wanted.spec(&name.deployment));
    let spec = spec.ok_or_else(|| {
        Error::NotFound(format!("there is no deployment `{name}`; `cluster status` lists those there are"))
    })?;
    let settings = what_if::settings(spec, request).map_err(Error::Invalid)?;
    let since = request.since_s.unwrap_or(CAPACITY).clamp(1, CAPACITY);
    let subject = name.to_string();
    let history = &term.host.history;
    let series = {
        let rings = history.rings.lock();
        rings.shown(rings.range(since, 1), 1, history.started_unix_ms, |key| key.subject == subject)
    };
    what_if::what_if(&subject, &series, settings).ok_or_else(|| {
        Error::NotFound(format!("nothing of `{name}` has been recorded yet; ask again in a few seconds"))
    })
}
