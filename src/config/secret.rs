//! A value that must never be shown (P10).
//!
//! What must stay true: no `Debug`, `Display` or serde path leads to the text; only [`Secret::expose`]
//! does, and each caller of it is one place to review. Compared as bytes, because a header is bytes:
//! a key in Cyrillic letters works, and one that is not UTF-8 is merely wrong.
//! Deliberately not here: wiping memory (the environment holds a copy anyway), `PartialEq`.

use std::fmt;
use std::hint::black_box;

/// A key, password or URL with a password in it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, to be sent to the one it belongs to and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this secret, in a time that does not depend on where they differ
    /// (CONTRACT §1). That the length is another can be told from the time; that is accepted.
    pub fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        if own.len() != given.len() {
            return false;
        }
        let difference = own.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "**** **** Some(****)");
    }

    #[test]
    fn a_secret_matches_itself_and_nothing_else() {
        let secret = Secret::new("ключ-1");
        assert!(secret.matches("ключ-1".as_bytes()));
        for other in [&b""[..], b"x", "ключ-2".as_bytes(), "ключ-11".as_bytes(), &[0xff; 10]]
        {
            assert!(!secret.matches(other), "{other:?}");
        }
    }
}
