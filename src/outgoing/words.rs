//! Why a TLS connection did not come about, in words for the person who can change it.
//!
//! Must stay true: each names the way out. Not here: the check itself (`trust`).

use crate::tls::{Fingerprint, day};
use rustls::{AlertDescription, CertificateError, Error, OtherError};
use std::fmt;
use std::io;
use std::sync::Arc;

/// A certificate may have a hundred names.
const NAMES_TOLD: usize = 5;

/// A certificate that is not believed.
#[derive(Debug)]
pub enum Refused {
    NotPinned { shown: Fingerprint },
    Certificate { fault: CertificateError, shown: Fingerprint, remedy: &'static str },
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, shown, remedy) = match self {
            Refused::NotPinned { shown } => {
                return write!(
                    f,
                    "it shows another certificate than the pinned one; that of now is {shown}: pin that \
                     one if you know why it changed"
                );
            }
            Refused::Certificate { fault, shown, remedy } => (fault, shown, remedy),
        };
        match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => write!(
                f,
                "nobody who is believed here has issued its certificate, {shown}: believe it with {remedy}"
            ),
            CertificateError::ExpiredContext { time, not_after } => write!(
                f,
                "its certificate ended on {}; here it is {} (renew it, or set this machine's clock)",
                day(not_after.as_secs()),
                day(time.as_secs())
            ),
            CertificateError::NotValidYetContext { time, not_before } => write!(
                f,
                "its certificate begins on {}; here it is {}: look at this machine's clock",
                day(not_before.as_secs()),
                day(time.as_secs())
            ),
            CertificateError::NotValidForNameContext { expected, presented } => write!(
                f,
                "its certificate is not for {}; it is for {}: use a name of it, or {remedy}",
                expected.to_str(),
                names(presented)
            ),
            other => write!(
                f,
                "its certificate, {shown}, is refused ({}): believe it with {remedy}",
                text(other)
            ),
        }
    }
}

fn text(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Other(other) => other.to_string(),
        other => Error::InvalidCertificate(other.clone()).to_string(),
    }
}

/// The names of a certificate; webpki gives them as `DnsName("pi.lan")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        inside.trim_matches(['(', ')', '"']).to_owned()
    };
    let names: Vec<String> = presented.iter().take(NAMES_TOLD).map(bare).collect();
    if names.is_empty() { "no name".into() } else { names.join(", ") }
}

/// What went wrong while connecting.
pub fn of(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(refused)))) => {
            refused.to_string()
        }
        Some(Error::InvalidMessage(_)) => {
            "what answers there does not speak TLS; is it http?".into()
        }
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            "it speaks neither TLS 1.2 nor 1.3".into()
        }
        Some(Error::AlertReceived(alert)) => format!("it broke TLS off: {alert:?}"),
        Some(other) => format!("TLS failed: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ended the connection instead of speaking TLS; is it http?".into()
        }
        None => error.to_string(),
    }
}
