//! Closing the gap between what people asked for and what runs, as plain functions of values.
//!
//! [`Reconciler`] is the machine: it takes [`Event`]s, and gives [`Effect`]s and the time of its next pass. Within a pass
//! `decide` asks the rules, each in a file of its own:
//!
//! - `serving`: which revision of a pipeline serves, and how far the next one has come;
//! - `signatures`: whether a revision fits the models that have been loaded for it;
//! - `replicas`: how many replicas of each deployment start, and which leave;
//! - `moving`: what leaves nodes that are drained, once it is replaced elsewhere;
//! - `draining`: what stays for requests on revisions that get no new ones;
//! - `scale`: how many replicas there are to be, by requests;
//! - `routes`: the table that ingresses get.
//!
//! `observe` folds what workers and ingresses say into the state, and `book` what has been decided.

mod book;
pub(crate) mod context;
mod decide;
mod draining;
mod moving;
mod observe;
mod pass;
mod reconciler;
mod removal;
mod replicas;
mod routes;
mod scale;
mod scope;
mod serving;
mod signatures;
mod timer;
pub(crate) mod view;

pub use observe::JoinError;
pub use reconciler::{Effect, Event, Reconciler, Start};
pub use removal::NotRemovable;

#[cfg(test)]
mod tests;
