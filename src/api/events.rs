//! The stream of events: one server-sent event after each committed change.
//!
//! `data: {"seq","kind","id"}`; the event's id is its sequence, so that a browser resumes with
//! `Last-Event-ID`. Who has missed something is told `event: reset` and goes on from now. Must stay
//! true: a slow listener holds nothing but its place; listeners are counted (P9). Not here: which
//! events there are (`engine::events`).

use super::{App, Call};
use crate::engine::Events;
use crate::http::answer::{Answer, EVENT_STREAM, empty_stream, with_body};
use crate::http::error::ApiError;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Bytes;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

const LISTENERS_MAX: usize = 1_024;
/// Events that one write to a listener holds.
const EVENTS_AT_ONCE: usize = 256;
/// How often a quiet stream says that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A listener's place among the counted ones.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl App {
    pub(super) fn events(&self, call: &Call) -> Result<Answer, ApiError> {
        if call.is_head {
            return Ok(empty_stream());
        }
        let place = self.listen()?;
        let events = self.engine.events().clone();
        let from = after_place(call, "last_event_id").unwrap_or_else(|| events.latest());
        let (sender, body) = Channel::new(1);
        tokio::spawn(feed(sender, events, from, self.stopping.clone(), place));
        Ok(with_body(StatusCode::OK, EVENT_STREAM, Either::Right(body)))
    }

    /// A place for one more listener.
    pub(super) fn listen(&self) -> Result<Counted, ApiError> {
        let place = Counted(self.listeners.clone());
        if self.listeners.fetch_add(1, Ordering::Relaxed) >= LISTENERS_MAX {
            let text = "As many listeners as may be are connected; try again later";
            return Err(ApiError::unavailable("too_many_listeners", text));
        }
        Ok(place)
    }
}

/// Where a listener goes on: as its browser says it, else as the query does. An id that is none of ours
/// stands after everything, so that all before now counts as missed.
pub(super) fn after_place(call: &Call, parameter: &str) -> Option<u64> {
    let header = call.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    header.or(call.query(parameter)).map(|text| text.parse().unwrap_or(u64::MAX))
}

/// Sends a part of a stream; false when nobody reads it or the server stops.
pub(super) async fn send(
    sender: &mut Sender<Bytes, Infallible>,
    text: String,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => false,
        sent = sender.send_data(Bytes::from(text)) => sent.is_ok(),
    }
}

async fn feed(
    mut sender: Sender<Bytes, Infallible>,
    events: Arc<Events>,
    mut from: u64,
    mut stopping: watch::Receiver<bool>,
    _place: Counted,
) {
    let mut news = events.subscribe();
    let mut text = String::from(": connected\n\n");
    loop {
        news.mark_unchanged();
        match events.after(from, EVENTS_AT_ONCE) {
            Ok(found) => {
                for event in &found {
                    let data =
                        serde_json::json!({"seq": event.seq, "kind": event.kind, "id": event.id});
                    write!(text, "id: {}\ndata: {data}\n\n", event.seq).expect("memory takes text");
                }
                from = found.last().map_or(from, |event| event.seq);
            }
            Err(_) => {
                from = events.latest();
                let reset = "event: reset";
                write!(text, "id: {from}\n{reset}\ndata: {{\"seq\":{from}}}\n\n")
                    .expect("memory takes text");
            }
        }
        if text.is_empty() {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                woken = timeout(KEEP_ALIVE, news.changed()) => match woken {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => return,
                    Err(_) => text.push_str(": alive\n\n"),
                },
            }
        }
        if !send(&mut sender, std::mem::take(&mut text), &mut stopping).await {
            return;
        }
    }
}
