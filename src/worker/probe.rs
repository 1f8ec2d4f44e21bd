//! Whether Claude CLI is there and logged in.
//!
//! `claude auth status` counts an ANTHROPIC_API_KEY, a token and a cloud's credentials as a login
//! (`loggedIn: true`; seen with 2.1.197), and does not try them: a key that is refused is noticed by
//! the first task. Not here: what follows from the answer ([`super::claims`]).

use super::Worker;
use super::child::{self, Finished, Kept, Order};
use super::verdict::Exit;
use super::watch::{Ending, NEVER, Watch};
use serde_json::Value;
use std::io;
use std::sync::Arc;

const TIMEOUT_MS: u64 = 30_000;

/// What was found, in one line; or what to do about it.
pub fn find_claude(worker: &Arc<Worker>) -> Result<String, String> {
    let claude = worker.config.claude.display();
    let version = ask(worker, &["--version"])?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match (version.ending, version.exit) {
        (Ending::Exited, Exit::Code(0)) => {}
        (Ending::Exited, exit) => {
            let stderr = words(&version.stderr);
            return Err(format!("Claude CLI \"{claude} --version\" {exit}: {stderr}"));
        }
        (ending, _) => return Err(format!("Claude CLI \"{claude}\" did not end: {ending:?}")),
    }
    let status = ask(worker, &["auth", "status"])?.output.text();
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let login = match status["loggedIn"].as_bool() {
        Some(true) => status["authMethod"].as_str().unwrap_or("unknown").to_owned(),
        Some(false) => {
            return Err(format!(
                "Claude CLI is not logged in: run \"{claude}\" as this user and log in with \
                 /login, or set ANTHROPIC_API_KEY"
            ));
        }
        // An older or a newer CLI; its first task will tell.
        None => "unknown".to_owned(),
    };
    Ok(format!("Claude CLI found version={:?} login={login}", version.output.text()))
}

fn ask(worker: &Arc<Worker>, arguments: &[&str]) -> Result<Finished<Kept>, String> {
    let claude = &worker.config.claude;
    let watch = Arc::new(Watch::new(worker.clock.clone(), NEVER));
    let Some(_slot) = worker.enter(&watch) else { return Err("the worker stops".into()) };
    let order = Order {
        program: claude,
        arguments,
        environment: &worker.config.environment,
        folder: None,
        stdin: String::new(),
        timeout_ms: TIMEOUT_MS,
    };
    child::run(order, Kept::default(), &watch).map_err(|fault| match fault.kind() {
        io::ErrorKind::NotFound => format!(
            "Claude CLI is missing (no \"{}\"): install it with npm install -g \
             @anthropic-ai/claude-code, or give its path with --claude",
            claude.display()
        ),
        _ => format!("Claude CLI \"{}\" cannot be started: {fault}", claude.display()),
    })
}
