//! A whole cluster (heads, workers, ingresses, clients) as state machines on a virtual clock, under faults that a seed
//! decides. One seed is one history: the same each time, so that what fails once can be looked at as often as needed.
//!
//! **Real**, the very code that runs in production: what a head observes, decides, books and publishes, what a deploy
//! or a delete does, the scheduler; a worker's fence between terms, the life of its replicas and when they start again;
//! an ingress's pools (admission, queue, choice, ejection) and what it sends again.
//!
//! **Modelled**, because in production it sits in actors and streams: connections (`network`), the shells around
//! the decisions (`head`, `worker`, `ingress`; each says what it mirrors), clients, the store, who leads. Electing a
//! leader is not simulated: a script lets a second head begin a term while the first still believes to lead.
//!
//! `checks` has the rules that must always hold, `convergence` what must hold once faults end.
#![forbid(unsafe_code)]

mod checks;
mod client;
mod clock;
mod convergence;
mod cx;
mod faults;
mod head;
mod ingress;
mod message;
mod network;
mod pipelines;
mod run;
mod scenario;
mod store;
mod worker;
mod world;

pub use checks::{Rule, Violation};
pub use run::{Failure, Report, run, shrink, traced};

/// A fault in the code itself, to prove that the rules can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// None: the code as it is.
    None,
    /// A worker that obeys orders of older terms.
    WorkerObeysOlderTerms,
    /// An ingress that confirms a table before it is in force.
    IngressConfirmsFirst,
    /// An ingress that forgets a request when it is to be sent again.
    IngressForgetsOnRetry,
    /// An ingress that answers a late request, and then once more.
    IngressKeepsLateRequests,
    /// A head that forgets which shares it has given away.
    HeadBooksSharesTwice,
    /// A head that stops replicas before ingresses have confirmed.
    HeadStopsAtOnce,
    /// A head that begins in the term of the head before.
    HeadKeepsItsTerm,
    /// A head that takes replicas for ready that still load.
    HeadTakesStartingForReady,
    /// A head that never tells replicas to stop.
    HeadForgetsToStop,
    /// A head that gives a revision on trial its part beside the whole.
    HeadSharesMoreThanAll,
    /// A head that takes reports of replicas without noticing that something changed.
    HeadOverlooksReports,
    /// A head that goes on naming a replica that it has told to stop.
    HeadNamesTheStopped,
    /// A head that ends when a node leaves it.
    HeadPanics,
    /// An ingress that does not know a pipeline any more while a new revision is on trial.
    IngressLosesRoutes,
    /// An ingress that asks any replica, whether or not it can answer for the revision.
    IngressAsksAnybody,
    /// A head that routes as if it had convicted nobody.
    HeadRoutesTheConvicted,
    /// A head that counts all good answers since a trial began, however long ago they were.
    HeadCountsOldAnswers,
    /// A head that forgets which nodes are cordoned.
    HeadForgetsCordons,
}

/// Whether a run notes what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// It does.
    On,
    /// It does not, which is several times faster.
    Off,
}
