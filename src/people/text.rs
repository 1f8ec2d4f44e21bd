//! Text that others wrote, made safe for a terminal and measured in its columns.
//!
//! Must stay true: no control character of the data reaches a terminal, where it could move the cursor,
//! change the title or type an answer; nor does one that turns the direction of reading around, which
//! could show `rm` as something else. They are shown as `\u{1b}`. Letters that are read from right to
//! left stay as they are. Not here: colours, which are ours.

/// One line: runs of blanks and line ends become one space.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c.is_whitespace() {
            true if line.ends_with(' ') => {}
            true => line.push(' '),
            false => push_shown(&mut line, c),
        }
    }
    line
}

/// Several lines, each as it was.
pub fn lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => lines.push('\n'),
            '\t' => lines.push_str("    "),
            c => push_shown(&mut lines, c),
        }
    }
    lines
}

/// The beginning of a line that fits `columns`, with `…` in place of the rest.
pub fn cut(line: &str, columns: usize) -> String {
    if width(line) <= columns {
        return line.to_owned();
    }
    let mut taken = 0;
    let fits = |c: &char| {
        taken += columns_of(*c);
        taken < columns
    };
    let start: String = line.chars().take_while(fits).collect();
    if columns == 0 { String::new() } else { start + "…" }
}

/// How many columns a line takes.
pub fn width(line: &str) -> usize {
    line.chars().map(columns_of).sum()
}

fn push_shown(text: &mut String, c: char) {
    match c.is_control() || is_hidden(c) {
        true => text.extend(c.escape_unicode()),
        false => text.push(c),
    }
}

/// Marks of direction, separators of lines and tags: nothing to see, but not without effect.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// After Unicode's East Asian Width, in rough ranges: a wrong guess costs a ragged column, no more.
fn columns_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_done() {
        let hostile = "a\x1b[2J\x07b\u{9b}31m\u{202e}c\0";
        let shown = r"a\u{1b}[2J\u{7}b\u{9b}31m\u{202e}c\u{0}";
        assert_eq!((one_line(hostile).as_str(), lines(hostile).as_str()), (shown, shown));
        assert_eq!(one_line(" a\r\n\n\tb  c "), "a b c");
        assert_eq!(lines("a\r\n\tb\rc\n"), "a\n    b\\u{d}c\n");
        assert_eq!(one_line("שלום مرحبا"), "שלום مرحبا");
    }

    #[test]
    fn a_line_is_cut_to_its_columns() {
        assert_eq!(cut("tomatoes", 8), "tomatoes");
        assert_eq!(cut("tomatoes", 5), "toma…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("abc", 1).as_str(), cut("abc", 0).as_str()), ("…", ""));
        assert_eq!((width("e\u{301}é"), width("日本語"), width("🍅")), (2, 6, 2));
    }

    proptest::proptest! {
        #[test]
        fn no_text_gets_a_control_character_through(text in ".*", columns in 0..40usize) {
            let line = one_line(&text);
            proptest::prop_assert!(!line.contains(char::is_control));
            proptest::prop_assert!(width(&cut(&line, columns)) <= columns);
            proptest::prop_assert!(!lines(&text).contains(|c: char| c.is_control() && c != '\n'));
        }
    }
}
