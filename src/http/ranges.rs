//! What a caller wants of a file: all of it, a part, or nothing because it has it (RFC 9110 §13, §14).
//!
//! Must stay true: what cannot be understood counts as not sent; of several parts all is sent. Not here:
//! the bytes.

use hyper::header::{HeaderMap, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    /// From the first byte to the last one, both counted from 0.
    Part {
        first: u64,
        last: u64,
    },
    /// The caller has it.
    NotModified,
    /// Nothing of what was asked for is there.
    OutOfRange,
}

/// What these headers ask for of `length` bytes under this tag, which is strong and has its quotes.
pub fn wanted(headers: &HeaderMap, tag: &str, length: u64) -> Wanted {
    if headers.contains_key(IF_NONE_MATCH) {
        let mut tags = listed(headers, IF_NONE_MATCH);
        if tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag) {
            return Wanted::NotModified;
        }
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(range) = text(RANGE) else { return Wanted::Whole };
    if headers.contains_key(IF_RANGE) && text(IF_RANGE) != Some(tag) {
        return Wanted::Whole;
    }
    part(range, length).unwrap_or(Wanted::Whole)
}

fn part(range: &str, length: u64) -> Option<Wanted> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first.is_empty(), last.is_empty()) {
        // The last so many bytes.
        (true, _) => match number(last)? {
            0 => return Some(Wanted::OutOfRange),
            suffix => (length.saturating_sub(suffix), length.saturating_sub(1)),
        },
        (false, true) => (number(first)?, length.saturating_sub(1)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.min(length.saturating_sub(1)))
        }
    };
    Some(if first < length { Wanted::Part { first, last } } else { Wanted::OutOfRange })
}

fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn ask(pairs: &[(HeaderName, &'static str)], length: u64) -> Wanted {
        let pairs = pairs.iter().map(|(name, text)| (name.clone(), HeaderValue::from_static(text)));
        wanted(&HeaderMap::from_iter(pairs), "\"t\"", length)
    }

    #[test]
    fn a_range_is_a_part_or_out_of_range_and_nonsense_is_the_whole() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, length, expected) in [
            ("bytes=0-4", 10, part(0, 4)),
            ("Bytes=3-", 10, part(3, 9)),
            ("bytes=-4", 10, part(6, 9)),
            ("bytes=-40", 10, part(0, 9)),
            ("bytes=8-99999999999999999999", 10, part(8, 9)),
            ("bytes=10-", 10, Wanted::OutOfRange),
            ("bytes=0-", 0, Wanted::OutOfRange),
            ("bytes=-0", 10, Wanted::OutOfRange),
            ("bytes=-5", 0, Wanted::OutOfRange),
            ("bytes=4-3", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes", 10, Wanted::Whole),
        ] {
            assert_eq!(ask(&[(RANGE, range)], length), expected, "{range} of {length}");
        }
    }

    #[test]
    fn who_has_it_gets_nothing_and_who_has_another_gets_the_whole() {
        for tags in ["\"t\"", "W/\"t\"", "*", "\"a\", \"t\""] {
            assert_eq!(ask(&[(IF_NONE_MATCH, tags)], 10), Wanted::NotModified, "{tags}");
        }
        assert_eq!(ask(&[(IF_NONE_MATCH, "\"a\"")], 10), Wanted::Whole);
        let range = (RANGE, "bytes=0-0");
        let part = Wanted::Part { first: 0, last: 0 };
        assert_eq!(ask(&[range.clone(), (IF_RANGE, "\"t\"")], 10), part);
        for other in ["\"a\"", "W/\"t\"", "Tue, 24 Nov 2026 00:00:00 GMT"] {
            assert_eq!(ask(&[range.clone(), (IF_RANGE, other)], 10), Wanted::Whole, "{other}");
        }
    }
}
