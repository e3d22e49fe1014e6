//! Revisions of one pipeline, `p`, for tests and benchmarks of updates: good ones, ones that fail, ones that never get
//! ready. Each says in its answers which it is.

/// An echo that says which version it is. `extra` goes into its deployment, `more` to the file's end.
#[must_use]
pub fn revision(version: u32, extra: &str, more: &str) -> String {
    format!(
        r#"
name = "p"
route = "/p"
[request]
text = "text"
[deployments.model]
engine = "echo"
delay = "5ms"
autoscaling = {{ min_replicas = 2, max_replicas = 2 }}
{extra}
[stages.out]
use = "model"
inputs = {{ text = "request.text", version = "{version}" }}
[response]
text = "out.text"
version = "out.version"
{more}
"#
    )
}

/// A revision whose replicas cannot be kept from the one before: their settings differ.
#[must_use]
pub fn good_revision(version: u32) -> String {
    revision(version, &differing(version), "")
}

/// One that answers half of its calls.
#[must_use]
pub fn failing_revision(version: u32) -> String {
    revision(version, &format!("fail_ratio = 0.5\n{}", differing(version)), "")
}

/// One that never gets ready.
#[must_use]
pub fn broken_revision(version: u32) -> String {
    let broken = "[deployments.broken]\ntask = \"embed\"\nengine = \"candle\"\nmodel = \"file:nowhere\"";
    revision(version, &differing(version), broken)
}

/// Two stages, one after the other: on `first`, which takes its time, and on the deployment of that name. `second` is
/// deployed only when it is called.
#[must_use]
pub fn two_stages(last: &str) -> String {
    let second = if last == "second" { "[deployments.second]\nengine = \"echo\"" } else { "" };
    format!(
        r#"
name = "p"
route = "/p"
[request]
text = "text"
[deployments.first]
engine = "echo"
delay = "3s"
{second}
[stages.slow]
use = "first"
inputs = {{ text = "request.text" }}
[stages.out]
use = "{last}"
inputs = {{ text = "slow.text" }}
[response]
text = "out.text"
"#
    )
}

fn differing(version: u32) -> String {
    format!("cpus = {}", 0.01 + 0.001 * f64::from(version))
}
