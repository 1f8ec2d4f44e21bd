//! Tells the audit trail and those who listen when the connection to Membridge is lost or comes back.
//!
//! Must stay true: each change is told once, and the state at the start is none; an upstream that comes
//! and goes is told of every `REST` at most (P8). Not here: what counts as connected (`membridge`).

use crate::domain::{Audit, EventKind};
use crate::engine::{ConfigChange, Engine, EngineError};
use crate::membridge::{Link, Membridge};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The shortest time between two entries.
const REST: Duration = Duration::from_secs(15);

/// Runs until the server stops.
pub async fn run(engine: Engine, membridge: Arc<Membridge>, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = keep_telling(&engine, &membridge) => {}
    }
}

async fn keep_telling(engine: &Engine, membridge: &Membridge) {
    let mut heard = membridge.heard();
    let mut told = *heard.borrow();
    loop {
        let now = *heard.borrow_and_update();
        let is_comparable = told.generation == now.generation && told.link != Link::Unknown;
        if is_comparable && now.link != told.link {
            match tell(engine, membridge, now.link).await {
                Ok(()) => told = now,
                Err(error) => log::warn!("connection to membridge: {error}; told later"),
            }
            sleep(REST).await;
            continue;
        }
        // Where a connection is when it is first heard of is no news.
        told = now;
        if heard.changed().await.is_err() {
            return;
        }
    }
}

async fn tell(engine: &Engine, membridge: &Membridge, now: Link) -> Result<(), EngineError> {
    let url = membridge.url();
    let detail = match membridge.last_error().filter(|_| now == Link::Down) {
        Some(error) => format!("Membridge at {url} is not connected any more: {error}"),
        None => format!("Membridge at {url} is connected again"),
    };
    let (kind, audit) = (EventKind::ConnectionChanged, Audit::of_config("runtime", detail));
    engine.configure(ConfigChange { settings: None, kind, audit }).await
}
