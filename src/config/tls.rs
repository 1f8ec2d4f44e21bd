//! The settings of TLS: our own certificate, the way there from http, and whom we believe elsewhere.
//!
//! What must stay true: half a setting stops the start, since a server that was to speak https must not
//! speak http instead. Not here: what is in the files (`tls`).

use std::path::{Path, PathBuf};

use super::error::{ConfigError, shown};
use super::sources::{Found, Sources};
use super::{number, switch};
use crate::tls::{Fingerprint, PairFiles};

/// Two years, the longest that browsers' lists ask for.
const HSTS_SECONDS_MAX: u32 = 63_072_000;

/// The server's part.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// `None`: this server speaks plain http.
    pub own: Option<OwnCertificate>,
    /// A port whose requests are sent to https; 0 means any free one.
    pub http_port: Option<u16>,
    /// How long browsers are to insist on https; 0: nothing is said of it.
    pub hsts_seconds: u32,
    /// An authority that is believed besides the well-known ones when we call others.
    pub outgoing_ca: Option<PathBuf>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    Files(PairFiles),
    SelfSigned,
}

impl TlsConfig {
    pub(super) fn load(sources: &Sources) -> Result<TlsConfig, ConfigError> {
        let path = |name| sources.value(name).map(|found| PathBuf::from(found.value));
        let self_signed = sources.parsed("TLS_SELF_SIGNED", "1", switch)?.unwrap_or_default();
        let own = match (path("TLS_CERT"), path("TLS_KEY")) {
            (Some(certificate), Some(key)) => {
                Some(OwnCertificate::Files(PairFiles { certificate, key }))
            }
            (Some(_), None) => return Err(half("TLS_CERT", "TLS_KEY", "key.pem")),
            (None, Some(_)) => return Err(half("TLS_KEY", "TLS_CERT", "fullchain.pem")),
            (None, None) => self_signed.then_some(OwnCertificate::SelfSigned),
        };
        // 65,535 fits: `number` refuses all that does not.
        let port = |text: &str| number(text, u32::from(u16::MAX)).map(|port| port as u16);
        let http_port = sources.parsed("HTTP_PORT", "80", port)?;
        let hsts_seconds = sources
            .parsed("HSTS_SECONDS", "31536000", |text| number(text, HSTS_SECONDS_MAX))?
            .unwrap_or_default();
        let is_self_signed = own == Some(OwnCertificate::SelfSigned);
        let facts = [
            (self_signed && !is_self_signed, "TLS_SELF_SIGNED is ignored: TLS_CERT is set"),
            (
                http_port.is_some() && own.is_none(),
                "HTTP_PORT is ignored: it leads to https, and neither TLS_CERT nor TLS_SELF_SIGNED is set",
            ),
            (
                hsts_seconds > 0 && is_self_signed,
                "HSTS_SECONDS with a self-signed certificate: browsers that have heard it let nobody \
                 past their warning",
            ),
        ];
        let notes = facts.iter().filter(|(holds, _)| *holds).map(|(_, text)| (*text).into());
        let notes = notes.collect();
        let http_port = http_port.filter(|_| own.is_some());
        let outgoing_ca = path("OUTGOING_CA");
        Ok(TlsConfig { own, http_port, hsts_seconds, outgoing_ca, notes })
    }

    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.notes.iter().cloned()
    }
}

fn half(set: &str, missing: &str, file: &str) -> ConfigError {
    let fault = format!("is set, but {missing} is not, and one is nothing without the other");
    ConfigError::new(set, fault, format!("{missing}=/etc/bloom-runtime/{file}"))
}

/// Whom a worker or a person's command believes to be the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Believed {
    pub ca: Option<PathBuf>,
    pub pin: Option<Fingerprint>,
}

/// The settings that refusals name as the way out.
pub const BELIEVED_BY: &str = "--ca FILE or --pin SHA256";

impl Believed {
    /// From the flags, where they say nothing from `BLOOM_CA` and `BLOOM_PIN`.
    pub(super) fn load(
        ca: Option<&Path>,
        pin: Option<&str>,
        sources: &[&Sources],
    ) -> Result<Believed, ConfigError> {
        let value = |name| sources.iter().find_map(|source| source.value(name));
        let ca =
            ca.map(Path::to_owned).or_else(|| value("BLOOM_CA").map(|found| found.value.into()));
        let flag = |pin: &str| Found { value: pin.to_owned(), subject: "--pin".to_owned() };
        let pin = match pin.map(flag).or_else(|| value("BLOOM_PIN")) {
            Some(Found { value, subject }) => Some(Fingerprint::parse(&value).ok_or_else(|| {
                let fault = format!(
                    "{} is no SHA-256 of a certificate (64 hexadecimal digits; the server says it at \
                     its start and with `check`)",
                    shown(&value)
                );
                ConfigError::new(subject, fault, "--pin 2D:71:16:42:…")
            })?),
            None => None,
        };
        Ok(Believed { ca, pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn load(text: &str) -> Result<TlsConfig, ConfigError> {
        let env = BTreeMap::new();
        TlsConfig::load(&Sources::new(Some((Path::new("/e"), text)), &env, &|_| panic!()).unwrap())
    }

    #[test]
    fn half_a_certificate_stops_the_start() {
        for (text, starts, ends) in [
            (
                "TLS_CERT=/c",
                "TLS_CERT: is set, but TLS_KEY is not",
                "TLS_KEY=/etc/bloom-runtime/key.pem",
            ),
            ("TLS_KEY=/k", "TLS_KEY: is set, but TLS_CERT is not", "/fullchain.pem"),
            ("TLS_SELF_SIGNED=1\nTLS_KEY=/k", "TLS_KEY: is set", "/fullchain.pem"),
            ("TLS_SELF_SIGNED=maybe", "TLS_SELF_SIGNED (/e:1): ", "TLS_SELF_SIGNED=1"),
            ("HTTP_PORT=x", "HTTP_PORT (/e:1): ", "HTTP_PORT=80"),
            ("HSTS_SECONDS=99999999", "HSTS_SECONDS (/e:1): ", "HSTS_SECONDS=31536000"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.starts_with(starts) && error.ends_with(ends), "{error}");
        }
    }

    #[test]
    fn a_given_certificate_wins_over_one_of_our_making() {
        let config = load("TLS_CERT=/c\nTLS_KEY=/k\nTLS_SELF_SIGNED=1\nHTTP_PORT=0").unwrap();
        let files = PairFiles { certificate: "/c".into(), key: "/k".into() };
        assert_eq!(config.own, Some(OwnCertificate::Files(files)));
        assert_eq!(config.http_port, Some(0));
        assert_eq!(
            config.notes().next().as_deref(),
            Some("TLS_SELF_SIGNED is ignored: TLS_CERT is set")
        );
        let plain = load("HTTP_PORT=80").unwrap();
        assert_eq!((plain.own.is_none(), plain.http_port), (true, None));
        assert!(plain.notes().next().unwrap().starts_with("HTTP_PORT is ignored"));
    }
}
