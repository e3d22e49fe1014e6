//! The control plane: keeps what people asked for, learns what runs, and closes the gap.
//!
//! Only the head writes the store, and it stores only what people asked for; what runs is learned again from the
//! workers after a restart. No request passes through it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a head is started with.
pub struct Config {
    /// Name of this head, for people.
    pub name: String,
    /// gRPC address for workers, ingresses and the command; port 0 picks a free one.
    pub control: SocketAddr,
    /// HTTP address for the dashboard and REST; port 0 picks a free one.
    pub dashboard: SocketAddr,
    /// Folder of the embedded store.
    pub data_dir: PathBuf,
    /// The admin token that control calls must carry.
    pub admin_token: String,
}

/// Why a head did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on `{address}` for {purpose}: {source}; choose another address with {flag}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
}

/// A running head.
pub struct Head {
    control: SocketAddr,
    dashboard: SocketAddr,
}

impl Head {
    /// Opens the store, binds the listeners and starts to reconcile. Returns once both are bound.
    ///
    /// # Errors
    /// [`StartError`] when an address or the store cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let _ = config;
        unimplemented!()
    }

    /// The gRPC address.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The dashboard's address.
    #[must_use]
    pub fn dashboard_address(&self) -> SocketAddr {
        self.dashboard
    }

    /// Waits until somebody asks the cluster to stop (`cluster down`); workers and ingresses have been told by then.
    /// Gives the time to drain in.
    pub async fn asked_to_stop(&self) -> Duration {
        unimplemented!()
    }

    /// Closes listeners and store.
    pub async fn stop(self) {
        unimplemented!()
    }
}
