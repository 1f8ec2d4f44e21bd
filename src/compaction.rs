//! `bloom-runtime compact`: gives the space of removed records back to the filesystem, offline.
//!
//! Must stay true: it holds the data directory as a server does, so neither can start beside the
//! other; each failure is one line with the way out and its own exit code. Not here: how a file is
//! compacted (`store::compact`).

use crate::cli::{CompactFlags, ServeFlags};
use crate::config::Config;
use crate::store::{self, Compacted};
use crate::{exit, logging};
use std::io::{self, Write};
use std::path::Path;

/// Compacts both files and says what they were and are. Returns the exit code.
pub fn compact(flags: &CompactFlags) -> u8 {
    let settings = ServeFlags::of_directory(&flags.data_dir, &flags.env_file);
    let config = match Config::from_process(&settings) {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string(), exit::CONFIG),
    };
    logging::start(config.log_level);
    let begins = |path: &Path, bytes: u64| {
        say(&format!("compacting {}: {:.1} MiB", path.display(), mib(bytes)));
    };
    match store::compact(&config.data_dir, begins) {
        Ok(done) => {
            for file in &done {
                say(&summary(file));
            }
            exit::OK
        }
        Err(error) => refuse(&error.to_string(), exit::STORE),
    }
}

fn summary(file: &Compacted) -> String {
    let Compacted { path, before_bytes, after_bytes } = file;
    let given_back = before_bytes.saturating_sub(*after_bytes);
    format!(
        "{}: {:.1} MiB before, {:.1} MiB now, {:.1} MiB given back",
        path.display(),
        mib(*before_bytes),
        mib(*after_bytes),
        mib(given_back)
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A reader that is gone has read enough.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn refuse(line: &str, code: u8) -> u8 {
    let _ = writeln!(io::stderr(), "bloom-runtime: {line}");
    code
}
