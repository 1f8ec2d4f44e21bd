//! The edge of the server, one file per question: who may stay connected (`places`), where a request
//! ends (`framing`), who calls (`client_address`), how often (`rate_limit`), what of it is logged
//! (`log_allowance`), what is asked for (`routes`, `paging`), what the body is (`body`, `arrival`, `form`, `surrogates`), what of a file is wanted (`ranges`),
//! what goes back (`answer`, `error`).
//!
//! What must stay true: time and settings are handed in, so that every rule is a table test.
//! Deliberately not here: sockets (`server`), rules about tasks, storage.

pub mod answer;
pub mod arrival;
pub mod body;
pub mod client_address;
pub mod error;
pub mod form;
pub mod framing;
pub mod log_allowance;
pub mod paging;
pub mod places;
pub mod ranges;
pub mod rate_limit;
pub mod routes;
pub mod session;
pub mod surrogates;
pub mod ui;
