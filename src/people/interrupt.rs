//! Ctrl-C while waiting: the task goes on, and the person learns how to come back to it.

use super::tell;
use crate::exit;

/// From now on SIGINT says `farewell` and ends the process.
pub fn say_on_interrupt(farewell: String) {
    let listening = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Without it Ctrl-C ends the process all the same, only without a word.
    let Ok(runtime) = listening else { return };
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            tell(farewell);
            std::process::exit(exit::INTERRUPTED.into());
        }
    });
}
