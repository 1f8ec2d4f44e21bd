//! What stands behind a listening socket: requests in the clear, TLS, or only the way to it.
//!
//! Must stay true: a handshake runs in its connection's own task and ends by itself; half-open ones are
//! bounded like all strangers (`http::places`), and the oldest make room; who speaks http to the port of
//! https is told so. Not here: which certificate (`tls`).

use super::wire::{Rationed, Wire};
use crate::api::Way;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// From a handshake's first byte to its last.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What a client may send until it is through. A usual one sends 2 KiB; rustls would keep 64.
const HANDSHAKE_BYTES: usize = 12 << 10;
/// Bytes that a connection encrypts ahead of a client that does not read.
const UNSENT_BYTES: usize = 32 << 10;
/// The first byte of everything that speaks TLS: a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;
/// How long, and for how many bytes, we listen to a request that was answered unread: a connection that
/// ends with bytes unread is reset, and the answer may be lost with it.
const LISTENED_ON: Duration = Duration::from_secs(1);
const LISTENED_BYTES: u64 = 64 << 10;

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 93\r\n\r\n\
{\"error\":\"This port speaks https; write https:// before the address\",\"code\":\"https_required\"}";

#[derive(Clone)]
pub enum Door {
    Plain,
    Tls(Arc<ServerConfig>),
    /// Sends everybody to https on this port.
    Redirect(u16),
}

impl Door {
    pub fn way(&self) -> Way {
        match self {
            Door::Plain => Way::Http,
            Door::Tls(_) => Way::Https,
            Door::Redirect(to_port) => Way::ToHttps(*to_port),
        }
    }

    /// Lets a connection in that has sent something. None when it cannot be talked to.
    pub async fn open(self, mut stream: TcpStream, peer: SocketAddr) -> Option<Wire> {
        let Door::Tls(config) = self else { return Some(Wire::Plain(stream)) };
        let mut first = [0];
        if !matches!(stream.peek(&mut first).await, Ok(1)) {
            return None;
        }
        if first[0] != HANDSHAKE_RECORD {
            refuse_plain(&mut stream).await;
            return None;
        }
        let limit = |tls: &mut rustls::ServerConnection| tls.set_buffer_limit(Some(UNSENT_BYTES));
        let rationed = Rationed { stream, left: HANDSHAKE_BYTES };
        let handshake = TlsAcceptor::from(config).accept_with(rationed, limit);
        match timeout(HANDSHAKE_TIME, handshake).await {
            Ok(Ok(mut stream)) => {
                stream.get_mut().0.left = usize::MAX;
                Some(Wire::Tls(Box::new(stream)))
            }
            Ok(Err(error)) => {
                log::debug!("TLS with {peer} failed: {error}");
                None
            }
            Err(_) => {
                log::debug!("TLS with {peer} took longer than {}s", HANDSHAKE_TIME.as_secs());
                None
            }
        }
    }
}

async fn refuse_plain(stream: &mut TcpStream) {
    if stream.write_all(PLAIN_HTTP).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(LISTENED_BYTES);
        let _ = timeout(LISTENED_ON, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::PLAIN_HTTP;

    #[test]
    fn the_answer_to_http_on_the_port_of_https_has_the_length_that_it_names() {
        let text = str::from_utf8(PLAIN_HTTP).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let length = head.rsplit("content-length: ").next().expect("a length");
        assert_eq!(length.parse(), Ok(body.len()));
    }
}
