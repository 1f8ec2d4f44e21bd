//! TLS: what both directions have in common.
//!
//! Must stay true: one crypto provider for everything; certificates of others are named by the SHA-256
//! of their DER, as `openssl x509 -fingerprint -sha256` shows it. Not here: connections (`server`,
//! `outgoing`), settings (`config`).

mod fingerprint;
mod identity;
pub mod self_signed;

pub use fingerprint::Fingerprint;
pub use identity::{Identity, PairFiles};

use crate::clock::civil;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The largest PEM file: a bundle of all roots has a quarter of a MiB.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// The last day that a certificate can name, in the year 9999.
const DAYS_MAX: u64 = 2_932_896;

/// The one provider (`docs/decisions/0020`).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// The certificates of a PEM file, in their order.
///
/// # Errors
/// It cannot be read, or there is none in it; in words that begin with its path.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let pem = read_pem(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{name} holds no certificate (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(format!("{name} is no PEM: {error}")),
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem));
    let too_long = || io::Error::other("it is longer than 4 MiB");
    let fits =
        read.and_then(|_| (pem.len() as u64 <= PEM_BYTES_MAX).then_some(()).ok_or_else(too_long));
    fits.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(pem)
}

/// A moment's day in UTC: `2027-01-31`.
pub fn day(unix_seconds: u64) -> String {
    let (year, month, day) = civil((unix_seconds / 86_400).min(DAYS_MAX) as i64);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn a_moment_has_its_day() {
        for (seconds, shown) in [
            (0, "1970-01-01"),
            (u64::MAX, "9999-12-31"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), shown);
        }
    }
}
