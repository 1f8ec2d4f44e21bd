//! The grammar of an env file such as `/etc/bloom-runtime.env`.
//!
//! One `NAME=value` or `export NAME=value` a line, as a shell reads it: `'single'` quotes are
//! literal, `"double"` quotes know `\"`, `\\`, `\$` and `` \` ``, outside of quotes a backslash takes
//! the next character as it is and `#` after a blank begins a comment. A line may also be a comment
//! that begins with `;`, as in systemd. Blank lines, CRLF and a BOM are fine; of two lines for one name
//! the last counts; names that we do not know are ignored.
//!
//! What must stay true: a fault never repeats anything of its line, which may be a secret (P10).
//! Deliberately not here: `$VAR` and commands. A `$` is a dollar sign, as in systemd; but `$(…)`,
//! `${…}` and backticks for a name that we use are a fault, because to take `$(cat key)` for the key
//! itself would be a key that anyone can guess.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, shown};

/// Every existing env file has these and some of them for a shell; what it would expand counts as not
/// set (CONTRACT §5).
const MUST_NOT_STOP_A_START: [&str; 2] = ["DATABASE_URL", "SESSION_SECRET"];

/// A value and the line it stood on. No `Debug`: the value may be a secret (P10).
pub struct Entry {
    pub value: String,
    pub line: usize,
}

/// Reads the text of the env file at `path`; `is_known` says which names are ours.
///
/// # Errors
/// The first line that is broken, as `path:line`.
pub fn parse(
    path: &Path,
    text: &str,
    is_known: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let mut entries = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let broken = |fault: &str| {
            let place =
                format!("{}:{line_number}", shown(&path.to_string_lossy()).trim_matches('"'));
            ConfigError::new(place, fault, "PORT=5000")
        };
        match parse_line(line).map_err(broken)? {
            Line::Nothing => {}
            Line::Pair { name, .. } if !is_known(name) => {}
            Line::Pair { name, expands: true, .. } if MUST_NOT_STOP_A_START.contains(&name) => {
                entries.remove(name);
            }
            Line::Pair { expands: true, .. } => {
                return Err(broken(
                    "commands and ${…} are not expanded in this file: write the value itself, in \
                     single quotes if it has these characters",
                ));
            }
            Line::Pair { name, value, .. } => {
                entries.insert(name.to_owned(), Entry { value, line: line_number });
            }
        }
    }
    Ok(entries)
}

enum Line<'a> {
    Nothing,
    /// `expands`: a shell would run or expand something in it.
    Pair {
        name: &'a str,
        value: String,
        expands: bool,
    },
}

