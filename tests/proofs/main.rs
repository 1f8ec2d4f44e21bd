//! The proofs: the real engine and the real store on simulated disks and clocks.
//!
//! What must stay true: nothing here reads a clock or draws randomness but from a seed, so a run can be
//! repeated byte for byte. Each proof has a short form, which `cargo test` runs, and a long one, which
//! `tests/proofs.sh` runs. Not here: the real program over real sockets (`tests/integration`).

mod disk;
mod faults;
mod power_loss;
mod simulation;
