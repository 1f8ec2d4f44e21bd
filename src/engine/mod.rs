//! One writer: commands go in, one durable commit holds a batch of them, answers come out.
//!
//! Must stay true: nobody is answered before the commit that holds the answer (P1); a refused command
//! harms no neighbour; what readers see changes only after the commit (P6). Reads go beside the
//! writer, through snapshots (`query`). Not here: HTTP, the JSON of the wire, rules about tasks.

mod agents;
mod artifacts;
mod batch;
mod bulk;
mod command;
mod core;
mod deadlines;
mod events;
mod explain;
mod last_hour;
mod later;
mod logs;
mod page;
mod query;
mod ready;
mod retention;
mod selection;
mod thread;
mod visible;
mod waiting;
mod workers;

#[cfg(test)]
mod tests;

pub use agents::AgentLimits;
pub use artifacts::Artifact;
pub use bulk::Bulk;
pub use command::{
    ByHand, Changed, ClaimAnswer, Command, Completed, ConfigChange, LeaseAnswer, LeaseView,
    NewLease, Reply, TaskView, WorkerChoice, WorkerView,
};
pub use core::{Core, RandomIds, system_random};
pub use events::{Event, Events, Missed};
pub use explain::{Attempt, WaitReason, Waiting, WorkerWait};
pub use last_hour::LastHour;
pub use logs::{Follower, LINES_KEPT, LogLine, Tail, TaskLogs};
pub use page::Page;
pub use query::{Query, Stats};
pub use retention::{AuditOutlook, OUTLOOK_MOST, Outlook, Retention, StatusOutlook};
pub use selection::{AuditSelection, Selection};
pub use thread::{Engine, EngineThread, start};
pub use visible::Backlog;

pub use crate::store::{
    Arriving, Compacted, DueTask, Folder, Kept, NotKept, ObjectRules, Settings, Upload,
    UploadSource, WaitingUpload, hexadecimal,
};

use crate::domain::Refusal;
use std::fmt;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The rules turn it down; nothing was changed.
    Refused(Refusal),
    /// The writer's queue is full; nothing was changed, try again.
    Busy,
    /// The server is stopping; nothing was changed.
    Stopping,
    /// The disk takes no writes; nothing was changed, try again after that many seconds.
    NotWritten { why: NotWritten, retry_seconds: u64 },
    /// The commit failed, and whether the change is on disk can only be seen later.
    OutcomeUnknown(String),
    /// The store could not be read; nothing was changed.
    Store(String),
}

/// What keeps the disk from taking writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    DiskFull,
    ReadOnly,
    Failing,
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        EngineError::Refused(refusal)
    }
}

impl From<crate::store::StoreError> for EngineError {
    fn from(error: crate::store::StoreError) -> Self {
        EngineError::Store(error.to_string())
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Refused(refusal) => write!(f, "refused: {refusal:?}"),
            EngineError::Busy => f.write_str("the writer's queue is full"),
            EngineError::Stopping => f.write_str("the server is stopping"),
            EngineError::NotWritten { why, .. } => write!(f, "nothing was written: {why:?}"),
            EngineError::OutcomeUnknown(why) => write!(f, "the commit failed: {why}"),
            EngineError::Store(why) => write!(f, "the store cannot be read: {why}"),
        }
    }
}

impl std::error::Error for EngineError {}
