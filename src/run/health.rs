//! `bloom-runtime health`: what a supervisor, an installer or a person asks the server of this machine.
//!
//! Must stay true: it needs no key; a full disk is told apart from silence, since a restart cures the
//! one and not the other. Not here: what the answer holds (`api::config`).

use super::doors::url_from_here;
use super::say;
use crate::cli::ServeFlags;
use crate::client::{CallError, Client};
use crate::config::Config;
use crate::exit;
use crate::outgoing::{Dialer, Trust};
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// A server that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the server that `serve` with these flags is. Returns the exit code: 0 when it is well, 75 when
/// it answers and takes no writes, 69 when it does not answer.
pub fn health(flags: &ServeFlags) -> u8 {
    match ask(flags) {
        Ok(line) => {
            // A reader that is gone has read enough.
            let _ = writeln!(io::stdout(), "{line}");
            exit::OK
        }
        Err((code, line)) => {
            say(line);
            code
        }
    }
}

fn ask(flags: &ServeFlags) -> Result<String, (u8, String)> {
    let config = Config::from_process(flags).map_err(|error| (exit::CONFIG, error.to_string()))?;
    let scheme = if config.tls.own.is_some() { "https" } else { "http" };
    let base = url_from_here(scheme, config.listen_address());
    let dialer = Dialer::new(Trust::unproven());
    let client = Client::new(&base, None, dialer).map_err(|fault| (exit::CONFIG, fault.0))?;
    let asked = client.get("/api/runtime/health", PATIENCE);
    let health: Value = asked.and_then(|answer| answer.json()).map_err(|error| match error {
        CallError::Unreachable(why) => {
            (exit::UNREACHABLE, format!("no server answers at {base} ({why})"))
        }
        other => (exit::PROTOCOL, format!("what answers at {base} is no bloom-runtime: {other}")),
    })?;
    match health["storage_state"].as_str() {
        Some("ok") => {
            let seconds = health["uptime"].as_f64().unwrap_or_default();
            Ok(format!("well at {base}, up {seconds:.0} s"))
        }
        Some(state) => Err((exit::TRY_LATER, format!("{base} takes no writes: {state}"))),
        None => Err((exit::PROTOCOL, format!("what answers at {base} is no bloom-runtime"))),
    }
}
