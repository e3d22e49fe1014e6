//! One file per command: its flags, and what it does.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod debug;
pub(crate) mod defrag;
pub(crate) mod delete;
pub(crate) mod deploy;
mod deploy_plan;
pub(crate) mod diff;
pub(crate) mod down;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod head;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod replay;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod simulate;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod usage;
pub(crate) mod validate;
mod watch;
