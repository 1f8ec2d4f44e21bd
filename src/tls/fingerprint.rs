//! What a certificate is called: the SHA-256 of its DER.
//!
//! Must stay true: what is shown can be read back. Not here: who believes it.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(der).into())
    }

    /// That of the first certificate of a PEM file.
    pub fn of_first(pem: &[u8]) -> Option<Fingerprint> {
        CertificateDer::from_pem_slice(pem).ok().map(|der| Fingerprint::of(&der))
    }

    /// 64 hexadecimal digits, with or without colons between them and `sha256:` before them.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let text = text.trim();
        let bare = match text.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &text[7..],
            _ => text,
        };
        let digits: Option<Vec<u32>> =
            bare.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] << 4 | pair[1]) as u8;
        }
        Some(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let colon = if n == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown_and_as_openssl_and_sha256sum_write_it() {
        let one = Fingerprint::of(b"x");
        let shown = one.to_string();
        assert!(shown.starts_with("2D:71:16:42:B7:26"), "{shown}");
        let bare = shown.replace(':', "").to_lowercase();
        for text in [&shown, &bare, &format!("SHA256:{shown}"), &format!(" sha256:{bare}\n")] {
            assert_eq!(Fingerprint::parse(text), Some(one), "{text}");
        }
        for text in
            ["", "sha256:", &bare[1..], &format!("{bare}0"), &bare.replace('2', "g"), "ключ"]
        {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }
}
