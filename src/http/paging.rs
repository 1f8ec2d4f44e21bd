//! Which page of a list is asked for.
//!
//! Must stay true: a page has at least one row and at most `ROWS_MAX` (P9); a cursor is read back in the
//! one spelling in which it was given. It is opaque to callers: the sequence of a page's last row. Not
//! here: what a page holds (`engine::query`).

/// Rows of a page at the most, and without a `limit`.
pub const ROWS_MAX: usize = 1_000;

/// The text is no cursor that was ever given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCursor;

/// The rows that `limit=` asks for. Leading digits count; none, 0 or nonsense mean the default
/// (`CONTRACT §3`, audit).
pub fn limit(text: Option<&str>, default: usize) -> usize {
    let digits = text.unwrap_or("").trim_start();
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    let wanted = digits.bytes().fold(0usize, |sum, digit| {
        sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
    });
    if wanted == 0 { default } else { wanted.min(ROWS_MAX) }
}

/// The sequence that `cursor=` stands for; none without one, or with an empty one.
pub fn cursor(text: Option<&str>) -> Result<Option<u64>, BadCursor> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seq = u64::from_str_radix(text, 16).map_err(|_| BadCursor)?;
    if print(seq) == text { Ok(Some(seq)) } else { Err(BadCursor) }
}

/// A sequence as a cursor.
pub fn print(seq: u64) -> String {
    format!("{seq:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_the_original_reads_it_but_never_above_the_most() {
        for (text, rows) in [
            (None, 100),
            (Some(""), 100),
            (Some("0"), 100),
            (Some("-1"), 100),
            (Some("abc"), 100),
            (Some("1abc"), 1),
            (Some(" 7"), 7),
            (Some("2.9"), 2),
            (Some("1000"), 1000),
            (Some("1001"), 1000),
            (Some("1000000000000000000000"), 1000),
        ] {
            assert_eq!(limit(text, 100), rows, "{text:?}");
        }
    }

    #[test]
    fn a_cursor_is_read_in_the_spelling_in_which_it_was_given() {
        assert_eq!((cursor(None), cursor(Some(""))), (Ok(None), Ok(None)));
        assert_eq!(cursor(Some("1f")), Ok(Some(0x1f)));
        assert_eq!(cursor(Some("ffffffffffffffff")), Ok(Some(u64::MAX)));
        for text in ["+1f", "01f", "1F", "-1", " 1", "0x1", "10000000000000000", "ж"] {
            assert_eq!(cursor(Some(text)), Err(BadCursor), "{text}");
        }
    }
}
