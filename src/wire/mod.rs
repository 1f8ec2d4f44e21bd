//! The wire: JSON bodies decoded into commands, records encoded as `CONTRACT §2` shows them.
//!
//! Must stay true: every message of a failed validation is the contract's, letter by letter; what has
//! been decoded is valid. Not here: HTTP, rules about tasks, storage.

mod artifacts;
mod bulk;
mod decode;
mod encode;
mod explain;
mod fields;
mod membridge;
mod retention;

pub use artifacts::{artifact, objects};
pub use bulk::{changed_many, many};
pub use decode::{
    ClaimFields, Config, claim, complete, config, hand_back, lease, lease_claim, log_lines,
    named_lease, new_task, registration, sign_in, worker_choice,
};
pub use encode::{
    claimed, completed, granted, heartbeat, lease_view, log, log_line, result_record, stats,
    storage_state, task, worker, worker_with_leases,
};
pub use explain::{attempts, waiting};
pub use fields::{Fields, Invalid, Payload};
pub use membridge::{Agents, Selection, agents, leadership, selection};
pub use retention::retention;
