//! Push: tasks for workers that do not ask for them, but wait to be called (today's agents).
//!
//! For each such worker one claim waits in the engine on its behalf, so that everything that decides
//! about claims decides here too. What is granted, or dispatched by hand, becomes a call. Must stay true:
//! no thread and no polling, an idle fleet costs a claim an hour for each worker (P8); calls are bounded
//! (P9). Not here: one call from its lease to its end (`call`), what an answer means (`verdict`), the
//! agent's protocol (`membridge_agent`).

mod call;
mod verdict;

pub use call::Pusher;

use crate::domain::WorkerId;
use crate::engine::{ClaimAnswer, Engine};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Calls under way at a time.
const CALLS_MAX: usize = 512;
/// Workers for which a claim waits; half of all claims that may wait.
const CLAIMS_MAX: usize = 4_096;
/// How long a claim waits before it is made anew.
const CLAIM_WAIT_MS: u64 = 3_600_000;
/// Before the next claim when one could not be made, or ended early: the server is busy or stopping.
const PAUSE: Duration = Duration::from_secs(1);
/// Granted tasks on their way to their calls.
const GRANTED_SLOTS: usize = 64;

/// A claim that waits for a worker, until this is dropped.
struct Waiting {
    url: String,
    _ends: oneshot::Sender<()>,
}

/// Begins to push: where a granted task goes to be pushed, and what to abort at a stop, which leaves calls
/// under way to their agents.
pub fn start(pusher: Pusher) -> (mpsc::Sender<ClaimAnswer>, JoinHandle<()>) {
    let (grant, granted) = mpsc::channel(GRANTED_SLOTS);
    (grant.clone(), tokio::spawn(run(Arc::new(pusher), grant, granted)))
}

async fn run(
    pusher: Arc<Pusher>,
    grant: mpsc::Sender<ClaimAnswer>,
    mut granted: mpsc::Receiver<ClaimAnswer>,
) {
    let mut changes = pusher.engine.pushed();
    let mut waiting = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changes.mark_unchanged();
        follow_fleet(&pusher, &grant, &mut waiting, &mut tasks);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(answer) = granted.recv() => {
                    tasks.spawn(pusher.clone().serve(answer));
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Lets a claim wait for each worker that is called with tasks, and for no other.
fn follow_fleet(
    pusher: &Pusher,
    grant: &mpsc::Sender<ClaimAnswer>,
    waiting: &mut HashMap<WorkerId, Waiting>,
    tasks: &mut JoinSet<()>,
) {
    let fleet = pusher.engine.query().push_addresses();
    waiting.retain(|id, waits| fleet.get(id) == Some(&waits.url));
    for (id, url) in fleet {
        if waiting.len() >= CLAIMS_MAX {
            log::warn!("push: tasks are pushed to {CLAIMS_MAX} workers at the most");
            return;
        }
        waiting.entry(id.clone()).or_insert_with(|| {
            let (ends, ended) = oneshot::channel();
            let (engine, calls) = (pusher.engine.clone(), pusher.calls.clone());
            tasks.spawn(keep_claiming(engine, calls, id, grant.clone(), ended));
            Waiting { url, _ends: ends }
        });
    }
}

async fn keep_claiming(
    engine: Engine,
    calls: Arc<Semaphore>,
    worker: WorkerId,
    grant: mpsc::Sender<ClaimAnswer>,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let claim = async {
            // No task is taken while no further call can be made.
            drop(calls.acquire().await);
            engine.claim_for(worker.clone(), CLAIM_WAIT_MS).await
        };
        let claimed = tokio::select! {
            biased;
            claimed = claim => claimed,
            _ = &mut ended => return,
        };
        match claimed {
            Ok(Some(answer)) => {
                if grant.send(answer).await.is_err() {
                    return;
                }
            }
            Ok(None) | Err(_) => sleep(PAUSE).await,
        }
    }
}
