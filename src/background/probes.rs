//! Asks workers that gave an address whether they are there (`CONTRACT §3`): the agents of today
//! register once and then wait to be called, so a 200 from `GET <url>/health` is their sign of life.
//!
//! Must stay true: one that hangs delays neither our API nor the others for long; signs of life are memory
//! (P8). Not here: the call (`membridge_agent`), what silence means (`engine::workers`).

use crate::engine::Engine;
use crate::membridge_agent::Agents;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often a worker is asked.
const EVERY: Duration = Duration::from_secs(20);
/// How many are asked at a time: 1,000 that hang take 48 s, less than the minute after which the others
/// would be thought gone.
const AT_ONCE: usize = 64;

/// Asks every worker that has an address, and reports who is there as they answer.
pub async fn run_once(engine: &Engine, agents: &Arc<Agents>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for (id, url) in engine.query().addresses() {
        let turn = turns.clone().acquire_owned().await.expect("it is never closed");
        let (engine, agents) = (engine.clone(), agents.clone());
        asked.spawn(async move {
            if agents.is_well(&url).await {
                engine.heard_of(id);
            }
            drop(turn);
        });
    }
    asked.join_all().await;
}

/// Runs until the server stops.
pub async fn run(engine: Engine, agents: Arc<Agents>, mut stopping: watch::Receiver<bool>) {
    let rounds = async {
        loop {
            tokio::join!(run_once(&engine, &agents), sleep(EVERY));
        }
    };
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = rounds => {}
    }
}
