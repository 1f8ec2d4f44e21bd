//! The server's own certificate and key: read, held against each other, and replaced while it runs.
//!
//! Must stay true: a file that cannot be used changes nothing that works; a handshake takes the pair that
//! is there at its moment, connections keep theirs; the key is in no text (P10). Not here: making one
//! (`self_signed`), when to read again (`run`).

use super::{Fingerprint, day, provider, read_certificates, read_pem};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// Warnings begin so long before the end, in seconds.
const WARNED_BEFORE: u64 = 30 * 86_400;

/// Where certificate and key are read; a self-signed one has both in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Identity {
    files: PairFiles,
    pair: RwLock<Pair>,
}

#[derive(Clone)]
struct Pair {
    signed: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    /// Unix seconds.
    begins: u64,
    ends: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

impl Identity {
    /// # Errors
    /// What is wrong with the files, in one line that names the one at fault.
    pub fn read(files: PairFiles) -> Result<Identity, String> {
        let pair = RwLock::new(Pair::read(&files)?);
        Ok(Identity { files, pair })
    }

    /// Reads both files again; handshakes from now on use what is in them. Says whether that is another
    /// certificate.
    ///
    /// # Errors
    /// As [`Identity::read`], or the new one has expired and the old one has not; the old one stays.
    pub fn read_again(&self, now: u64) -> Result<bool, String> {
        let fresh = Pair::read(&self.files)?;
        let mut pair = self.pair.write().expect("no holder panics");
        if fresh.ends < now && pair.ends >= now {
            let name = self.files.certificate.display();
            return Err(format!("{name}: the certificate ended on {}", day(fresh.ends)));
        }
        let is_other = fresh.fingerprint != pair.fingerprint;
        *pair = fresh;
        Ok(is_other)
    }

    fn pair(&self) -> Pair {
        self.pair.read().expect("no holder panics").clone()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.pair().fingerprint
    }

    /// One line about the certificate.
    pub fn description(&self) -> String {
        let pair = self.pair();
        format!(
            "certificate: {}, ends on {}, SHA-256 {}",
            self.files.certificate.display(),
            day(pair.ends),
            pair.fingerprint
        )
    }

    /// What its clients will soon complain about, or already do.
    pub fn worry(&self, now: u64) -> Option<String> {
        let Pair { begins, ends, .. } = self.pair();
        let name = self.files.certificate.display();
        let text = if ends < now {
            format!("ended on {}: clients refuse it, unless they pin it", day(ends))
        } else if begins > now {
            format!("begins on {}, and here it is {}: is the clock right?", day(begins), day(now))
        } else if ends - now < WARNED_BEFORE {
            let days = (ends - now) / 86_400;
            format!("ends in {days} days, on {}: renew it and send SIGHUP", day(ends))
        } else {
            return None;
        };
        Some(format!("the certificate of {name} {text}"))
    }

    /// Those of `names` that the certificate is not for.
    pub fn lacks<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        let signed = self.pair().signed;
        let Ok(certificate) = EndEntityCert::try_from(&signed.cert[0]) else { return Vec::new() };
        let is_for = |name: &str| {
            let name = ServerName::try_from(name);
            name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        names.iter().map(String::as_str).filter(|name| !is_for(name)).collect()
    }

    /// What handshakes of this server are made with.
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider());
        let mut config = builder
            .with_safe_default_protocol_versions()
            .expect("the provider has both")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().signed)
    }
}

impl Pair {
    fn read(files: &PairFiles) -> Result<Pair, String> {
        let chain = read_certificates(&files.certificate)?;
        let name = files.certificate.display();
        let key_name = files.key.display();
        let (begins, ends) = validity(&chain[0])
            .map_err(|error| format!("{name} holds no usable certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&read_pem(&files.key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => format!(
                "{key_name} holds no private key (-----BEGIN PRIVATE KEY-----); one with a password \
                 cannot be used"
            ),
            other => format!("{key_name} is no PEM: {other}"),
        })?;
        let fingerprint = Fingerprint::of(&chain[0]);
        let signed =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                    "the key of {key_name} does not belong to the first certificate of {name}"
                ),
                other => format!("the key of {key_name} cannot be used: {other}"),
            })?;
        Ok(Pair { signed: Arc::new(signed), fingerprint, begins, ends })
    }
}

/// From when until when a certificate counts, in Unix seconds. Asked of the check that clients make too,
/// at the ends of time, where nothing else can be wrong first.
fn validity(certificate: &CertificateDer<'_>) -> Result<(u64, u64), webpki::Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
    };
    let begins = match at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    match at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Ok((begins, not_after.as_secs())),
        other => Err(other.unwrap_or(webpki::Error::InvalidCertValidity)),
    }
}
