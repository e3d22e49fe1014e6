//! Where a head keeps what people ask for: in its data directory, or in an etcd that it shares with other heads.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use millstream_head::store::Store;

use crate::exit::Failure;

/// Flags of the store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArgs {
    /// Keep what people ask for in etcd, so that several heads can share it and one takes over when another dies; without it in the
    /// data directory.
    #[arg(long, value_name = "etcd://HOST:PORT,…/PREFIX")]
    pub(crate) store: Option<String>,
    /// Certificate (PEM) of the authority that has signed etcd's certificate; with it connections to etcd are encrypted.
    #[arg(long, value_name = "FILE", requires = "store")]
    pub(crate) store_ca: Option<PathBuf>,
    /// Certificate (PEM) to show to etcd.
    #[arg(long, value_name = "FILE", requires = "store_ca", requires = "store_key")]
    pub(crate) store_cert: Option<PathBuf>,
    /// Key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "store_cert")]
    pub(crate) store_key: Option<PathBuf>,
    /// File that holds `USER:PASSWORD` for etcd.
    #[arg(long, value_name = "FILE", requires = "store")]
    pub(crate) store_user_file: Option<PathBuf>,
}

impl StoreArgs {
    /// The store that is named, once it answers; `None` where it is to be in the data directory.
    pub(crate) async fn open(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let Some(address) = &self.store else { return Ok(None) };
        self.open_etcd(address).await.map(Some)
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "as with the feature")]
    async fn open_etcd(&self, _: &str) -> Result<Arc<dyn Store>, Failure> {
        Err(Failure::usage(
            "this `cluster` was built without etcd: take a release, or build it with `cargo build --release --features etcd`, which \
             needs `protoc`",
        ))
    }

    #[cfg(feature = "etcd")]
    async fn open_etcd(&self, address: &str) -> Result<Arc<dyn Store>, Failure> {
        let address: millstream_etcd::Address =
            address.parse().map_err(|error| Failure::usage(format!("--store: {error}")))?;
        let store = millstream_etcd::EtcdStore::open(&address, &self.access()?).await;
        Ok(Arc::new(store.map_err(|error| Failure::failed(error.to_string()))?))
    }

    #[cfg(feature = "etcd")]
    fn access(&self) -> anyhow::Result<millstream_etcd::Access> {
        use anyhow::Context as _;

        const MAX_FILE_BYTES: u64 = 64 << 10;
        let read = |what: &str, file: &Option<PathBuf>| {
            let file = file.as_ref();
            file.map(|file| crate::input::read_text(what, file, MAX_FILE_BYTES)).transpose()
        };
        let authority = read("the certificate of etcd's authority", &self.store_ca)?;
        let certificate = read("the certificate for etcd", &self.store_cert)?;
        let key = read("the key for etcd", &self.store_key)?;
        let user = read("the file of etcd's user", &self.store_user_file)?;
        let user = user.map(|text| {
            let (name, password) =
                text.trim().split_once(':').context("--store-user-file holds USER:PASSWORD")?;
            anyhow::Ok((name.to_owned(), password.to_owned()))
        });
        let identity = certificate.zip(key).map(|(certificate, key)| millstream_etcd::Identity {
            certificate: certificate.into_bytes(),
            key: key.into_bytes(),
        });
        Ok(millstream_etcd::Access {
            authority: authority.map(String::into_bytes),
            identity,
            user: user.transpose()?,
        })
    }
}
