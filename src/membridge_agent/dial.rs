//! From an agent's address to a connection.
//!
//! Must stay true: it takes `CONNECT_PATIENCE` at the most; a name that is looked up holds a thread, since
//! the system knows no other way, so only a few are at a time, on threads that serve nothing else. Not
//! here: TLS, which this version does not speak.

use crate::config::parse_base_url;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Names that are looked up at a time.
pub const LOOKUPS_AT_ONCE: usize = 8;

/// A connection to an agent, and what its requests are to say.
pub struct Dialled {
    pub stream: TcpStream,
    /// `host:port`, for the `Host` header.
    pub authority: String,
    /// What stands before every path.
    pub prefix: String,
}

/// Connects to the host of an address.
///
/// # Errors
/// Why it does not work, in words for a person.
pub async fn dial(url: &str, lookups: &Arc<Semaphore>) -> Result<Dialled, String> {
    let base = parse_base_url(url).map_err(|fault| format!("Its address {fault}"))?;
    if base.is_https() {
        return Err(
            "Its address is https, which is not in this version; give it an http one".into()
        );
    }
    let (authority, prefix) = base.authority_and_path();
    let (host, port) = base.host_and_port();
    let connecting = async {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => look_up(host, port, lookups).await?,
        };
        TcpStream::connect(addresses.as_slice()).await
    };
    let stream = match timeout(CONNECT_PATIENCE, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{authority} cannot be reached: {error}")),
        Err(_) => {
            let seconds = CONNECT_PATIENCE.as_secs();
            return Err(format!("{authority} cannot be reached: no answer within {seconds} s"));
        }
    };
    Ok(Dialled { stream, authority: authority.into(), prefix: prefix.into() })
}

async fn look_up(host: &str, port: u16, lookups: &Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let turn = lookups.clone().acquire_owned().await.expect("it is never closed");
    let (tell, told) = oneshot::channel();
    let place = (host.to_owned(), port);
    std::thread::Builder::new().name("lookup".into()).spawn(move || {
        let found = place.to_socket_addrs().map(Iterator::collect);
        // Its turn ends here: who asked may be gone, and this thread was not.
        drop(turn);
        let _ = tell.send(found);
    })?;
    told.await.unwrap_or_else(|_| Err(io::Error::other("the lookup broke off")))
}
