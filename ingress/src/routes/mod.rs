//! What this ingress serves: the table ([`table`]), how it learns of it from the head ([`mod@watch`]), and what it tells
//! the head in return ([`load`]).

mod load;
mod table;
mod watch;

pub(crate) use table::{Pipeline, RouteTable, Routes};
pub(crate) use watch::{Hello, watch};
