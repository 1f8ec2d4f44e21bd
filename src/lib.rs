//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod clock;
pub mod domain;
pub mod engine; // one writer: commands, group commit, answers; reads beside it
pub mod store; // the only one that knows redb: a hot file, an archive, commits and snapshots // the rules, pure: which change follows which command // time as a value: monotonic decides, wall is for people
