//! Rows in aligned columns that fit the screen.
//!
//! Must stay true: a line is never wider than the terminal; ids are never cut, since they are there to
//! be copied, as long as one fits at all. On a pipe nothing is cut. Not here: what the columns are.

use super::screen::{Paint, Screen};
use super::text::{cut, one_line, width};

/// Blanks between two columns.
const GAP: usize = 2;
/// A column that gives way keeps this many.
const NARROWEST: usize = 4;

/// One value and how it is painted.
pub struct Cell {
    text: String,
    paint: Paint,
}

/// A value of the data, safe to show.
pub fn cell(text: impl AsRef<str>) -> Cell {
    painted(Paint::Plain, text)
}

/// The same in a colour.
pub fn painted(paint: Paint, text: impl AsRef<str>) -> Cell {
    Cell { text: one_line(text.as_ref()), paint }
}

/// How a column behaves where there is too little room.
#[derive(Clone, Copy, PartialEq)]
pub enum Column {
    Whole(&'static str),
    GivesWay(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Whole(title) | Column::GivesWay(title) => title,
        }
    }
}

/// The table as text, with its head; every line ends with a line end.
pub fn table(screen: &Screen, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let widths = widths(screen, columns, rows);
    let head: Vec<_> = columns.iter().map(|column| painted(Paint::Head, column.title())).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut room = screen.columns.unwrap_or(usize::MAX);
        for (place, (cell, columns)) in row.iter().zip(&widths).enumerate() {
            let shown = cut(&cell.text, (*columns).min(room));
            let taken = width(&shown);
            text.push_str(&screen.paint(cell.paint, &shown));
            room = room.saturating_sub(columns + GAP);
            if place + 1 == row.len() || room == 0 {
                break;
            }
            text.push_str(&" ".repeat(columns - taken + GAP));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Each column as wide as its widest value; while that is too much, the widest that may gives way.
fn widths(screen: &Screen, columns: &[Column], rows: &[Vec<Cell>]) -> Vec<usize> {
    let widest = |place: usize| rows.iter().map(|row| width(&row[place].text)).max().unwrap_or(0);
    let heads = columns.iter().map(|column| width(column.title()));
    let mut widths: Vec<usize> =
        heads.enumerate().map(|(place, head)| head.max(widest(place))).collect();
    let Some(room) = screen.columns else { return widths };
    loop {
        let total = widths.iter().sum::<usize>() + GAP * (columns.len() - 1);
        let may = (0..columns.len()).filter(|place| matches!(columns[*place], Column::GivesWay(_)));
        let Some(place) = may.max_by_key(|place| widths[*place]) else { return widths };
        if total <= room || widths[place] <= NARROWEST {
            return widths;
        }
        widths[place] = NARROWEST.max(widths[place] - (total - room).min(widths[place] / 8 + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Column::{GivesWay, Whole};

    const COLUMNS: [Column; 3] = [Whole("ID"), GivesWay("AGENT"), GivesWay("PROMPT")];

    fn rows() -> Vec<Vec<Cell>> {
        let row =
            |id, agent, prompt: &str| vec![cell(id), painted(Paint::Good, agent), cell(prompt)];
        vec![
            row("0001", "writer", &"tomato ".repeat(20)),
            row("0002", "日本", "a\n\x1b[2Jb"),
            row("0003", &"agent".repeat(20), ""),
        ]
    }

    #[test]
    fn a_table_is_aligned_and_fits_every_terminal() {
        for columns in 1..300 {
            let text = table(&Screen::for_test(Some(columns), false), &COLUMNS, &rows());
            for line in text.lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
                assert!(columns < 4 || line.starts_with(['0', 'I']), "{columns}: {line}");
            }
        }
        let text = table(&Screen::for_test(Some(40), false), &COLUMNS, &rows());
        let lines: Vec<&str> = text.lines().collect();
        let prompt = lines[0].find("PROMPT").unwrap();
        assert!(lines[1][prompt..].starts_with("tomato"), "{text}");
        assert!(lines[1].ends_with('…') && lines[3].ends_with('…'), "{text}");
    }

    #[test]
    fn a_pipe_gets_everything_and_no_colour() {
        let text = table(&Screen::for_test(None, false), &COLUMNS, &rows());
        assert!(text.contains(&"agent".repeat(20)), "{text}");
        assert!(text.contains("tomato ".repeat(20).trim()), "{text}");
        assert!(text.contains(r"a \u{1b}[2Jb"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains('\t'), "{text}");
    }

    #[test]
    fn a_colour_takes_no_room() {
        let plain = table(&Screen::for_test(Some(60), false), &COLUMNS, &rows());
        let colourful = table(&Screen::for_test(Some(60), true), &COLUMNS, &rows());
        let bare = colourful.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
        assert_eq!(bare, plain);
        assert_ne!(colourful, plain);
    }
}
