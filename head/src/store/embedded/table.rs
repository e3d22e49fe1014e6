//! What the embedded store's file holds, read and written: plain functions of a database.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::store::{Change, Entry, Error, Expected, LeaseId, Listing, Txn, Version};

/// Key to version (8 bytes), lease (8 bytes, 0 for none) and value.
pub(super) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// `version`: the last commit; `format`: of this file.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Bytes before a value.
const HEADER: usize = 16;

/// How work on the database ended early.
pub(super) enum Failed {
    /// The database failed, before anything was written.
    Database(redb::Error),
    /// The database failed while it wrote this version.
    Writing(Version, redb::Error),
    /// The work was refused; the database is fine.
    Refused(Error),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// A commit that was written.
pub(super) struct Written {
    pub(super) version: Version,
    /// What it changed, in the order in which it was written.
    pub(super) changes: Vec<Change>,
}

/// The last commit.
pub(super) fn read_version(database: &Database) -> Result<Version, Failed> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("version")?.map_or(0, |version| version.value()))
}

pub(super) fn read_key(database: &Database, key: &str) -> Result<Option<Entry>, Failed> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let Some(row) = table.get(key)? else { return Ok(None) };
    let row = Row::decode(row.value())?;
    Ok(Some(Entry { key: key.to_owned(), value: row.value.to_vec(), version: row.version }))
}

/// All keys under some prefixes.
pub(super) fn read_prefixes(database: &Database, prefixes: &[String]) -> Result<Listing, Failed> {
    let transaction = database.begin_read()?;
    let version = transaction.open_table(META)?.get("version")?.map_or(0, |version| version.value());
    let table = transaction.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    for prefix in prefixes {
        for entry in table.range(prefix.as_str()..)? {
            let (key, row) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let row = Row::decode(row.value())?;
            entries.push(Entry {
                key: key.value().to_owned(),
                value: row.value.to_vec(),
                version: row.version,
            });
        }
    }
    entries.sort_unstable_by(|a: &Entry, b| a.key.cmp(&b.key));
    entries.dedup_by(|a, b| a.key == b.key);
    Ok(Listing { entries, version })
}

/// One transaction: checks every expectation, then writes.
pub(super) fn write(database: &Database, txn: &Txn) -> Result<Written, Failed> {
    transact(database, |entries, version| {
        let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expected));
        let writes = txn.writes.iter().map(|write| (&write.key, write.expected));
        for (key, expected) in guards.chain(writes) {
            let row = entries.get(key.as_str())?;
            let there = row.map(|row| Row::decode(row.value()).map(|row| row.version)).transpose()?;
            let holds = match expected {
                Expected::Absent => there.is_none(),
                Expected::Version(version) => there == Some(version),
                Expected::Any => true,
            };
            if !holds {
                return Err(Failed::Refused(Error::Conflict { key: key.clone() }));
            }
        }
        let mut changes = Vec::with_capacity(txn.writes.len());
        for write in &txn.writes {
            match &write.value {
                Some(value) => {
                    let row = Row { version, lease: write.lease, value }.encode();
                    entries.insert(write.key.as_str(), row.as_slice())?;
                }
                None if entries.remove(write.key.as_str())?.is_none() => continue,
                None => {}
            }
            changes.push(Change { key: write.key.clone(), value: write.value.clone() });
        }
        Ok(changes)
    })
}

/// One transaction: deletes the keys of the leases that `ended` names, as they are bound now.
pub(super) fn delete_leased(
    database: &Database,
    ended: impl Fn(LeaseId) -> bool,
) -> Result<Option<Written>, Failed> {
    let written = transact(database, |entries, _| {
        let mut changes = Vec::new();
        for entry in entries.iter()? {
            let (key, row) = entry?;
            if Row::decode(row.value())?.lease.is_some_and(&ended) {
                changes.push(Change { key: key.value().to_owned(), value: None });
            }
        }
        for change in &changes {
            entries.remove(change.key.as_str())?;
        }
        Ok(changes)
    })?;
    Ok(Some(written).filter(|written| !written.changes.is_empty()))
}

type Entries<'txn> = redb::Table<'txn, &'static str, &'static [u8]>;

/// Runs `work` in the transaction of the next version.
fn transact(
    database: &Database,
    work: impl FnOnce(&mut Entries<'_>, Version) -> Result<Vec<Change>, Failed>,
) -> Result<Written, Failed> {
    let mut transaction = database.begin_write()?;
    // A crash can then never be repaired by going back to the commit before.
    transaction.set_two_phase_commit(true);
    let version;
    let changes;
    {
        let mut meta = transaction.open_table(META)?;
        version = meta.get("version")?.map_or(0, |version| version.value()) + 1;
        meta.insert("version", version)?;
        changes = work(&mut transaction.open_table(ENTRIES)?, version)?;
    }
    transaction.commit().map_err(|error| Failed::Writing(version, error.into()))?;
    Ok(Written { version, changes })
}

/// A value as it is stored.
struct Row<'a> {
    version: Version,
    lease: Option<LeaseId>,
    value: &'a [u8],
}

impl<'a> Row<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(HEADER + self.value.len());
        row.extend_from_slice(&self.version.to_le_bytes());
        row.extend_from_slice(&self.lease.map_or(0, |lease| lease.0).to_le_bytes());
        row.extend_from_slice(self.value);
        row
    }

    fn decode(row: &'a [u8]) -> Result<Self, Failed> {
        let short = || Failed::Database(redb::Error::Corrupted("an entry is too short".into()));
        let (version, rest) = row.split_first_chunk().ok_or_else(short)?;
        let (lease, value) = rest.split_first_chunk().ok_or_else(short)?;
        let lease = Some(u64::from_le_bytes(*lease)).filter(|lease| *lease > 0).map(LeaseId);
        Ok(Self { version: u64::from_le_bytes(*version), lease, value })
    }
}
