//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod client; // a small blocking HTTP client for our own API
pub mod clock; // time as a value: monotonic decides, wall is for people
pub mod worker; // the process on a fleet machine: claims tasks, runs Claude CLI on them
