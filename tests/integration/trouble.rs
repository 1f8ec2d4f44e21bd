//! `docs/TROUBLE.md` quotes what the program and its scripts say: each quotation must still be said.

use std::path::Path;

/// Shorter pieces are names and numbers.
const TELLING_CHARS: usize = 12;

fn texts(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            texts(&path, into);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            into.push_str(&text);
        }
    }
}

/// A text of the sources as it is printed: one line, without escapes; what is filled in ends a piece.
fn printed(text: &str) -> String {
    let joined = text.replace("\\\n", "\u{0}").replace("\\\"", "\"");
    let mut parts = joined.split('\u{0}');
    let mut line = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| line.push_str(part.trim_start()));
    line
}

#[test]
fn every_message_that_trouble_explains_is_said_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut said = String::new();
    texts(&root.join("src"), &mut said);
    texts(&root.join("openrc"), &mut said);
    // Of the command line's library, and of OpenRC.
    said.push_str("Unrecognized argument Capabilities support not enabled");
    let said = printed(&said);
    let page = std::fs::read_to_string(root.join("docs/TROUBLE.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    let pieces: Vec<&str> = quoted
        .flat_map(|quotation| quotation.split(['…', ':', '(', '"', 'N', '/']))
        .map(str::trim)
        .filter(|piece| piece.chars().count() >= TELLING_CHARS && piece.contains(' '))
        .collect();
    assert!(pieces.len() > 40, "only {pieces:?}");
    let unsaid: Vec<_> = pieces.iter().filter(|piece| !said.contains(**piece)).collect();
    assert!(unsaid.is_empty(), "nothing says these any more: {unsaid:#?}");
}
