//! The one way out for everything that may speak https: a name is looked up, TCP, TLS where the address
//! asks for it, then one HTTP/1.1 connection.
//!
//! Must stay true: it takes `CONNECT_PATIENCE` at the most; a connection serves the host that it was made
//! for, so no redirect is followed and no key goes elsewhere; no proxy is used; a server that cannot prove
//! who it is gets nothing. Not here: what is asked, retries.

pub mod blocking;
mod dial;
mod trust;
mod words;

pub use trust::{Pin, Trust};

use crate::config::BaseUrl;
use dial::LOOKUPS_AT_ONCE;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// What a connection may buffer, and the longest head of an answer.
const BUFFER_BYTES: usize = 16 << 10;

/// A request's body; it may be a stream.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is in memory already.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Makes connections; cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    trust: Arc<Trust>,
    lookups: Arc<Semaphore>,
}

/// A connection that waits for its first request. It ends when this is dropped.
pub struct Connection {
    pub sender: SendRequest<Body>,
    /// `host:port`, for the `Host` header.
    pub authority: String,
    /// What stands before every path.
    pub prefix: String,
    _driver: Driver,
}

/// Moves the bytes of a connection for as long as that is wanted.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Dialer {
    pub fn new(trust: Trust) -> Dialer {
        Dialer { trust: Arc::new(trust), lookups: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }

    /// Connects to the host of an address; inside a tokio runtime, which also drives the connection.
    ///
    /// # Errors
    /// Why it does not work, in words for a person.
    pub async fn connect(&self, base: &BaseUrl) -> Result<Connection, String> {
        let (authority, _) = base.authority_and_path();
        let connected = self.connect_to(base).await;
        connected.map_err(|why| format!("{authority} cannot be reached: {why}"))
    }

    /// The same for who names the address himself.
    async fn connect_to(&self, base: &BaseUrl) -> Result<Connection, String> {
        let stream = timeout(CONNECT_PATIENCE, self.stream(base)).await.unwrap_or_else(|_| {
            Err(format!("no answer within {} s", CONNECT_PATIENCE.as_secs()))
        })?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // How it ends, who asks learns by his request.
        let driver = Driver(tokio::spawn(async { drop(connection.await) }));
        let (authority, prefix) = base.authority_and_path();
        let (authority, prefix) = (authority.to_owned(), prefix.to_owned());
        Ok(Connection { sender, authority, prefix, _driver: driver })
    }

    async fn stream(&self, base: &BaseUrl) -> Result<Box<dyn Stream>, String> {
        let (host, port) = base.host_and_port();
        let stream =
            dial::tcp(host, port, &self.lookups).await.map_err(|error| error.to_string())?;
        if !base.is_https() {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is no name that a certificate could have"))?;
        let connector = TlsConnector::from(self.trust.tls()?);
        let stream = connector.connect(name, stream).await.map_err(|error| words::of(&error))?;
        Ok(Box::new(stream))
    }
}
