//! Moves what has finished from the hot file to the archive.
//!
//! Must stay true: the archive's commit comes first, the removal from the hot file second and through
//! the writer, which keeps what has changed meanwhile; doing it twice is harmless. Idle, it waits for
//! the backlog to change and costs nothing (P8). Not here: what is copied (`store::archive`).

use crate::engine::{Backlog, Engine, EngineError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Tasks, and changes told in the journal, of one round: some tens of milliseconds of work.
pub const TASKS_AT_ONCE: usize = 500;
pub const CHANGES_AT_ONCE: usize = 2_000;
/// How long what has finished stays in the hot file, unless there is much of it.
const REST: Duration = Duration::from_secs(30);

/// How many tasks, and changes told in the journal, one round moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub tasks: usize,
    pub changes: usize,
}

impl Moved {
    /// Whether there may be enough left for another round. A small one costs as much as a whole one,
    /// so what trickles in behind the mover waits for the next time.
    fn was_whole(self) -> bool {
        self.tasks == TASKS_AT_ONCE || self.changes >= CHANGES_AT_ONCE
    }
}

/// Copies one round to the archive and lets the hot file go of it.
pub async fn run_once(engine: &Engine) -> Result<Moved, EngineError> {
    let copied = engine.read(|query| query.copy_finished(TASKS_AT_ONCE, CHANGES_AT_ONCE)).await?;
    let moved = Moved { tasks: copied.tasks.len(), changes: copied.changes };
    if moved.tasks > 0 || moved.changes > 0 {
        engine.archived(copied).await?;
    }
    Ok(moved)
}

/// Runs until the server stops.
pub async fn run(engine: Engine, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = keep_moving(&engine) => {}
    }
}

async fn keep_moving(engine: &Engine) {
    let mut backlog = engine.backlog();
    loop {
        if backlog.wait_for(|backlog| *backlog > Backlog::Nothing).await.is_err() {
            return;
        }
        // The pause ends early when there is much to do.
        let _ = timeout(REST, backlog.wait_for(|backlog| *backlog == Backlog::Much)).await;
        loop {
            match run_once(engine).await {
                Ok(moved) => {
                    log::debug!("archived tasks={} changes={}", moved.tasks, moved.changes);
                    if !moved.was_whole() {
                        break;
                    }
                }
                Err(error) => {
                    log::warn!("archive: {error}; what has finished stays where it is for now");
                    let _ = timeout(REST, std::future::pending::<()>()).await;
                    break;
                }
            }
        }
    }
}
