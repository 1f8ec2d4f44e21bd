//! The binary: reads the command line, does the one thing that was asked, and ends with a code that
//! tells a supervisor why (`exit`). It also chooses the allocator.
//!
//! Must stay true: the only `unsafe` of the project is the one line below that sets up that allocator.
//! Not here: anything that a test would want to call.

use bloom_runtime::cli::{self, Command};
use bloom_runtime::{compaction, doctor, people, run};
use std::ffi::{c_int, c_long};
use std::io::Write;
use std::process::ExitCode;

/// musl's own has one lock for all threads, at half the speed (docs/decisions/0012).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds that free memory waits before the kernel gets it back; its number in `mi_option_e`.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    // SAFETY: it stores a number in a table, and there is one thread.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
    let code = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(flags)) => run::serve(&flags),
        Ok(Command::Check(flags)) => run::check(&flags),
        Ok(Command::Health(flags)) => run::health(&flags),
        Ok(Command::Worker(flags)) => run::work(&flags),
        Ok(Command::Compact(flags)) => compaction::compact(&flags),
        Ok(Command::Doctor(flags)) => doctor::doctor(&flags),
        Ok(Command::People(command)) => people::run(&command),
        Err(early) => {
            // A reader that is gone has read enough.
            let _ = match early.code {
                0 => std::io::stdout().write_all(early.text.as_bytes()),
                _ => std::io::stderr().write_all(early.text.as_bytes()),
            };
            early.code
        }
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_that_is_set_is_the_one_whose_default_is_a_second() {
        let [before, is_set, after] = [-1, 0, 1].map(|next| {
            // SAFETY: it reads a number of a table that has 47.
            unsafe { mi_option_get(PURGE_DELAY + next) }
        });
        assert_eq!((before, is_set, after), (1, 1_000, 0));
    }
}
