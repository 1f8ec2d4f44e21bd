//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod client; // a small blocking HTTP client for our own API
pub mod clock; // time as a value: monotonic decides, wall is for people
pub mod domain; // the rules, pure: which change follows which command
pub mod engine; // one writer: commands, group commit, answers; reads beside it
pub mod store; // the only one that knows redb: a hot file, an archive, commits and snapshots
pub mod worker; // the process on a fleet machine: claims tasks, runs Claude CLI on them
