//! What comes from outside, as bytes that nobody would write: each reader of them says what is wrong or
//! gives something valid, never panics, and reads back what it wrote.
//!
//! Short in `cargo test`; `sh tests/fuzz.sh` runs it at length. Each test mutates the seeds of
//! `corpus/`; what failed once is a seed there, and proptest keeps the rest in `found/`. Not here: the
//! server over sockets (`tests/integration/hostile/random.rs`).
#![allow(clippy::disallowed_methods, reason = "the number of cases is a matter of the environment")]

mod bodies;
mod edge;
mod records;
mod seeds;
mod settings;
