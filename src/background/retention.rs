//! Removes finished tasks and audit entries whose time is over (`RETENTION_DAYS`, `AUDIT_RETENTION_DAYS`),
//! in small steps beside normal work.
//!
//! A step with tasks: the writer's commit that uncounts some tasks and notes which, then the archive's commit that
//! lets go of them. One with entries is a commit of the archive. Must stay true: a step that a crash cut off is finished first, also when nothing is
//! to be removed any more; while nothing is due it sleeps until the oldest task will be, and costs
//! nothing (P8). Not here: what is due (`engine::retention`).

use crate::clock::{Clock, Mono};
use crate::engine::{Engine, EngineError, Query, Retention};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Tasks of one step: some milliseconds of the writer's time.
const TASKS_AT_ONCE: usize = 200;
/// Audit entries of one step.
const ENTRIES_AT_ONCE: usize = 2_000;
/// The pauses between two looks when nothing is due, or when a step failed: what becomes due earlier
/// than it was thought cannot be, so an hour is no promise to anyone.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What the archive let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub tasks: usize,
    pub entries: usize,
}

/// Finishes a step that was cut off, else does one with tasks, else one with audit entries.
pub async fn run_once(
    engine: &Engine,
    clock: &dyn Clock,
    retention: Retention,
) -> Result<Removed, EngineError> {
    let now = clock.now().mono;
    let mut removing = engine.query().removing();
    if removing.is_empty() {
        let due = engine.read(move |query| query.due(&retention, now, TASKS_AT_ONCE)).await?;
        if due.is_empty() {
            return remove_audit(engine, retention, now).await;
        }
        removing = engine.begin_removal(due).await?;
    }
    let begun = removing.clone();
    let tasks = engine.read_aside(move |query| query.remove_archived(&begun)).await?;
    engine.removed(removing).await?;
    Ok(Removed { tasks, entries: 0 })
}

async fn remove_audit(
    engine: &Engine,
    retention: Retention,
    now: Mono,
) -> Result<Removed, EngineError> {
    let due = engine.read(move |query| query.audit_due(&retention, now)).await?;
    let Some(until) = due else { return Ok(Removed::default()) };
    let remove = move |query: &Query| query.remove_audit(until, ENTRIES_AT_ONCE);
    Ok(Removed { tasks: 0, entries: engine.read_aside(remove).await? })
}

/// Runs until the server stops.
pub async fn run(
    engine: Engine,
    clock: Arc<dyn Clock>,
    retention: Retention,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = keep_removing(&engine, &*clock, retention) => {}
    }
}

async fn keep_removing(engine: &Engine, clock: &dyn Clock, retention: Retention) {
    let mut removed = Removed::default();
    loop {
        let began = clock.micros();
        match run_once(engine, clock, retention).await {
            Ok(step) if step == Removed::default() => {
                let Removed { tasks, entries } = std::mem::take(&mut removed);
                if tasks > 0 {
                    log::info!("retention removed tasks={tasks}");
                }
                if entries > 0 {
                    log::info!("retention removed audit_entries={entries}");
                }
                if retention.keeps_everything() {
                    return;
                }
                sleep(pause(engine, clock, retention).await).await;
            }
            Ok(step) => {
                removed.tasks += step.tasks;
                removed.entries += step.entries;
                // As long as the step took: others have half of the time at least.
                sleep(Duration::from_micros(clock.micros().saturating_sub(began))).await;
            }
            Err(error) => {
                log::warn!("retention: {error}; what is left to remove waits");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn pause(engine: &Engine, clock: &dyn Clock, retention: Retention) -> Duration {
    let now = clock.now().mono;
    match engine.read(move |query| query.due_in_ms(&retention, now)).await {
        Ok(Some(ms)) => Duration::from_millis(ms).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        Ok(None) => LONGEST_PAUSE,
        Err(_) => PAUSE_AFTER_FAILURE,
    }
}
