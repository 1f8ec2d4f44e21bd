//! What the process's exit code tells the one who started it (a person, OpenRC, a script).
//!
//! Numbers of `sysexits.h`, so that a supervisor can tell "do not restart me" from "try again".
//! Not here: the lines that are printed beside them; each error says its own.

/// Done, or stopped as asked.
pub const OK: u8 = 0;
/// The task that was waited for failed.
pub const TASK_FAILED: u8 = 1;
/// The task that was waited for is dead: its attempts are used up.
pub const TASK_DEAD: u8 = 2;
/// The task that was waited for was cancelled.
pub const TASK_CANCELLED: u8 = 3;
/// The command line was wrong. The same number as [`CONFIG`]: both are cured by editing, not by a
/// restart.
pub const USAGE: u8 = 64;
/// The configuration was wrong.
pub const CONFIG: u8 = 64;
/// The server refuses what was asked: no such task, a state that does not allow it, a wrong field.
pub const REFUSED: u8 = 65;
/// A file or stdin that a command was to read cannot be read.
pub const NO_INPUT: u8 = 66;
/// No server answers where one was looked for.
pub const UNREACHABLE: u8 = 69;
/// The address is taken, or may not be listened on.
pub const PORT_IN_USE: u8 = 69;
/// A fault of the program itself; the log says which.
pub const INTERNAL: u8 = 70;
/// The data directory or its files cannot be used.
pub const STORE: u8 = 74;
/// What a command says cannot be written.
pub const NO_OUTPUT: u8 = 74;
/// Not now; the same may work later.
pub const TRY_LATER: u8 = 75;
/// What answers is no server of ours, or one that does not know this call yet.
pub const PROTOCOL: u8 = 76;
/// The server refuses the key.
pub const KEY_REFUSED: u8 = 77;
/// Ctrl-C while waiting; the same number as a shell gives it.
pub const INTERRUPTED: u8 = 130;
