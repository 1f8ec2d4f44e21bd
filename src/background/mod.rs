//! Duties beside the requests, each a `run_once` and a loop that waits for work, never for time alone.
//!
//! Not here: the reaper, which is the writer's own next deadline (`engine::core`).

pub mod compaction;
pub mod connection;
pub mod mover;
pub mod probes;
pub mod push;
pub mod retention;
pub mod strays;
pub mod sync;
pub mod uploads;
