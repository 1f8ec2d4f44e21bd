//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod cli; // the command line, and what --help says
pub mod config; // every setting, checked once before anything starts
pub mod exit; // what the exit code tells a supervisor
pub mod logging; // one line an event; a full log disk stops nothing
pub mod clock; // time as a value: monotonic decides, wall is for people
pub mod http; // the edge: who calls, how often, and what a body is before it is JSON
