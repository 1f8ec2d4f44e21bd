//! The binary: reads the command line, does the one thing that was asked, and ends with a code that
//! tells a supervisor why (`exit`).
//!
//! Not here: anything that a test would want to call.

use bloom_runtime::cli::{self, Command};
use bloom_runtime::{compaction, doctor, people, run};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
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
