//! The commands for people: the real program against a real server, on pipes and on a terminal.

mod changes;
mod completions;
pub mod person;
mod submit;
mod tables;
mod trouble;
mod waits;
