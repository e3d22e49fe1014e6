//! The store of heads on several machines: etcd, through the crate etcd-client. It keeps the promises of
//! [`millstream_head::store`], which its tests run against real etcd processes: one member, three of which one is killed, and
//! connections that are cut.
//!
//! ```text
//! address   etcd://HOST:PORT,…/PREFIX
//! access    certificates, user and password
//! members   which member is asked, and the next one when it does not answer
//! failure   what an error of etcd means for whoever asked
//! store     the operations
//! commit    a commit as etcd's transaction
//! watch     changes, a commit in one piece
//! ```
//!
//! All keys begin with `/PREFIX/keys/`; `/PREFIX/format` says in which format they are. A version is a revision of etcd, so that it
//! grows with the changes of others too, and a lease lasts whole seconds, 2 at least.
#![cfg(feature = "client")]
#![forbid(unsafe_code)]

mod access;
mod address;
mod commit;
mod failure;
mod members;
mod store;
mod watch;

pub use access::{Access, Identity};
pub use address::{Address, AddressError};
pub use store::{EtcdStore, OpenError};
