//! Asks workers that gave an address whether they are there (`CONTRACT §3`): the agents of today
//! register once and then wait to be called, so a 200 from `GET <url>/health` is their sign of life.
//!
//! Must stay true: one that hangs delays neither our API nor the others for long; nothing secret is
//! sent, no redirect is followed, no answer is read beyond its status; signs of life are memory (P8).
//! Not here: what silence means (`engine::workers`).

use crate::config::parse_base_url;
use crate::domain::WorkerId;
use crate::engine::Engine;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often a worker is asked.
const EVERY: Duration = Duration::from_secs(20);
/// How long one may take, and how many are asked at a time: 100 that hang take 39 s, less than the
/// minute after which the others would be thought gone.
const PATIENCE_SECONDS: u64 = 3;
const AT_ONCE: usize = 8;

/// Asks every worker that has an address, and reports who is there as they answer.
pub fn run_once(engine: &Engine) {
    let page = engine.query().workers(0, usize::MAX);
    let targets = page.rows.into_iter().filter(|view| !view.worker.url.is_empty());
    let targets: Vec<(WorkerId, String)> =
        targets.map(|view| (view.worker.id, view.worker.url)).collect();
    let askers = targets.len().min(AT_ONCE);
    let targets = Mutex::new(targets.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..askers {
            scope.spawn(|| {
                while let Some((id, url)) = next(&targets) {
                    if answers(&url) {
                        engine.heard_of(id);
                    }
                }
            });
        }
    });
}

fn next<T>(targets: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    targets.lock().expect("no holder panics").next()
}

fn answers(url: &str) -> bool {
    let Ok(base) = parse_base_url(url) else { return false };
    let request = minreq::get(format!("{}/health", base.as_str()))
        .with_follow_redirects(false)
        .with_timeout(PATIENCE_SECONDS)
        .with_header("Connection", "close");
    request.send_lazy().is_ok_and(|response| response.status_code == 200)
}

/// Runs until the server stops.
pub async fn run(engine: Engine, mut stopping: watch::Receiver<bool>) {
    loop {
        let asking = engine.clone();
        let round = tokio::task::spawn_blocking(move || run_once(&asking));
        // A round under way ends by itself; nobody waits for it at the stop. A panic in one is in the
        // log, and the next round is a new one.
        let round_and_pause = async { tokio::join!(round, sleep(EVERY)) };
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = round_and_pause => {}
        }
    }
}
