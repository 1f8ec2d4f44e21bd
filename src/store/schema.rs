//! Every table of both files: its key, its value, and why it is there.
//!
//! Records are JSON: readable with any tool, tolerant of added fields, and as fast here as a binary
//! form. Must stay true: keys grow with insertion (a third less is written than with random keys);
//! a transition rewrites no prompt of more than `SMALL_PART_BYTES`. A change of a
//! table's meaning raises `FORMAT`. Not here: rules about what a record may say.

use crate::domain::{AuditId, Worker};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the layout below, stored in both files under `META_FORMAT`.
pub const FORMAT: u64 = 1;

/// Both files. What concerns the file itself: format version, settings.
pub const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub const META_FORMAT: &str = "format";
pub const META_SETTINGS: &str = "settings";

/// Hot file. (task sequence, part) → the task's live record, its small parts, and the journal.
///
/// `PART_TASK` is the `domain::Task` that transitions rewrite, `PART_SPEC` the `TaskSpec`, written
/// once, `part_of_outcome(fence)` the `Outcome` under that lease. A commit's `JournalRecord` stands
/// behind the task that was newest then, under `JOURNAL` + its first change sequence, so that what
/// grows grows in one place: a lone transition rewrites one leaf, not one in each of three tables
/// (`docs/decisions/0003`).
pub const HOT: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("hot");
pub const PART_TASK: u64 = 0;
pub const PART_SPEC: u64 = 1;
pub const JOURNAL: u64 = 1 << 63;

/// Hot file. Parts above `SMALL_PART_BYTES`, apart so that no transition rewrites them.
pub const LARGE: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("large");
pub const SMALL_PART_BYTES: usize = 1_024;

/// The part that holds what was completed under the lease with this fence.
pub fn part_of_outcome(fence: u32) -> u64 {
    PART_SPEC + u64::from(fence)
}

/// Archive. Task sequence → `domain::Task`.
pub const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");

/// Archive. (task sequence, part) → spec and outcomes, numbered as in the hot file.
pub const PARTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("parts");

/// Hot file. Worker id → `StoredWorker`. Few, and changed by registrations only.
pub const WORKERS: TableDefinition<&str, &[u8]> = TableDefinition::new("workers");

/// Archive. (status, task sequence): the filtered lists of tasks. Live statuses need no such
/// table, their lists come from memory.
pub const TASKS_BY_STATUS: TableDefinition<(u8, u64), ()> = TableDefinition::new("tasks_by_status");

/// Archive. (lease status, lease sequence) → task sequence: the lists of leases, whose records
/// stand in their tasks.
pub const LEASES: TableDefinition<(u8, u64), u64> = TableDefinition::new("leases");

/// Archive. Outcome sequence → (task sequence, fence): artifacts by id and their list.
pub const OUTCOMES: TableDefinition<u64, (u64, u32)> = TableDefinition::new("outcomes");

/// Archive. Change sequence → `AuditEntry`, out of the journal's older records.
pub const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// The last sequence given out of each kind; none is ever used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub last_task: u64,
    pub last_lease: u64,
    pub last_outcome: u64,
    pub last_change: u64,
    /// Tasks of both files by status, in the order of `TaskStatus::ALL`.
    pub tasks_by_status: [u64; 7],
}

/// What one commit leaves besides the records it changed. The newest one holds the truth about
/// sequences and counts, so it never leaves the hot file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    pub counters: Counters,
    /// One per change, in order; None where a change leaves no audit entry.
    pub changes: Vec<Option<AuditEntry>>,
}

/// An entry of the audit trail (`CONTRACT §2`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: AuditId,
    pub timestamp: i64,
    pub action: String,
    pub entity_type: String,
    pub entity_id: String,
    pub actor: String,
    pub detail: String,
}

/// A worker with the last sign of life that was written; newer ones are memory (P8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWorker {
    pub worker: Worker,
    pub last_heartbeat: Option<i64>,
}

/// What the operator saved over the environment. The key is a secret (P10): its file is 0600, and
/// it has no place in any text, not even a debug one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub membridge_server_url: Option<String>,
    pub membridge_admin_key: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("membridge_server_url", &self.membridge_server_url)
            .finish_non_exhaustive()
    }
}
