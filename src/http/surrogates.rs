//! Lone surrogates in a JSON text (CONTRACT §1: "a lone surrogate becomes U+FFFD").
//!
//! JavaScript strings may hold half of a UTF-16 pair and `JSON.stringify` writes it as `\ud800`; a Rust
//! string cannot, so serde_json refuses the whole body. Here the half is written as `\ufffd` before it
//! is parsed. What must stay true: any other byte stays as it is, and so does every body that serde_json
//! would have accepted. Deliberately not here: checking that the text is JSON at all.

use std::borrow::Cow;

/// Length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// The same JSON text with every unpaired surrogate escape replaced by `\ufffd`; borrowed when there is
/// none, which costs one pass over the backslashes.
pub fn mend(body: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Cow::Borrowed(body);
    let mut at = 0;
    // In JSON a backslash only occurs within a string, so no more needs to be known of the grammar.
    while let Some(offset) = body[at..].iter().position(|b| *b == b'\\') {
        at += offset;
        at += match code_unit(&body[at..]) {
            // `\\`, `\n` and so on: the second byte begins no escape of its own.
            None => 2,
            Some(0xd800..=0xdbff) if is_low_surrogate(body.get(at + ESCAPE_BYTES..)) => {
                2 * ESCAPE_BYTES
            }
            Some(0xd800..=0xdfff) => {
                mended.to_mut()[at..at + ESCAPE_BYTES].copy_from_slice(b"\\ufffd");
                ESCAPE_BYTES
            }
            Some(_) => ESCAPE_BYTES,
        };
        if at >= body.len() {
            break;
        }
    }
    mended
}

fn is_low_surrogate(text: Option<&[u8]>) -> bool {
    matches!(text.and_then(code_unit), Some(0xdc00..=0xdfff))
}

/// The value of the `\uXXXX` that `text` begins with.
fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_lone_surrogate_is_replaced() {
        for (text, mended) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\uDFFF""#, r#""\ufffd""#),
            (r#""\ud800\ud800\udc00""#, r#""\ufffd\ud800\udc00""#),
            (r#""\udc00\ud800""#, r#""\ufffd\ufffd""#),
            (r#""\ud800\n""#, r#""\ufffd\n""#),
            (r#""\ud800\\udc00""#, r#""\ufffd\\udc00""#),
            (r#""\\\ud800""#, r#""\\\ufffd""#),
        ] {
            assert_eq!(mend(text.as_bytes()), mended.as_bytes(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_borrowed_as_it_is() {
        for text in [
            "",
            "\\",
            "{\"a\":\"\\",
            r#""\u"#,
            r#""\ud8"#,
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\u0041""#,
            r#""\\ud800""#,
            r#""\\\\udc00 ud800""#,
            "no escape at all \u{fffd}",
        ] {
            assert!(matches!(mend(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
        assert!(matches!(mend(b"\xff\\\xff"), Cow::Borrowed(_)));
    }

    /// A piece of a string literal and the UTF-16 that it stands for.
    fn piece() -> impl Strategy<Value = (String, Vec<u16>)> {
        let escape = |unit: u16| (format!("\\u{unit:04x}"), vec![unit]);
        prop_oneof![
            any::<u16>().prop_map(escape),
            (0xd800..=0xdfff_u16).prop_map(escape),
            (0xd800..=0xdfff_u16).prop_map(|unit| (format!("\\u{unit:04X}"), vec![unit])),
            Just((r"\\".to_owned(), vec![u16::from(b'\\')])),
            Just((r#"\""#.to_owned(), vec![u16::from(b'"')])),
            Just((r"\n".to_owned(), vec![u16::from(b'\n')])),
            Just(("ud800".to_owned(), "ud800".encode_utf16().collect())),
            any::<char>()
                .prop_filter("stands for itself", |c| *c >= ' ' && !"\"\\".contains(*c))
                .prop_map(|c| (c.to_string(), c.to_string().encode_utf16().collect())),
        ]
    }

    proptest! {
        #[test]
        fn any_literal_parses_to_what_javascript_reads(pieces in prop::collection::vec(piece(), 0..12)) {
            let literal: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
            let literal = format!("\"{literal}\"");
            let units: Vec<u16> = pieces.into_iter().flat_map(|(_, units)| units).collect();
            let mended = mend(literal.as_bytes());
            let parsed: String = serde_json::from_slice(&mended).unwrap();
            prop_assert_eq!(&parsed, &String::from_utf16_lossy(&units));
            let unmended = serde_json::from_str::<String>(&literal);
            prop_assert_eq!(unmended.is_ok(), matches!(mended, Cow::Borrowed(_)));
            prop_assert!(unmended.is_err() || unmended.unwrap() == parsed);
        }

        #[test]
        fn no_bytes_make_it_panic_or_change_their_length(body in "[\\\\uUdD8fFcC0\"x]{0,40}") {
            prop_assert_eq!(mend(body.as_bytes()).len(), body.len());
        }
    }
}
