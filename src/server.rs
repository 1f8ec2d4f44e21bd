//! The sockets: accepting, one task per connection, and a stop that loses nobody's request.
//!
//! Must stay true: connections, header bytes and header time are bounded (P9); a connection that has
//! not said a word costs next to nothing; after the stop nothing new is accepted and what runs gets
//! `STOP_GRACE` to finish. Not here: what a request means (`api`), who makes room (`http::places`).

mod connection;
mod door;
mod wire;

pub use door::Door;

use crate::api::App;
use crate::clock::{Clock, Mono};
use crate::http::places::Places;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Time for what runs when the server is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How many newcomers are let in before those who have said something are heard.
const ACCEPTED_AT_ONCE: u32 = 64;
/// Pause after a failed accept (no file descriptor is left), so that it cannot spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Milliseconds between two lines about the same trouble.
const COMPLAINT_EVERY_MS: u64 = 60_000;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
retry-after: 1\r\nconnection: close\r\ncontent-length: 73\r\n\r\n\
{\"error\":\"Too many connections; try again\",\"code\":\"too_many_connections\"}";

/// Places for the connections of all doors together.
pub fn places() -> Arc<Places> {
    Arc::new(Places::new(getrlimit(Resource::Nofile).current))
}

/// Serves until `stopping` turns true, then waits for what runs.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    places: Arc<Places>,
    app: Arc<App>,
    clock: Arc<dyn Clock>,
    mut stopping: watch::Receiver<bool>,
) {
    connection::prepare(&listener);
    // Nothing is ever sent: it ends when the last connection has dropped its end.
    let (running, mut all_ended) = mpsc::channel::<()>(1);
    let mut accepted_at_once = 0;
    let (mut crowded, mut failing) = (Complaint::default(), Complaint::default());
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let before = places.evicted();
                let seat = places.take(peer.ip(), clock.now().mono);
                if seat.is_none() || places.evicted() > before {
                    crowded.say(clock.as_ref(), || {
                        format!(
                            "connections limit={} without_key_limit={} reached: the oldest without \
                             the key make room, so far {}",
                            places.connections_max(),
                            places.strangers_max(),
                            places.evicted()
                        )
                    });
                }
                match seat {
                    Some(seat) => {
                        let (app, stopping) = (app.clone(), stopping.clone());
                        let running = running.clone();
                        let door = door.clone();
                        let talk =
                            connection::talk(stream, peer, door, app, seat, stopping, running);
                        tokio::spawn(talk);
                    }
                    None if matches!(door, Door::Tls(_)) => {}
                    None => drop(tokio::spawn(turn_away(stream))),
                }
                accepted_at_once += 1;
                if accepted_at_once >= ACCEPTED_AT_ONCE {
                    accepted_at_once = 0;
                    // Sockets are looked at before this goes on: in a flood of newcomers, one with
                    // the key is known before others need its place.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                failing.say(clock.as_ref(), || format!("accept failed: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, running));
    if timeout(STOP_GRACE, all_ended.recv()).await.is_err() {
        log::warn!("stop: requests were still running after {}s", STOP_GRACE.as_secs());
    }
}

/// Something that is said once a minute at the most, however often it happens.
#[derive(Default)]
struct Complaint {
    quiet_until: Mono,
}

impl Complaint {
    fn say(&mut self, clock: &dyn Clock, text: impl FnOnce() -> String) {
        let now = clock.now().mono;
        if now >= self.quiet_until {
            self.quiet_until = Mono(now.0.saturating_add(COMPLAINT_EVERY_MS));
            log::warn!("{}", text());
        }
    }
}

async fn turn_away(mut stream: TcpStream) {
    // Whether it arrives is the client's affair.
    let _: io::Result<()> = stream.write_all(FULL).await;
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_answer_to_one_connection_too_many_has_the_length_that_it_names() {
        let text = str::from_utf8(FULL).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let length = head.rsplit("content-length: ").next().expect("a length");
        assert_eq!(length.parse(), Ok(body.len()));
    }
}
