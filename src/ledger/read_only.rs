//! Owns the look at a ledger from outside: its totals, without writing and without a lock. Refuses to know
//! whether a gateway runs.

use std::path::Path;

use super::fold::Folder;
use super::keeper::{Keeper, STORE_EVERY};
use super::query::{KeyTotal, UsageQuery, UsageRow};
use super::view::View;
use super::{LedgerError, snapshot};
use crate::store::Store;

/// The ledger's totals without a gateway: from the snapshot and the journal, without writing and
/// without a lock, so also beside a running one.
pub struct ReadOnlyLedger {
    view: View,
}

/// Reads the ledger in `directory`.
pub fn read_only(directory: &Path) -> Result<ReadOnlyLedger, LedgerError> {
    /// A gateway writes a snapshot every ten seconds at most; losing this race thrice is no race.
    const ATTEMPTS: u32 = 3;
    let journal = directory.join("journal");
    std::fs::metadata(&journal)?;
    let mut attempt = 1;
    loop {
        // If the snapshot changes meanwhile, segments may be gone before they were read.
        let before = snapshot::stamp(directory);
        let view = Keeper::new(directory, STORE_EVERY).follow()?.unwrap_or_default();
        let mut folder = Folder::new(view, &journal);
        let mut plan = folder.plan(&[])?;
        while !folder.step(&mut plan, &mut || {})? {}
        if snapshot::stamp(directory) == before || attempt == ATTEMPTS {
            return Ok(ReadOnlyLedger { view: folder.view });
        }
        attempt += 1;
    }
}

/// Opens the store in `directory`, a copy that may be changed, and gives the number of records in its totals.
///
/// # Errors
/// Why it cannot be used.
pub fn try_store(directory: &Path) -> Result<u64, String> {
    let rows = Store::open(directory).and_then(|store| store.rows()).map_err(|e| e.to_string())?;
    let view = View::from_rows(rows).map_err(|bad| format!("the store is damaged: {}", bad.0))?;
    Ok(view.map_or(0, |view| view.meta.folded))
}

impl ReadOnlyLedger {
    /// The rows that answer `query`.
    pub fn usage(&self, query: &UsageQuery) -> Vec<UsageRow> {
        self.view.usage(query)
    }

    /// Damaged parts of the journal, ever.
    pub fn corrupt_records(&self) -> u64 {
        self.view.meta.corrupt
    }

    /// The figures of every key over all time, by the key's id.
    pub fn key_totals(&self) -> Vec<KeyTotal> {
        self.view.key_totals()
    }
}
