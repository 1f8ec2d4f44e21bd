//! Who sends a request, as far as the connection tells.
//!
//! Not here: the sockets (`server`), what headers say of the caller (`http::client_address`).

use crate::http::framing::Ambiguous;
use crate::http::places::Seat;
use std::net::SocketAddr;

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Http,
    Https,
    /// By the door whose only answer is the way to https on this port.
    ToHttps(u16),
}

/// The connection that a request came on, and whether everybody sees where the request ends.
pub struct Caller<'a> {
    pub peer: SocketAddr,
    pub way: Way,
    pub seat: &'a Seat,
    pub framing: Result<(), Ambiguous>,
}
