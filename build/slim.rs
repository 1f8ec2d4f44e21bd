//! Drops what only people read: comments that have lines of their own, and blanks before a line.
//!
//! Must stay true: what is left means the same. A text over several lines would lose its blanks, so a
//! script whose back-quotes do not pair up in each line is refused. Not here: what happens to it then.

/// A script without its comments.
pub fn script(name: &str, text: &str) -> Result<String, String> {
    let odd = |line: &str| line.matches('`').count() % 2 == 1;
    match text.lines().position(odd) {
        Some(number) => Err(format!("web/{name}:{}: a text over several lines", number + 1)),
        None => Ok(lines(text, "/**", Some("//"))),
    }
}

pub fn style(text: &str) -> String {
    lines(text, "/*", None)
}

pub fn words(text: &str) -> String {
    text.lines().map(str::trim).collect()
}

/// The lines that are no comment, of which one may go over several lines.
fn lines(text: &str, opening: &str, single: Option<&str>) -> String {
    let mut slim = String::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim) {
        let begins = !is_open && line.starts_with(opening);
        if begins || is_open {
            is_open = !line.ends_with("*/");
        } else if !line.is_empty() && !single.is_some_and(|mark| line.starts_with(mark)) {
            slim.push_str(line);
            slim.push('\n');
        }
    }
    slim
}
