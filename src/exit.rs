//! What the process's exit code tells the one who started it (a person, OpenRC, a script).
//!
//! Numbers of `sysexits.h`, so that a supervisor can tell "do not restart me" from "try again".
//! Not here: the lines that are printed beside them; each error says its own.

/// Done, or stopped as asked.
pub const OK: u8 = 0;
/// The command line was wrong. The same number as [`CONFIG`]: both are cured by editing, not by a
/// restart.
pub const USAGE: u8 = 64;
/// The configuration was wrong.
pub const CONFIG: u8 = 64;
/// The address is taken, or may not be listened on.
pub const PORT_IN_USE: u8 = 69;
/// A fault of the program itself; the log says which.
pub const INTERNAL: u8 = 70;
/// The data directory or its files cannot be used.
pub const STORE: u8 = 74;
