//! How etcd lets us in: certificates, user and password.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, TlsOptions};

/// How long a member may take to accept a connection; then the next one is asked.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How often an idle connection is asked for a sign of life: etcd closes connections that ask more often than each 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How etcd lets us in. Without any of it: in clear text, without a name.
#[derive(Clone, Default)]
pub struct Access {
    /// PEM of the authority that has signed etcd's certificate; with it connections are encrypted.
    pub authority: Option<Vec<u8>>,
    /// Our own certificate, where etcd wants one.
    pub identity: Option<Identity>,
    /// Name and password.
    pub user: Option<(String, String)>,
}

/// A certificate of ours.
#[derive(Clone)]
pub struct Identity {
    /// PEM of the certificate.
    pub certificate: Vec<u8>,
    /// PEM of its key.
    pub key: Vec<u8>,
}

/// Tells what there is, and no secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("authority", &self.authority.is_some())
            .field("identity", &self.identity.is_some())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish()
    }
}

impl Access {
    /// How members are written.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_auto_token_refresh(true)
            // A member that is cut off from the others says so instead of keeping us waiting.
            .with_require_leader(true);
        if let Some(authority) = &self.authority {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(authority));
            if let Some(identity) = &self.identity {
                tls = tls.identity(etcd_client::Identity::from_pem(&identity.certificate, &identity.key));
            }
            options = options.with_tls(tls);
        }
        match &self.user {
            Some((name, password)) => options.with_user(name, password),
            None => options,
        }
    }
}
