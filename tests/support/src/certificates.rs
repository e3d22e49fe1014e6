//! Certificates for tests: an authority, what it signs, and clients that trust it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
pub use tokio_rustls::rustls::client::{ClientConfig, Resumption};
pub use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{RootCertStore, crypto::ring};
use tokio_rustls::{TlsConnector, rustls};

/// An authority that signs certificates of servers.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate for `localhost` and 127.0.0.1, with its key.
pub struct Issued {
    /// As clients see it.
    pub der: CertificateDer<'static>,
    /// The chain in PEM form.
    pub certificate: String,
    /// The key in PEM form (PKCS #8).
    pub key: String,
}

impl Authority {
    /// With that name.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its certificate in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Signs one that is valid for long.
    #[must_use]
    pub fn issue(&self) -> Issued {
        self.issue_between(2020, 2099)
    }

    /// Signs one that is valid from the first day of a year to that of another.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn issue_between(&self, from_year: i32, to_year: i32) -> Issued {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(from_year, 1, 1);
        params.not_after = date_time_ymd(to_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { der: certificate.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a client speaks that trusts this authority alone, with these protocols.
    ///
    /// # Panics
    /// When its certificate is not one.
    #[must_use]
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Issued {
    /// Writes both files into a folder, the key first, as whoever replaces them should not care.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        for (path, text) in [(&key, &self.key), (&certificate, &self.certificate)] {
            let new = path.with_extension("new");
            fs::write(&new, text)?;
            fs::rename(&new, path)?;
        }
        Ok((certificate, key))
    }
}

/// Opens a connection to `localhost` over TLS.
///
/// # Errors
/// What the system or the server says.
pub async fn connect_tls(stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// The certificate that the server has shown.
#[must_use]
pub fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let session: &rustls::ClientConnection = stream.get_ref().1;
    session.peer_certificates()?.first().cloned()
}
