//! Versions of route tables, in order across restarts of the head.

use std::fmt;

use serde::Serialize;

/// Which of two tables is the newer one: that of the later term, and within a term the one with the larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct TableVersion {
    /// The term in which the table was made; 0 before the first one.
    pub epoch: u64,
    /// Counts the tables of a term, from 1.
    pub number: u64,
}

impl TableVersion {
    /// The version of the next table.
    pub(crate) fn next(self, epoch: u64) -> Self {
        let number = if epoch > self.epoch { 0 } else { self.number };
        Self { epoch: epoch.max(self.epoch), number: number + 1 }
    }
}

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.number, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_term_is_newer_than_any_table_of_the_one_before() {
        let first = TableVersion::default().next(3);
        assert_eq!(first, TableVersion { epoch: 3, number: 1 });
        assert_eq!(first.next(3), TableVersion { epoch: 3, number: 2 });
        let huge = TableVersion { epoch: 3, number: u64::from(u32::MAX) + 7 };
        assert_eq!(huge.next(u64::MAX), TableVersion { epoch: u64::MAX, number: 1 });
        assert!(TableVersion::default() < first && huge < huge.next(3) && huge.next(3) < huge.next(4));
        assert_eq!(first.to_string(), "1 of epoch 3");
    }
}
