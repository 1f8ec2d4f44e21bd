//! From a host and a port to a TCP connection.
//!
//! Must stay true: a name that is looked up holds a thread, since the system knows no other way, so only
//! a few are at a time, on threads that serve nothing else. Not here: how long it may take.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// Names that are looked up at a time.
pub const LOOKUPS_AT_ONCE: usize = 8;

pub async fn tcp(host: &str, port: u16, lookups: &Arc<Semaphore>) -> io::Result<TcpStream> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => look_up(host, port, lookups).await?,
    };
    TcpStream::connect(addresses.as_slice()).await
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
