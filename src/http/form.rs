//! Percent-encoding: one path segment, and a urlencoded body.
//!
//! What must stay true: what cannot be decoded is a fault and never guessed at (CONTRACT §1: a broken
//! escape is 400), and a body of few bytes never becomes a large list (P9).
//! Deliberately not here: nested fields (`a[b]=c`); a urlencoded body is a flat object of strings.

use std::fmt;

/// Fields that a urlencoded body may have, as in the system we replace.
const MAX_FIELDS: usize = 1000;

/// Why a percent-encoded text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFault {
    /// A `%` without two hexadecimal digits.
    BrokenEscape,
    /// The decoded bytes are not UTF-8.
    NotUtf8,
    /// More than 1000 fields.
    TooManyFields,
}

impl fmt::Display for DecodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeFault::BrokenEscape => "a % without two hexadecimal digits behind it",
            DecodeFault::NotUtf8 => "percent-encoded bytes that are not UTF-8",
            DecodeFault::TooManyFields => "more than 1000 fields",
        })
    }
}

/// Decodes one segment of a path, in which `%2F` is a slash of the id itself and `+` a plus.
pub fn decode_segment(segment: &str) -> Result<String, DecodeFault> {
    decode(segment.as_bytes(), false)
}

/// The fields of a urlencoded body (or of a query) in their order, duplicates included; `+` is a blank
/// and a field without `=` has the value `""`.
pub fn parse_form(body: &[u8]) -> Result<Vec<(String, String)>, DecodeFault> {
    let mut fields = Vec::new();
    for field in body.split(|b| *b == b'&').filter(|field| !field.is_empty()) {
        if fields.len() == MAX_FIELDS {
            return Err(DecodeFault::TooManyFields);
        }
        let equals = field.iter().position(|b| *b == b'=').unwrap_or(field.len());
        let value = field.get(equals + 1..).unwrap_or_default();
        fields.push((decode(&field[..equals], true)?, decode(value, true)?));
    }
    Ok(fields)
}

/// A value as it stands in a query: everything but unreserved characters (RFC 3986) is escaped.
pub fn encode_value(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte as char);
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn decode(encoded: &[u8], plus_is_blank: bool) -> Result<String, DecodeFault> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'+' if plus_is_blank => b' ',
            b'%' => {
                let (digits, behind) =
                    rest.split_first_chunk::<2>().ok_or(DecodeFault::BrokenEscape)?;
                rest = behind;
                hex(digits[0])? << 4 | hex(digits[1])?
            }
            _ => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| DecodeFault::NotUtf8)
}

fn hex(digit: u8) -> Result<u8, DecodeFault> {
    let value = char::from(digit).to_digit(16).ok_or(DecodeFault::BrokenEscape)?;
    Ok(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_decoded_as_one_id() {
        for (segment, id) in [
            ("a%2Fb", "a/b"),
            ("a%2fb%25", "a/b%"),
            ("a+b", "a+b"),
            ("%D0%BA", "к"),
            ("%00", "\0"),
            ("", ""),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), Ok(id));
        }
        for broken in ["%", "a%2", "%zz", "%+1", "% 1", "%2%46"] {
            assert_eq!(decode_segment(broken), Err(DecodeFault::BrokenEscape), "{broken}");
        }
        assert_eq!(decode_segment("%ff"), Err(DecodeFault::NotUtf8));
    }

    #[test]
    fn a_form_is_a_list_of_fields() {
        let fields = parse_form(b"a=1+2&&b=%3D%26=x&c&=d&a=%2B&").unwrap();
        let expected = [("a", "1 2"), ("b", "=&=x"), ("c", ""), ("", "d"), ("a", "+")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, expected);
        assert_eq!(parse_form(b""), Ok(vec![]));
        assert_eq!(parse_form(b"a=%"), Err(DecodeFault::BrokenEscape));
        assert_eq!(parse_form(b"a=\xff"), Err(DecodeFault::NotUtf8));
    }

    #[test]
    fn a_form_of_very_many_fields_is_refused() {
        assert_eq!(parse_form(&b"a&".repeat(1000)).unwrap().len(), 1000);
        assert_eq!(parse_form(&b"a&".repeat(1001)), Err(DecodeFault::TooManyFields));
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text: String) {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            proptest::prop_assert_eq!(decode_segment(&encoded), Ok(text.clone()));
            proptest::prop_assert_eq!(parse_form(encoded.as_bytes()).unwrap().len(), usize::from(!text.is_empty()));
        }
    }
}
