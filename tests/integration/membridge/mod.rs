//! The Membridge proxy, its settings and the sync of workers (CONTRACT §4), against a stand-in that is
//! held to the recording of the real control plane, and against a hostile one.

mod hostile;
mod proxy;
mod secrecy;
mod settings;
mod standin;
mod sync;

use crate::harness::{Server, Setup};
use crate::membridge_standin::KEY;

pub const BRIDGE: &str = "/api/membridge";

/// A server that is pointed at this upstream, with its key; it syncs when a test says so.
#[track_caller]
pub fn before(url: &str) -> Server {
    pointed_at(url).start()
}

pub fn pointed_at(url: &str) -> Setup {
    Setup::default().env("MEMBRIDGE_SERVER_URL", url).env("MEMBRIDGE_ADMIN_KEY", KEY)
}
