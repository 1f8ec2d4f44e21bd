//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod clock;
pub mod domain; // the rules, pure: which change follows which command // time as a value: monotonic decides, wall is for people
