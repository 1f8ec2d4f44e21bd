//! Tests of the real program over its real door: each starts the binary on port 0 and speaks HTTP.
//!
//! What must stay true: a test waits for an event or an answer, never for time to pass by luck; a
//! name is a sentence; every server dies with its test. Not here: rules (table-tested in
//! `src/domain`) and power loss (simulated behind redb's `StorageBackend`).
#![allow(clippy::disallowed_methods, reason = "tests own real time and real processes")]

mod artifacts;
mod bulk;
mod chaos;
#[path = "../standin/agent.rs"]
mod agent;
mod compaction;
mod concurrency;
mod contract;
mod crash;
mod disk;
mod doctor;
mod events;
mod fencing;
mod fleet;
mod harness;
mod hostile;
mod http;
mod keys;
mod log;
mod main_job;
mod membridge;
#[path = "../standin/membridge.rs"]
mod membridge_standin;
#[path = "../standin/messages.rs"]
mod messages;
mod operations;
mod page;
mod people;
mod probes;
mod push;
mod recorded;
mod reload;
mod retention;
mod s3;
mod steps;
mod tidy;
mod tls;
mod trouble;
mod waiting;
mod worker;
