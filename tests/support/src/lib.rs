//! What the tests of every crate share: one maker of echo pipelines, certificates, real etcd, and waiting for a state with one limit. It depends
//! on no crate of the workspace, so that all of them can use it in their tests.
#![forbid(unsafe_code)]

mod certificates;
mod echo;
mod etcd;
mod wait;

/// The join token of clusters of which a test plays a part.
pub const JOIN_TOKEN: &str = "a-join-token";

pub use certificates::{Authority, CertificateDer, ClientConfig, Issued, Resumption, connect_tls, shown};
pub use echo::Echo;
pub use etcd::Etcd;
pub use wait::{LIMIT, eventually, until};
