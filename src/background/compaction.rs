//! Gives the free space of the data files back to the filesystem while nothing is written.
//!
//! Must stay true: it begins only when nothing was written for the whole idle time and nothing waits for
//! the archive; it gives way to a stop and to a long backlog; a file that was not written to since the last
//! look is not looked at again, and looks that give nothing back become rare (P8). Not here: what is worth
//! it, and how (`store::replace`).

use crate::clock::Clock;
use crate::engine::{Backlog, Compacted, Engine, EngineError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Between two looks, and at the most when looks give nothing back.
const LOOKS_APART: Duration = Duration::from_secs(3_600);
const LOOKS_APART_MOST: Duration = Duration::from_secs(86_400);

/// Compacts what is worth it, the archive first.
pub async fn run_once(
    engine: &Engine,
    clock: Arc<dyn Clock>,
    stopping: watch::Receiver<bool>,
) -> Result<Vec<Compacted>, EngineError> {
    let backlog = engine.backlog();
    let archive = engine.read_aside(move |query| {
        let began = AtomicU64::new(clock.micros());
        query.compact_archive(&|| {
            rest_after(&*clock, &began);
            !*stopping.borrow() && *backlog.borrow() < Backlog::Much
        })
    });
    let mut compacted: Vec<Compacted> = archive.await?.into_iter().collect();
    if engine.read_aside(|query| query.hot_is_worth_compacting()).await? {
        compacted.extend(engine.compact_hot().await?);
    }
    Ok(compacted)
}

/// As long as the chunk took: others have half of the time at least.
#[allow(clippy::disallowed_methods, reason = "the time that passes is the purpose")]
fn rest_after(clock: &dyn Clock, began: &AtomicU64) {
    let took = clock.micros().saturating_sub(began.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_micros(took));
    began.store(clock.micros(), Ordering::Relaxed);
}

/// Runs until the server stops. `idle_seconds`: None never does anything.
pub async fn run(
    engine: Engine,
    clock: Arc<dyn Clock>,
    idle_seconds: Option<u32>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(idle) = idle_seconds.map(|seconds| Duration::from_secs(seconds.into())) else {
        return;
    };
    let (mut seen, mut looked, mut apart) = (None, None, LOOKS_APART);
    let mut pause = idle;
    // Ends when it is told to stop, or when nobody can tell it any more.
    while timeout(pause, stopping.wait_for(|stopping| *stopping)).await.is_err() {
        pause = idle;
        let writes = Some(engine.query().writes());
        let is_idle = seen == writes && *engine.backlog().borrow() == Backlog::Nothing;
        seen = writes;
        if !is_idle || looked == writes {
            continue;
        }
        apart = match look(&engine, clock.clone(), stopping.clone()).await {
            true => LOOKS_APART,
            false => (apart * 2).min(LOOKS_APART_MOST),
        };
        looked = Some(engine.query().writes());
        pause = apart;
    }
}

/// Whether anything was given back.
async fn look(engine: &Engine, clock: Arc<dyn Clock>, stopping: watch::Receiver<bool>) -> bool {
    match run_once(engine, clock, stopping).await {
        Ok(compacted) => {
            for Compacted { path, before_bytes, after_bytes } in &compacted {
                let name = path.file_name().unwrap_or_default().display();
                let (before, after) = (before_bytes >> 20, after_bytes >> 20);
                log::info!(
                    "compaction gave space back file={name} mib_before={before} mib_now={after}"
                );
            }
            !compacted.is_empty()
        }
        Err(error) => {
            log::warn!("compaction: {error}; it is tried again later");
            false
        }
    }
}
