//! How clients meet this process's ingress: over TLS or in clear text, with an API key or without.

use std::path::PathBuf;

use clap::Args;
use millstream_listen::tls::{self, PemFile, PemFiles, ServerCertificate};

use crate::exit::Failure;

/// Flags of the ingress's door.
#[derive(Debug, Args)]
pub(crate) struct EntranceArgs {
    /// File with the certificate of this process's ingress, in PEM form, followed by those that lead to its authority: with it the
    /// ingress speaks HTTPS. It is read again when it changes, and new connections get the new one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// File with the private key of --tls-cert, in PEM form: PKCS #8, EC or RSA, without a password.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Accept that other machines reach this process's ingress in clear text: for example behind a proxy that speaks TLS.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) ingress_clear_text: bool,
    /// Refuse requests without an API key (`cluster key create`) at this process's ingress. Where other machines reach it, that is so
    /// without the flag.
    #[arg(long)]
    pub(crate) require_api_key: bool,
    /// Accept that other machines call this process's ingress without an API key.
    #[arg(long, conflicts_with = "require_api_key")]
    pub(crate) anonymous: bool,
}

impl EntranceArgs {
    /// The certificate, where one is named.
    pub(crate) fn certificate(&self) -> Result<Option<ServerCertificate>, Failure> {
        let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let file = |flag, path: &PathBuf| PemFile { flag, path: path.clone() };
        let files = PemFiles { certificates: file("--tls-cert", certificates), key: file("--tls-key", key) };
        let loaded = ServerCertificate::load(files, tls::HTTP);
        loaded.map(Some).map_err(|error| Failure::usage(error.to_string()))
    }
}
