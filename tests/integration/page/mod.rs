//! What the server does for the page: its files, and the sessions of those who sign in to it.
//!
//! Not here: the page itself, as a browser shows it.

mod figures;
mod files;
mod hosts;
mod packing;
mod sessions;
mod words;

use crate::harness::Setup;

const KEY: &str = "the-key-Zk3q-0001";

fn with_key() -> Setup {
    Setup::default().env("RUNTIME_API_KEY", KEY)
}
