//! The only module that knows redb: two files, their tables, commits and snapshots.
//!
//! `hot.redb` holds what lives (and what finished a moment ago) and takes every transition in one
//! durable commit; `archive.redb` holds what has finished and is written in rare batches. A task
//! that stands in both is the hot one. Must stay true: a commit that returned is on disk (P1); the
//! archive's commit comes before the removal from the hot file, so a reader who looks into the hot
//! file first and the archive second finds every task (`DESIGN §5`). Not here: rules about tasks.

mod archive;
mod compact;
mod doctor;
mod error;
mod files;
mod hot;
mod keep;
mod keys;
mod listed;
mod look;
mod migrate;
mod objects;
mod open;
mod overlay;
mod place;
mod replace;
mod retention;
mod schema;
mod slot;
mod trail;

pub use archive::{Archive, Copied};
pub use compact::{Compacted, compact, compact_database};
pub use doctor::{Contents, Findings, InFile, Problem, ProblemKind};
pub use error::StoreError;
pub use files::{Arriving, Folder, Kept, NotKept, hexadecimal};
pub use hot::{Hot, HotChanges, JournalKey};
pub use keys::KeyedTask;
pub use look::{Looked, Lying};
pub use migrate::{migrate, migrate_in_steps};
pub use objects::{ObjectRules, Upload, UploadSource, WaitingUpload};
pub use open::{Limits, Opened, Store};
pub use retention::DueTask;
pub use schema::{
    AuditEntry, AuditRemoved, Counters, JournalRecord, OutcomeFacts, Removing, Settings,
    StoredWorker,
};
