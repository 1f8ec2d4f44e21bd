//! Every table of both files: its key, its value, and why it is there.
//!
//! Records are JSON: readable with any tool, tolerant of added fields, and as fast here as a binary
//! form. Must stay true: keys grow with insertion (a third less is written than with random keys);
//! a transition rewrites no prompt of more than `SMALL_PART_BYTES`. A change of a
//! table's meaning raises `FORMAT`. Not here: rules about what a record may say.

use crate::domain::{ArtifactId, AuditId, CompletionStatus, Metrics, Task, TaskStatus, Worker};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the layout below, stored in both files under `META_FORMAT`. Format 1 had no
/// `TASKS_BY_AGE` and no `META_REMOVING`; format 2 had no `KEYS`, and its records knew nothing of leases
/// handed back and of tries again, which a program of its time cannot read; format 3 knew no files of
/// tasks and nothing of S3.
pub const FORMAT: u64 = 4;

/// Both files. What concerns the file itself: format version, settings.
pub const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub const META_FORMAT: &str = "format";
pub const META_SETTINGS: &str = "settings";
/// Hot file: `domain::Sessions`. It holds a secret.
pub const META_SESSIONS: &str = "sessions";
/// Hot file: the `Removing` note, written by the commit that lowers the counts. It stays until the
/// next removal replaces it; what it names is never given out again, so an old one is harmless.
pub const META_REMOVING: &str = "removing";
/// Hot file: the store's age at an orderly stop, where that is later than the newest journal
/// record's: a store that is idle has aged without writing.
pub const META_AGE: &str = "age_ms";
/// Archive, while it is migrated from format 1: the row of `TASKS_BY_STATUS` that was done last.
pub const META_MIGRATED: &str = "migrated";

/// Archive: what of the audit trail is over (`AuditRemoved`), in the commit that removes it.
pub const META_AUDIT_REMOVED: &str = "audit_removed";

/// Hot file. (task sequence, part) → the task's live record, its small parts, and the journal.
///
/// `PART_TASK` is the `domain::Task` that transitions rewrite, `PART_SPEC` the `TaskSpec`, written
/// once, `part_of_outcome(fence)` the `Outcome` under that lease, `part_of_file(seq)` a `ReturnedFile`,
/// which does not come back with a task that a person requeues. A commit's `JournalRecord` stands
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

/// The part that holds what a worker returned as the artifact with this sequence. Fences are below 2³².
pub fn part_of_file(artifact: u64) -> u64 {
    FILES + artifact
}

pub const FILES: u64 = 1 << 40;

/// Archive. Task sequence → `ArchivedTask`.
pub const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");

/// Archive. (task sequence, part) → spec and outcomes, numbered as in the hot file.
pub const PARTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("parts");

/// Hot file. Worker id → `StoredWorker`. Few, and changed by registrations only.
pub const WORKERS: TableDefinition<&str, &[u8]> = TableDefinition::new("workers");

/// Hot file. Idempotency key → sequence of the task that was created under it last. Keys come in no
/// order, so each one writes a leaf of its own; nothing is written for a task without one.
pub const KEYS: TableDefinition<&str, u64> = TableDefinition::new("keys");

/// Hot file. Task sequence → (the store's age at its creation, its idempotency key): the same the other
/// way round, the oldest first, so that old keys are found without looking for them.
pub const KEYS_BY_TASK: TableDefinition<u64, (u64, &str)> = TableDefinition::new("keys_by_task");

/// Archive. (status, task sequence): the filtered lists of tasks. Live statuses need no such
/// table, their lists come from memory.
pub const TASKS_BY_STATUS: TableDefinition<(u8, u64), ()> = TableDefinition::new("tasks_by_status");

/// Archive. (status, the store's age when the task came here, task sequence): what retention finds due,
/// oldest first within a status. The record repeats its age, so that exactly this row goes when a
/// newer copy takes its place.
pub const TASKS_BY_AGE: TableDefinition<(u8, u64, u64), ()> = TableDefinition::new("tasks_by_age");

/// Archive. (lease status, lease sequence) → task sequence: the lists of leases, whose records
/// stand in their tasks.
pub const LEASES: TableDefinition<(u8, u64), u64> = TableDefinition::new("leases");

/// Archive. Outcome sequence → (task sequence, fence): artifacts by id and their list. A returned file
/// has the fence 0, which no lease has.
pub const OUTCOMES: TableDefinition<u64, (u64, u32)> = TableDefinition::new("outcomes");

/// Archive. Outcome sequence → (task sequence, part): artifacts whose content is to go to S3. A row is
/// written with the part and goes in the commit that notes where the content lies.
pub const UPLOADS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("uploads");

/// Archive. (bucket, key) of objects in S3 whose tasks retention has removed.
pub const DELETIONS: TableDefinition<(&str, &str), ()> = TableDefinition::new("deletions");

/// Archive. Change sequence → `AuditEntry`, out of the journal's older records.
pub const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// Archive. The store's age at the end of an hour of service → the newest change whose entry came here
/// within it: that one and all before it are no younger. What `AUDIT_RETENTION_DAYS` finds due; entries
/// have no age of their own but the wall clock's. An archive that is older than this table has none
/// until the next entry comes.
pub const AUDIT_AGES: TableDefinition<u64, u64> = TableDefinition::new("audit_ages");

/// A task in the archive, which is read as a `Task` by whoever needs no more.
#[derive(Serialize)]
pub struct ArchivedTask<'a> {
    #[serde(flatten)]
    pub task: &'a Task,
    /// The store's age when it came here.
    pub archived_age_ms: u64,
}

/// What retention needs of an archived task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct ArchivedFacts {
    pub status: TaskStatus,
    /// Leases that it ever had.
    pub grants: u32,
    /// Records of format 1 have none and stand at age 0, which is the moment of their migration.
    #[serde(default)]
    pub archived_age_ms: u64,
}

/// What is told of an attempt: its outcome without what it put out, which may be large.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct OutcomeFacts {
    pub artifact_id: ArtifactId,
    pub status: CompletionStatus,
    pub error_message: Option<String>,
    #[serde(default)]
    pub code: Option<String>,
    pub metrics: Metrics,
}

/// The tasks whose removal has begun: they are gone for every reader, and uncounted, from the commit
/// that writes this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removing {
    pub tasks: Vec<u64>,
}

/// The audit entries that are over, by what they told of, so that the others still add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRemoved {
    /// The newest change whose entry was removed; the trail begins after it.
    pub through: u64,
    pub entries: u64,
    pub created: u64,
    pub leased: u64,
    /// Outcomes and returned files.
    pub artifacts: u64,
}

/// The last sequence given out of each kind, none of which is ever used twice, and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub last_task: u64,
    pub last_lease: u64,
    pub last_outcome: u64,
    pub last_change: u64,
    /// Tasks of both files by status, in the order of `TaskStatus::ALL`.
    pub tasks_by_status: [u64; 7],
    /// How long this store has been served so far, on monotonic time: the only age that a machine
    /// without a clock battery knows (P4).
    #[serde(default)]
    pub age_ms: u64,
    /// Leases that went with their tasks; the others of `last_lease` are there.
    #[serde(default)]
    pub removed_leases: u64,
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
