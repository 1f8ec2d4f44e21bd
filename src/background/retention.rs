//! Removes finished tasks whose time is over (`RETENTION_DAYS`), in small steps beside normal work.
//!
//! A step: the writer's commit that uncounts some tasks and notes which, then the archive's commit that
//! lets go of them. Must stay true: a step that a crash cut off is finished first, also when nothing is
//! to be removed any more; while nothing is due it sleeps until the oldest task will be, and costs
//! nothing (P8). Not here: what is due (`engine::retention`).

use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Retention};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Tasks of one step: some milliseconds of the writer's time.
const TASKS_AT_ONCE: usize = 200;
/// The pauses between two looks when nothing is due, or when a step failed: what becomes due earlier
/// than it was thought cannot be, so an hour is no promise to anyone.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Finishes a step that was cut off, else does one; says how many tasks the archive let go of.
pub async fn run_once(
    engine: &Engine,
    clock: &dyn Clock,
    retention: Option<Retention>,
) -> Result<usize, EngineError> {
    let now = clock.now().mono;
    let mut removing = engine.query().removing();
    if removing.is_empty() {
        let Some(retention) = retention else { return Ok(0) };
        let due = engine.read(move |query| query.due(&retention, now, TASKS_AT_ONCE)).await?;
        if due.is_empty() {
            return Ok(0);
        }
        removing = engine.begin_removal(due).await?;
    }
    let begun = removing.clone();
    let removed = engine.read(move |query| query.remove_archived(&begun)).await?;
    engine.removed(removing).await?;
    Ok(removed)
}

/// Runs until the server stops.
pub async fn run(
    engine: Engine,
    clock: Arc<dyn Clock>,
    days: Option<u32>,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = keep_removing(&engine, &*clock, days.map(Retention::days)) => {}
    }
}

async fn keep_removing(engine: &Engine, clock: &dyn Clock, retention: Option<Retention>) {
    let mut removed = 0;
    loop {
        let began = clock.micros();
        match run_once(engine, clock, retention).await {
            Ok(0) => {
                if removed > 0 {
                    log::info!("retention removed tasks={removed}");
                    removed = 0;
                }
                let Some(retention) = retention else { return };
                sleep(pause(engine, clock, retention).await).await;
            }
            Ok(tasks) => {
                removed += tasks;
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
