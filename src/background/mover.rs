//! Moves what has finished from the hot file to the archive.
//!
//! Must stay true: the archive's commit comes first, the removal from the hot file second and through
//! the writer, which keeps what has changed meanwhile; doing it twice is harmless. Idle, it waits for
//! the backlog to change and costs nothing (P8). Not here: what is copied (`store::archive`).

use crate::engine::{Backlog, Engine, EngineError, Query};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Tasks, and changes told in the journal, of one round: some tens of milliseconds of work.
pub const TASKS_AT_ONCE: usize = 500;
pub const CHANGES_AT_ONCE: usize = 2_000;
/// Tasks, and journal records, that the writer lets go of in one commit: callers wait for it, so it is
/// short.
const LET_GO_AT_ONCE: usize = 100;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(30);

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
    let copy = |query: &Query| query.copy_finished(TASKS_AT_ONCE, CHANGES_AT_ONCE);
    let mut copied = engine.read_aside(copy).await?;
    let moved = Moved { tasks: copied.tasks.len(), changes: copied.changes };
    while let Some(some) = copied.take_some(LET_GO_AT_ONCE) {
        engine.archived(some).await?;
    }
    Ok(moved)
}

/// Runs until the server stops. What has finished stays in the hot file for `rest`, unless there is much of
/// it. A round under way is finished first, which is a matter of moments.
pub async fn run(engine: Engine, rest: Duration, mut stopping: watch::Receiver<bool>) {
    let mut backlog = engine.backlog();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            there_is_work = wait_for_work(&mut backlog, rest) => if !there_is_work { return },
        }
        if let Err(error) = move_what_waits(&engine, &stopping).await {
            log::warn!("archive: {error}; what has finished stays where it is for now");
            let _ = timeout(PAUSE, stopping.wait_for(|stopping| *stopping)).await;
        }
    }
}

/// False when there will never be any.
async fn wait_for_work(backlog: &mut watch::Receiver<Backlog>, rest: Duration) -> bool {
    if backlog.wait_for(|backlog| *backlog > Backlog::Nothing).await.is_err() {
        return false;
    }
    // The pause ends early when there is much to do.
    let _ = timeout(rest, backlog.wait_for(|backlog| *backlog == Backlog::Much)).await;
    true
}

async fn move_what_waits(
    engine: &Engine,
    stopping: &watch::Receiver<bool>,
) -> Result<(), EngineError> {
    while !*stopping.borrow() {
        let moved = run_once(engine).await?;
        log::debug!("archived tasks={} changes={}", moved.tasks, moved.changes);
        if !moved.was_whole() {
            break;
        }
    }
    Ok(())
}
