//! What stdout is: a terminal with a width and perhaps colours, or a pipe that wants neither.

use rustix::termios::tcgetwinsize;
use std::io::{self, IsTerminal};

/// Columns where a terminal does not say how many it has.
const USUAL_COLUMNS: usize = 80;

/// Where answers go.
pub struct Screen {
    pub is_terminal: bool,
    /// Columns; nothing is cut where there are none.
    pub columns: Option<usize>,
    colour: bool,
}

/// What a word means, shown by colour beside the word itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Head,
    Good,
    Busy,
    Bad,
    Faint,
}

impl Screen {
    /// `colour`: whether the person wants any.
    pub fn of_stdout(colour: bool) -> Screen {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let columns = is_terminal.then(|| match tcgetwinsize(&out) {
            Ok(size) if size.ws_col > 0 => size.ws_col.into(),
            _ => USUAL_COLUMNS,
        });
        Screen { is_terminal, columns, colour: colour && is_terminal }
    }

    /// The text in the colour of its meaning.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if !self.colour => return text.to_owned(),
            Paint::Plain => return text.to_owned(),
            Paint::Head => 1,
            Paint::Good => 32,
            Paint::Busy => 36,
            Paint::Bad => 31,
            Paint::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    #[cfg(test)]
    pub fn for_test(columns: Option<usize>, colour: bool) -> Screen {
        Screen { is_terminal: columns.is_some(), columns, colour }
    }
}

/// The colour of a status, of a task or of a worker.
pub fn status_paint(status: &str) -> Paint {
    match status {
        "completed" | "online" | "success" => Paint::Good,
        "leased" | "running" | "draining" | "cooling" | "syncing" => Paint::Busy,
        "failed" | "dead" | "error" | "expired" => Paint::Bad,
        "cancelled" | "offline" | "unknown" | "released" => Paint::Faint,
        _ => Paint::Plain,
    }
}
