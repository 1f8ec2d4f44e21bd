//! The edge of the server: what a request is, before anyone asks what it wants.
//!
//! What must stay true: everything here is pure; time and addresses are handed in.

pub mod client_address;
pub mod form;
pub mod rate_limit;
pub mod surrogates;
