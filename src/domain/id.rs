//! Identifiers: UUIDs (version 8, RFC 9562) whose first 48 bits are an insertion sequence.
//!
//! A record is found by its id without an index, keys grow at the end of their tree (a third less
//! is written than with random ids), and 74 random bits keep an id unguessable. Must stay true: an
//! id parses only in the one spelling in which it is printed. Not here: where the numbers come from.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The largest sequence number that fits an id; 48 bits last 8,900 years at 1,000 a second.
pub const SEQ_MAX: u64 = (1 << 48) - 1;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HEX: &[u8; 16] = b"0123456789abcdef";

fn compose(seq: u64, random: u128) -> u128 {
    const VERSION_8: u128 = 0x8 << 76;
    const VARIANT: u128 = 0b10 << 62;
    const RANDOM: u128 = (0xfff << 64) | ((1 << 62) - 1);
    (u128::from(seq & SEQ_MAX) << 80) | VERSION_8 | VARIANT | (random & RANDOM)
}

fn print(id: u128) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (place, byte) in text.iter_mut().enumerate() {
        if !HYPHENS.contains(&place) {
            shift -= 4;
            *byte = HEX[(id >> shift) as usize & 0xf];
        }
    }
    text
}

fn parse(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = 0u128;
    for (place, byte) in bytes.iter().enumerate() {
        match (HYPHENS.contains(&place), byte) {
            (true, b'-') => {}
            (false, b'0'..=b'9') => id = id << 4 | u128::from(byte - b'0'),
            (false, b'a'..=b'f') => id = id << 4 | u128::from(byte - b'a' + 10),
            _ => return None,
        }
    }
    Some(id)
}

/// The text is no id in its printed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

/// Reads an id where it stands: a page of a thousand rows has thousands of them, and a string for each
/// would be a part of its time.
struct Printed;

impl Visitor<'_> for Printed {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u128, E> {
        parse(text).ok_or_else(|| E::custom("not an id"))
    }
}

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// `seq` is the place in the order of insertion (at most `SEQ_MAX`).
            pub fn new(seq: u64, random: u128) -> Self {
                Self(compose(seq, random))
            }

            /// The place in the order of insertion, which is the key of the record.
            pub fn seq(self) -> u64 {
                (self.0 >> 80) as u64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(str::from_utf8(&print(self.0)).expect("hex digits and hyphens"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse(text).map(Self).ok_or(NotAnId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Printed).map(Self)
            }
        }
    };
}

id!(TaskId, "A task; its sequence orders the lists of tasks.");
id!(LeaseId, "One grant of a task to a worker; its sequence orders the list of leases.");
id!(ArtifactId, "What one completion produced; its sequence orders the list of artifacts.");
id!(ResultId, "The result of one completion; shares its sequence with the artifact.");
id!(AuditId, "One entry of the audit trail; its sequence orders it.");

/// A worker's name, which is its id (1–128 characters, `CONTRACT §3`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_that_carries_its_sequence_and_sorts_by_it() {
        let id = TaskId::new(0x1234, u128::MAX);
        assert_eq!(id.to_string(), "00000000-1234-8fff-bfff-ffffffffffff");
        assert_eq!(id.seq(), 0x1234);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(TaskId::new(2, 0) > TaskId::new(1, u128::MAX));
    }

    #[test]
    fn only_the_printed_spelling_is_an_id() {
        for text in [
            "",
            "abc",
            "00000000-1234-8FFF-bfff-ffffffffffff",
            "00000000a1234-8fff-bfff-fffffffffff",
        ] {
            assert_eq!(text.parse::<TaskId>(), Err(NotAnId), "{text}");
        }
    }
}
