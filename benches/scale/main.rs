//! The scale program: what the release binary does beside 100,000 live and 1,000,000 finished tasks,
//! with the budgets of the design beside the figures.
//!
//! `cargo bench --bench scale -- [--short] [--finished N] [--live N] [--seconds N] [--rounds N]
//! [--workers N] [--listeners N] [--idle-seconds N] [--dir DIR] [--program PATH] [--keep]
//! [--only starts,beside,reading,idle,retention]` builds such a store in DIR (`build`), then starts the
//! binary on it and drives it over loopback. Counts are checked after each step; nothing fails on an
//! absolute time. `--keep` leaves the store, and takes one that is there; `--only build` builds it. Not
//! here: the cycle at rest (`benches/load`).
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod build;
mod cold;
#[path = "../load/cycle.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod cycle;
#[path = "../load/drive.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod drive;
#[path = "../load/figures.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod figures;
mod idle;
mod lists;
mod options;
mod phases;
mod removal;
#[path = "../load/server.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod server;
mod table;
#[path = "../load/wire.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod wire;

use figures::print_disk;
use options::Options;
use std::time::Duration;

fn main() {
    let options = Options::from_args();
    let dir = options.dir.join(format!("bloom-scale-{}-{}", options.finished, options.live));
    let calibration = Duration::from_secs_f64(options.seconds.min(2.0));
    std::fs::create_dir_all(&dir).expect("a writable folder");
    print_disk("before", &dir, calibration);
    phases::build(&options, &dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("epoll").block_on(async {
        if options.wants("starts") {
            phases::starts(&options, &dir).await;
        }
        if options.wants("beside") {
            phases::beside(&options, &dir).await;
        }
        if options.wants("reading") {
            phases::reading(&options, &dir).await;
        }
        if options.wants("idle") {
            phases::idle(&options, &dir).await;
        }
        if options.wants("retention") {
            removal::run(&options, &dir).await;
        }
    });
    print_disk("after", &dir, calibration);
    if !options.keep {
        std::fs::remove_dir_all(&dir).ok();
    }
}