fn parse_line(line: &str) -> Result<Line<'_>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a control character");
    }
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let assignment = exported.unwrap_or(line).trim_start();
    let Some((name, value)) = assignment.split_once('=') else {
        // `export PORT` on a line of its own only matters to a shell.
        let only_names = exported.is_some() && assignment.split_whitespace().all(is_name);
        return if only_names { Ok(Line::Nothing) } else { Err("no = in this line") };
    };
    if name.ends_with([' ', '\t']) {
        return Err("a blank before the =");
    }
    if !is_name(name) {
        return Err("a name may only have letters, digits and _, and begins with no digit");
    }
    let (value, expands) = parse_value(value)?;
    Ok(Line::Pair { name, value, expands })
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[derive(PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

/// The value's text, and whether a shell would expand something in it.
fn parse_value(raw: &str) -> Result<(String, bool), &'static str> {
    let mut value = String::new();
    let mut kept_bytes = 0; // blanks after this are outside of quotes and trail
    let mut quote = Quote::None;
    let mut expands = false;
    let mut after_blank = false;
    let mut chars = raw.trim_start().chars().peekable();
    if raw.starts_with([' ', '\t']) {
        after_blank = true;
    }
    while let Some(c) = chars.next() {
        match (&quote, c) {
            (Quote::None, '#') if after_blank => break,
            (Quote::None, ' ' | '\t') => {
                value.push(c);
                after_blank = true;
                continue;
            }
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::None, '\\') => value.push(chars.next().ok_or("a backslash at the end")?),
            (Quote::Double, '\\') => match chars.next_if(|next| "\"\\$`".contains(*next)) {
                Some(escaped) => value.push(escaped),
                None => value.push('\\'),
            },
            _ => {
                let next = chars.peek();
                expands |= quote != Quote::Single
                    && (c == '`' || c == '$' && matches!(next, Some('(' | '{')));
                value.push(c);
            }
        }
        after_blank = false;
        kept_bytes = value.len();
    }
    if quote != Quote::None {
        return Err("a quote that is not closed on its line");
    }
    value.truncate(kept_bytes);
    Ok((value, expands))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let entries = parse(Path::new("/etc/test.env"), text, |name| name != "UNKNOWN").unwrap();
        entries.into_iter().map(|(name, entry)| (name, entry.value)).collect()
    }

    #[test]
    fn a_value_is_read_as_a_shell_reads_it() {
        for (raw, value) in [
            ("5000", "5000"),
            ("", ""),
            ("  x  ", "x"),
            ("a b # comment", "a b"),
            ("a#b", "a#b"),
            ("#a", "#a"),
            (" # comment", ""),
            (r#""a b" # comment"#, "a b"),
            (r#"" a ""#, " a "),
            (r"'it is $5 `x` \'", r"it is $5 `x` \"),
            (r#""a\"b\\c\$d\n""#, r#"a"b\c$d\n"#),
            (r"a\ \#b\'", r"a #b'"),
            (r#""a"'b'c"#, "abc"),
            ("pa$$word$x", "pa$$word$x"),
            ("''", ""),
            ("postgres://u:p=w@h/db?x=1", "postgres://u:p=w@h/db?x=1"),
            ("ключ", "ключ"),
        ] {
            assert_eq!(values(&format!("A={raw}")), [("A".into(), value.into())], "{raw}");
        }
    }

    #[test]
    fn comments_blank_lines_bom_crlf_export_and_unknown_names_are_fine() {
        let text = "\u{feff}# head\r\n; head\r\n\r\nexport A=1\r\n\t export\tB='2'\r\nUNKNOWN=\"$(id)\"\r\n\
                    A=3\r\nexport A B\r\n";
        assert_eq!(values(text), [("A".into(), "3".into()), ("B".into(), "2".into())]);
        let entries = parse(Path::new("f"), "\nA=1\nA=2", |_| true).unwrap();
        assert_eq!((entries["A"].value.as_str(), entries["A"].line), ("2", 3));
    }

    #[test]
    fn a_session_secret_written_for_a_shell_counts_as_not_set() {
        let text =
            "SESSION_SECRET=x\nSESSION_SECRET=$(openssl rand -hex 32)\nDATABASE_URL=${DB}\nA=1";
        assert_eq!(values(text), [("A".into(), "1".into())]);
    }

    #[test]
    fn a_broken_line_is_named_and_none_of_it_is_repeated() {
        for line in [
            "hunter2",
            "export hunter2-",
            "hunter2 = x",
            "9hunter2=x",
            "-hunter2=x",
            "=hunter2",
            "A='hunter2",
            "A=\"hunter2",
            "A=hunter2\\",
            "A=hunter2\0",
            "A=$(cat hunter2)",
            "A=\"${hunter2}\"",
            "A=`hunter2`",
        ] {
            let error =
                parse(Path::new("/etc/x.env"), &format!("\n{line}"), |_| true).err().unwrap();
            let text = error.to_string();
            assert!(text.starts_with("/etc/x.env:2: "), "{text}");
            assert!(text.ends_with("; write for example PORT=5000"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s)([A-C =#'\"\\\\$`(\n\r\t]|.){0,60}") {
            let _ = parse(Path::new("f"), &text, |_| true);
        }

        #[test]
        fn any_single_line_survives_single_quotes(value in "[^'\\p{Cc}]{0,30}") {
            proptest::prop_assert_eq!(values(&format!("A='{value}'")), [("A".to_owned(), value)]);
        }
    }
}
