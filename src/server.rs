//! The sockets: accepting, one task per connection, and a stop that loses nobody's request.
//!
//! Must stay true: connections, header bytes and header time are bounded (P9); after the stop nothing
//! new is accepted and what runs gets `STOP_GRACE` to finish. Not here: what a request means (`api`).

use crate::api::App;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Connections at a time; each may cost `BUFFER_BYTES` and a file descriptor.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Bytes of a request's head, and of the pieces in which a body is read.
const BUFFER_BYTES: usize = 32 << 10;
const HEADERS_MAX: usize = 64;
/// Time for a request's head; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Milliseconds that an answer may lie unread before the connection ends.
const UNREAD_MS: u32 = 60_000;
/// Time for what runs when the server is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptor is left), so that it cannot spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
retry-after: 1\r\nconnection: close\r\ncontent-length: 73\r\n\r\n\
{\"error\":\"Too many connections; try again\",\"code\":\"too_many_connections\"}";

/// Serves until `stopping` turns true, then waits for what runs.
pub async fn serve(listener: TcpListener, app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(converse(stream, peer, app.clone(), stopping.clone(), place));
                }
                Err(_) => {
                    if !std::mem::replace(&mut complained, true) {
                        log::warn!(
                            "connections limit={CONNECTIONS_MAX} reached, newcomers get 503"
                        );
                    }
                    tokio::spawn(turn_away(stream));
                }
            },
            Err(error) => {
                log::warn!("accept failed: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).expect("a small number");
    if timeout(STOP_GRACE, places.acquire_many(all)).await.is_err() {
        log::warn!("stop: requests were still running after {}s", STOP_GRACE.as_secs());
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    app: Arc<App>,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Small answers leave at once, and who reads nothing is let go of; a socket that cannot do that
    // still works.
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, UNREAD_MS);
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.handle(peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("connection from {peer} ended: {error}");
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
