//! One connection: from its first byte to its end.
//!
//! Must stay true: it costs a buffer only after its first byte; every byte passes `http::framing` before
//! hyper sees it; it ends at once when its place is needed. Not here: accepting (`server`), what a
//! request means (`api`).

use super::door::Door;
use super::wire::Watched;
use crate::api::{App, Caller};
use crate::http::answer;
use crate::http::framing::Framing;
use crate::http::places::{InUse, Seat};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_nodelay, set_tcp_user_timeout};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Bytes of a request's head, and of the pieces in which a body is read.
const BUFFER_BYTES: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Time for a request's head; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Milliseconds that an answer may lie unread before the connection ends.
const UNREAD_MS: u32 = 60_000;
/// Bytes that the kernel holds for a client that does not read; by itself it takes up to 4 MiB.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Sets up the listening socket, whose options its connections have from it: small answers leave at
/// once, and who reads nothing is let go of. A socket that cannot do that still works.
pub fn prepare(listener: &TcpListener) {
    let _ = set_tcp_nodelay(listener, true);
    let _ = set_tcp_user_timeout(listener, UNREAD_MS);
    let _ = set_socket_send_buffer_size(listener, SEND_BUFFER_BYTES);
}

/// Serves a connection to its end, or until its place is needed; `_running` tells by its end that it is
/// over.
pub async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    app: Arc<App>,
    seat: Seat,
    mut stopping: watch::Receiver<bool>,
    _running: mpsc::Sender<()>,
) {
    let seat = Arc::new(seat);
    // Looked at and left there; `readable` alone is true of every new socket.
    let mut first = [0];
    // Biased: a request that has arrived is heard although the server is stopping.
    let began = tokio::select! {
        biased;
        () = seat.evicted() => return,
        began = timeout(HEAD_TIME, stream.peek(&mut first)) => began,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    if matches!(began, Ok(Ok(1))) {
        let exchange = boxed_exchange(stream, peer, door, app, seat.clone(), stopping);
        tokio::select! {
            () = seat.evicted() => {}
            () = exchange => {}
        }
    }
}

/// On the heap, and made here, or the silent connections would pay for it too.
fn boxed_exchange(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    app: Arc<App>,
    seat: Arc<Seat>,
    stopping: watch::Receiver<bool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(exchange(stream, peer, door, app, seat, stopping))
}

async fn exchange(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    app: Arc<App>,
    seat: Arc<Seat>,
    mut stopping: watch::Receiver<bool>,
) {
    let way = door.way();
    let opened = tokio::select! {
        biased;
        opened = door.open(stream, peer) => opened,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    let Some(wire) = opened else { return };
    let framing = Arc::new(Mutex::new(Framing::default()));
    let watched = Watched { wire, framing: framing.clone() };
    let service = service_fn(move |request| {
        let (app, seat, framing) = (app.clone(), seat.clone(), framing.clone());
        // On the heap while it runs only: most connections are idle most of the time.
        Box::pin(async move {
            let framing = framing.lock().expect("no holder panics").next_request();
            let in_use = seat.in_use();
            let caller = Caller { peer, way, seat: &seat, framing };
            let answer = app.handle(&caller, request).await;
            Ok::<_, Infallible>(answer.map(|body| Used { body, _in_use: in_use }))
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(watched), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
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

/// An answer's body; as long as it is being sent, its connection is in use.
struct Used {
    body: answer::Body,
    _in_use: InUse,
}

impl Body for Used {
    type Data = Bytes;
    type Error = <answer::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
