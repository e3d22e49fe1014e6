//! A commit as etcd's transaction: compares, then writes; or else it is read which compare failed.

use etcd_client::{
    Compare, CompareOp, GetOptions, PutOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse,
};
use millstream_head::store::{Error, Expected, Txn, Version};

/// The transaction of a commit whose keys are below `prefix`.
pub(crate) fn transaction(txn: &Txn, prefix: &str) -> EtcdTxn {
    let (mut compares, mut reads) = (Vec::new(), Vec::new());
    for (key, expected) in expectations(txn) {
        let key = format!("{prefix}{key}");
        reads.push(TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only())));
        match expected {
            Expected::Any => {}
            Expected::Absent => compares.push(Compare::create_revision(key, CompareOp::Equal, 0)),
            Expected::Version(version) => {
                // A version that etcd cannot have fits no key.
                let revision =
                    i64::try_from(version).ok().filter(|revision| *revision > 0).unwrap_or(i64::MAX);
                compares.push(Compare::mod_revision(key, CompareOp::Equal, revision));
            }
        }
    }
    let write = |write: &millstream_head::store::Write| {
        let key = format!("{prefix}{}", write.key);
        let Some(value) = &write.value else { return TxnOp::delete(key, None) };
        let lease = write.lease.map(|lease| PutOptions::new().with_lease(lease.0.cast_signed()));
        TxnOp::put(key, value.as_slice(), lease)
    };
    let writes: Vec<_> = txn.writes.iter().map(write).collect();
    EtcdTxn::new().when(compares).and_then(writes).or_else(reads)
}

/// What came of it: the store's version after it, or the first expectation that failed.
pub(crate) fn outcome(txn: &Txn, response: &TxnResponse) -> Result<Version, Error> {
    if response.succeeded() {
        return Ok(version(response.header().map_or(0, etcd_client::ResponseHeader::revision)));
    }
    let found = response.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(read) => read.kvs().first().map(|entry| version(entry.mod_revision())),
        _ => None,
    });
    let failed = expectations(txn).zip(found).find(|((_, expected), found)| match expected {
        Expected::Any => false,
        Expected::Absent => found.is_some(),
        Expected::Version(version) => *found != Some(*version),
    });
    match failed {
        Some(((key, _), _)) => Err(Error::Conflict { key: key.to_owned() }),
        None => Err(Error::Unknown("etcd refused a commit whose expectations hold".into())),
    }
}

/// etcd counts revisions from 1.
pub(crate) fn version(revision: i64) -> Version {
    Version::try_from(revision).unwrap_or_default()
}

/// What is expected of which key; guards come before writes.
fn expectations(txn: &Txn) -> impl Iterator<Item = (&str, Expected)> {
    let guards = txn.guards.iter().map(|guard| (guard.key.as_str(), guard.expected));
    guards.chain(txn.writes.iter().map(|write| (write.key.as_str(), write.expected)))
}
