//! The wire contract without Membridge: CONTRACT §1–§3, §5 and "Where we are better".

mod auth;
mod better;
mod bodies;
mod lists;
mod paths;
mod records;
mod tasks;
mod validation;
