//! Ctrl-C while waiting: the task goes on, and the person learns how to come back to it.

use super::tell;
use crate::exit;
use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT says `farewell` and ends the process.
pub fn say_on_interrupt(farewell: String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Without them Ctrl-C ends the process all the same, only without a word.
    let Ok(runtime) = runtime else { return };
    let interrupts = runtime.block_on(async { signal(SignalKind::interrupt()) });
    let Ok(mut interrupts) = interrupts else { return };
    std::thread::spawn(move || {
        if runtime.block_on(interrupts.recv()).is_some() {
            tell(farewell);
            std::process::exit(exit::INTERRUPTED.into());
        }
    });
}
