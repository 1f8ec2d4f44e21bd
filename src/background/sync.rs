//! Takes Membridge's list of agents over into the workers, again and again (`CONTRACT §4`).
//!
//! Must stay true: rounds never overlap; a bad agent is told of once and spoils nothing; a stop does not
//! wait for a round. Not here: what a list changes (`domain::worker`, `engine`), the calls (`membridge`).

use crate::engine::{Engine, EngineError};
use crate::membridge::{Fault, For, Membridge};
use crate::wire::{self, Agents};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

const TRIES: u32 = 4;
/// Bad agents of one list that are told of.
const COMPLAINTS_MAX: usize = 100;

/// What was said already, so that it is not said again while it holds.
#[derive(Default)]
pub struct Said {
    bad: HashSet<String>,
    failing: bool,
}

/// Why a round brought nothing.
pub enum Failed {
    Call(Fault),
    NoList,
    Engine(EngineError),
}

/// One round: asks for the list and takes it over.
pub async fn run_once(engine: &Engine, membridge: &Arc<Membridge>) -> Result<Vec<String>, Failed> {
    let body = membridge.get("/agents".into(), TRIES, For::Sync).await.map_err(Failed::Call)?;
    let Agents { good, mut bad } = wire::agents(&body).ok_or(Failed::NoList)?;
    let left_out = engine.sync(good).await.map_err(Failed::Engine)?;
    if left_out > 0 {
        bad.push("more agents than workers may be registered".into());
    }
    Ok(bad)
}

/// Runs until the server stops.
pub async fn run(
    engine: Engine,
    membridge: Arc<Membridge>,
    every: Option<u32>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(seconds) = every else { return };
    let pause = Duration::from_secs(seconds.into());
    let mut said = Said::default();
    loop {
        let round = async {
            let outcome = run_once(&engine, &membridge).await;
            said.tell(outcome);
            sleep(pause).await;
        };
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = round => {}
        }
    }
}

impl Said {
    fn tell(&mut self, outcome: Result<Vec<String>, Failed>) {
        match outcome {
            Ok(bad) => {
                if std::mem::take(&mut self.failing) {
                    log::info!("membridge sync works again");
                }
                let bad: HashSet<String> = bad.into_iter().take(COMPLAINTS_MAX).collect();
                for complaint in bad.difference(&self.bad) {
                    log::warn!("membridge sync left out: {complaint}");
                }
                self.bad = bad;
            }
            Err(failed) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::warn!("membridge sync: {failed}; it goes on by itself");
                }
            }
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Call(fault) => f.write_str(&fault.detail),
            Failed::NoList => f.write_str("what Membridge answers to /agents is no list"),
            Failed::Engine(error) => write!(f, "{error}"),
        }
    }
}
