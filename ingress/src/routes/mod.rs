//! What this ingress serves: the table ([`table`]), which revision a request runs on ([`split`]), how it learns of it from
//! the head ([`mod@watch`], [`revisions`], [`follow`]) and does without one ([`last`]), and what it tells the head in return ([`load`]).

mod aliases;
mod caches;
mod counts;
mod follow;
mod last;
mod load;
mod pipeline;
mod planned;
mod revisions;
pub(crate) mod split;
mod table;
mod watch;

pub(crate) use caches::tend_caches;
pub(crate) use counts::DeadlineOf;
pub(crate) use last::LastRoutes;
pub(crate) use pipeline::{Pipeline, Route};
#[cfg(test)]
pub(crate) use revisions::Revisions;
pub(crate) use table::{RouteTable, Routes};
pub(crate) use watch::{Hello, Outbox, watch};
