//! The progress lines of one run that wait for the next heartbeat.
//!
//! Must stay true: bounded, whatever Claude writes and however long the server is away; what had to
//! be let go is counted and said. Not here: where lines come from ([`super::stream`]) and how they
//! are sent ([`super::lease`]).

use std::collections::VecDeque;

/// The most lines that wait, and that one heartbeat carries: a server keeps no more of a call.
const LINES_MAX: usize = 200;
/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 500;

/// Lines in the order in which they came, the oldest let go first.
#[derive(Default)]
pub struct Lines {
    waiting: VecDeque<String>,
    let_go: usize,
}

impl Lines {
    pub fn push(&mut self, line: &str) {
        self.waiting.push_back(one_line(line, LINE_CHARS_MAX));
        // One place is kept for the line that tells of those let go.
        while self.waiting.len() >= LINES_MAX {
            self.waiting.pop_front();
            self.let_go += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything that waits.
    pub fn take(&mut self) -> Vec<String> {
        let let_go = std::mem::take(&mut self.let_go);
        let said = (let_go > 0).then(|| format!("… {let_go} lines left out"));
        said.into_iter().chain(self.waiting.drain(..)).collect()
    }

    /// Lines that could not be sent stand before what has come since.
    pub fn give_back(&mut self, mut lines: Vec<String>) {
        lines.extend(self.waiting.drain(..));
        lines.iter().for_each(|line| self.push(line));
    }
}

/// The text on one line, its blanks made one, cut after `chars_max` characters.
pub fn one_line(text: &str, chars_max: usize) -> String {
    // A word costs at least a character and a blank: more words than this cannot fit.
    let words = text.split_whitespace().take(chars_max).collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_keeps_the_newest_and_says_how_many_are_gone() {
        let mut lines = Lines::default();
        (0..1000).for_each(|n| lines.push(&format!("line {n}")));
        let taken = lines.take();
        assert_eq!(taken.len(), LINES_MAX);
        assert_eq!(taken[0], "… 801 lines left out");
        assert_eq!((taken[1].as_str(), taken[199].as_str()), ("line 801", "line 999"));
        assert!(lines.is_empty() && lines.take().is_empty());
    }

    #[test]
    fn lines_that_could_not_be_sent_come_first_the_next_time() {
        let mut lines = Lines::default();
        lines.push("one");
        let taken = lines.take();
        lines.push("two");
        lines.give_back(taken);
        assert_eq!(lines.take(), ["one", "two"]);
    }

    #[test]
    fn a_line_is_one_line_and_short() {
        let long = format!("first\n\n second {}", "ї ".repeat(100_000));
        let line = one_line(&long, 20);
        assert_eq!(line, "first second ї ї ї ї…");
        assert_eq!(one_line("short\tand\r\nneat\n", 20), "short and neat");
    }
}
