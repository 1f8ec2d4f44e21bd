//! bloom-runtime: a durable queue of LLM tasks with fenced leases, for a fleet running Claude CLI.
//!
//! Modules in the order the data takes them; `docs/ARCHITECTURE.md` tells the way in prose.
#![forbid(unsafe_code)]

pub mod cli; // the command line, and what --help says
pub mod config; // every setting, checked once before anything starts
pub mod exit; // what the exit code tells a supervisor
pub mod logging; // one line an event; a full log disk stops nothing
pub mod run; // a server from its configuration to its stop
pub mod compaction; // gives the space of removed records back, offline
pub mod doctor; // examines both files, offline, and says what is wrong
pub mod server; // the sockets: accepting, limits, a stop that loses nobody
pub mod http; // the edge: who calls, how often, what a body is, which route it means
pub mod wire; // JSON in and out, as the contract shows it
pub mod api; // route → command or query → answer; handlers of three lines
pub mod membridge; // the connection to the Membridge control plane
pub mod membridge_agent; // today's agents in the field, as they are called
pub mod outgoing; // the one way out: dial, TLS, one HTTP/1.1 connection
pub mod artifacts; // artifacts in S3, and the record of who leads a project there
pub mod tls; // what TLS in both directions has in common
pub mod engine; // one writer: commands, group commit, answers; reads beside it
pub mod domain; // the rules, pure: which change follows which command
pub mod store; // the only one that knows redb: a hot file, an archive, commits and snapshots
pub mod background; // duties beside the requests: the mover to the archive
pub mod clock; // time as a value: monotonic decides, wall is for people
pub mod worker; // on a fleet machine: claims tasks and runs Claude CLI on them
pub mod people; // the commands for people: submit, tasks, workers and so on
pub mod client; // blocking HTTP to our own API, for the worker and for people
