//! The stream of events: one server-sent event after each committed change.
//!
//! `data: {"seq","kind","id"}`; the event's id is its sequence, so that a browser resumes with
//! `Last-Event-ID`. Who has missed something is told `event: reset` and goes on from now. Must stay
//! true: a slow listener holds nothing but its place; listeners are counted (P9). Not here: which
//! events there are (`engine::events`).

use super::{App, Call};
use crate::engine::Events;
use crate::http::answer::{Answer, EVENT_STREAM, with_body};
use crate::http::error::ApiError;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
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
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A listener's place among the counted ones.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl App {
    pub(super) fn events(&self, call: &Call) -> Result<Answer, ApiError> {
        if call.is_head {
            let nothing = Either::Left(Full::default());
            return Ok(with_body(StatusCode::OK, EVENT_STREAM, nothing));
        }
        let place = Place(self.listeners.clone());
        if self.listeners.fetch_add(1, Ordering::Relaxed) >= LISTENERS_MAX {
            let text = "As many listeners as may be are connected; try again later";
            return Err(ApiError::unavailable("too_many_listeners", text));
        }
        let events = self.engine.events().clone();
        let header = call.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let after = header.or(call.query("last_event_id")).map(str::parse);
        let from = match after {
            Some(Ok(seq)) => seq,
            // An id that is none of ours: everything before now counts as missed.
            Some(Err(_)) => u64::MAX,
            None => events.latest(),
        };
        let (sender, body) = Channel::new(1);
        tokio::spawn(feed(sender, events, from, self.stopping.clone(), place));
        Ok(with_body(StatusCode::OK, EVENT_STREAM, Either::Right(body)))
    }
}

async fn feed(
    mut sender: Sender<Bytes, Infallible>,
    events: Arc<Events>,
    mut from: u64,
    mut stopping: watch::Receiver<bool>,
    _place: Place,
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
        let bytes = Bytes::from(std::mem::take(&mut text));
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            sent = sender.send_data(bytes) => if sent.is_err() {
                return;
            },
        }
    }
}
