//! Reading a certificate and its key: what the files have, whether both belong together, and whether it is valid now.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, RootCertStore, ServerConfig};

/// Most bytes of a file; a long chain has some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file in PEM form, and the flag that named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Such as `--tls-cert`.
    pub flag: &'static str,
    /// The file.
    pub path: PathBuf,
}

impl Display for PemFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.flag, self.path.display())
    }
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate of the listener, then those that lead to an authority that clients know.
    pub certificates: PemFile,
    /// The private key of the first one: PKCS #8, EC (SEC 1) or RSA (PKCS #1).
    pub key: PemFile,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{file} cannot be read: {fault}")]
    Unreadable {
        /// Which.
        file: PemFile,
        /// What the system said.
        fault: io::Error,
    },
    /// It is not one of such a kind.
    #[error("{0} is larger than 1 MiB, so it is not a certificate or key; name another file")]
    TooLarge(PemFile),
    /// It has a broken section.
    #[error("{file} is not PEM: {fault}; it is to have lines such as `-----BEGIN CERTIFICATE-----`")]
    NotPem {
        /// Which.
        file: PemFile,
        /// What is wrong.
        fault: &'static str,
    },
    /// No section of it is a certificate.
    #[error("{0} has no certificate; it is to have a section `-----BEGIN CERTIFICATE-----`")]
    NoCertificate(PemFile),
    /// No section of it is a key.
    #[error(
        "{0} has no private key; it is to have a section such as `-----BEGIN PRIVATE KEY-----`, without a password"
    )]
    NoKey(PemFile),
    /// Key and certificate are of two pairs.
    #[error("{} does not belong to the first certificate of {}; name the key that it was made with", .0.key, .0.certificates)]
    OtherKey(Box<PemFiles>),
    /// A key or a certificate of a kind that is not supported, or damaged.
    #[error("{} with {} cannot be used: {fault}", .files.certificates, .files.key)]
    Unusable {
        /// Both.
        files: Box<PemFiles>,
        /// What is wrong.
        fault: Box<rustls::Error>,
    },
}

/// What files look like from outside. Whoever writes a file changes it, links and renames included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps([Option<Stamp>; 2]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamps {
    pub(super) fn of(files: &PemFiles) -> Self {
        let stamp = |file: &PemFile| Some(Stamp::from(&file.path.metadata().ok()?));
        Self([&files.certificates, &files.key].map(stamp))
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            len: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Whether clients will accept a certificate at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    Valid,
    Expired,
    NotYet,
}

/// What files have.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: ServerConfig,
    pub(super) validity: Validity,
}

/// Reads both files.
pub(super) fn load(files: &PemFiles, alpn: &[&[u8]], now: UnixTime) -> Result<Loaded, Error> {
    let PemFiles { certificates, key } = files;
    let not_pem = |file: &PemFile, fault| Error::NotPem { file: file.clone(), fault: said(&fault) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificates)?)
        .collect::<Result<_, _>>()
        .map_err(|fault| not_pem(certificates, fault))?;
    let Some(first) = chain.first().cloned() else {
        return Err(Error::NoCertificate(certificates.clone()));
    };
    let own = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|fault| match fault {
        pem::Error::NoItemsFound => Error::NoKey(key.clone()),
        fault => not_pem(key, fault),
    })?;
    let unusable = |fault| match fault {
        rustls::Error::InconsistentKeys(_) => Error::OtherKey(Box::new(files.clone())),
        fault => Error::Unusable { files: Box::new(files.clone()), fault: Box::new(fault) },
    };
    let provider = Arc::new(ring::default_provider());
    let certified = CertifiedKey::from_der(chain, own, &provider).map_err(unusable)?;
    let validity = validity(&first, &provider, now);
    let config = config(certified, provider, alpn).map_err(unusable)?;
    Ok(Loaded { config, validity })
}

fn said(fault: &pem::Error) -> &'static str {
    match fault {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should",
        _ => "a section is not base64",
    }
}

fn config(
    certified: CertifiedKey,
    provider: Arc<CryptoProvider>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // Sessions are resumed by tickets that clients keep, under a key of this configuration: with another certificate nobody resumes.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// A verifier looks at the time first: whatever else it says of a certificate on its own does not matter here.
fn validity(certificate: &CertificateDer<'_>, provider: &Arc<CryptoProvider>, now: UnixTime) -> Validity {
    let mut roots = RootCertStore::empty();
    let name = ServerName::try_from("localhost");
    let (Ok(()), Ok(name)) = (roots.add(certificate.clone().into_owned()), name) else {
        return Validity::Valid;
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let Ok(verifier) = verifier else { return Validity::Valid };
    match verifier.verify_server_cert(certificate, &[], &name, &[], now) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Validity::Expired,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Validity::NotYet,
        _ => Validity::Valid,
    }
}

fn read(file: &PemFile) -> Result<Vec<u8>, Error> {
    let unreadable = |fault| Error::Unreadable { file: file.clone(), fault };
    let mut bytes = Vec::new();
    let opened = File::open(&file.path).map_err(unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge(file.clone()));
    }
    Ok(bytes)
}
