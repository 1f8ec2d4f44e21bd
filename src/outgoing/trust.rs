//! Whom we believe: the roots of the system and the bundled ones, an own CA, or one pinned certificate.
//!
//! Must stay true: a pin is all or nothing, what it names is believed whatever name, date or issuer it
//! has, and nothing else is; roots are read at the first use of https, so who never needs them never pays.
//! Not here: what refusals are called (`words`).

use super::words::Refused;
use crate::tls::{self, Fingerprint, Identity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Where systems keep their roots in one file: Debian and Alpine, Fedora, openSUSE, others.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The one certificate that a server must show.
pub type Pin = Fingerprint;

/// Who is believed, and what a person can set to change that.
pub struct Trust {
    whom: Whom,
    remedy: &'static str,
    made: OnceLock<Result<Arc<ClientConfig>, String>>,
}

enum Whom {
    /// The well-known roots and these.
    Roots(Vec<CertificateDer<'static>>),
    Pinned(Pin),
    /// Whatever certificate this process itself shows at the moment.
    Ourselves(Arc<Identity>),
    Anyone,
}

impl Trust {
    /// `ca_file` is added to the roots; a pin replaces all of them. `remedy` names the settings, as
    /// refusals name them to a person.
    ///
    /// # Errors
    /// The file cannot be used, in words that begin with its path.
    pub fn new(
        ca_file: Option<&Path>,
        pin: Option<Pin>,
        remedy: &'static str,
    ) -> Result<Trust, String> {
        let ca = ca_file.map_or(Ok(Vec::new()), |path| {
            let ca = tls::read_certificates(path)?;
            let mut roots = RootCertStore::empty();
            match ca.iter().try_for_each(|ca| roots.add(ca.clone())) {
                Ok(()) => Ok(ca),
                Err(error) => Err(format!("{} holds no usable CA: {error}", path.display())),
            }
        })?;
        let whom = pin.map_or(Whom::Roots(ca), Whom::Pinned);
        Ok(Trust { whom, remedy, made: OnceLock::new() })
    }

    /// For a worker in the server's own process.
    pub fn own(identity: Option<Arc<Identity>>) -> Trust {
        let whom = identity.map_or(Whom::Roots(Vec::new()), Whom::Ourselves);
        Trust { whom, remedy: "", made: OnceLock::new() }
    }

    /// For a question to this machine's own address that carries no secret.
    pub fn unproven() -> Trust {
        Trust { whom: Whom::Anyone, remedy: "", made: OnceLock::new() }
    }

    /// # Errors
    /// There is nobody to believe.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        self.made
            .get_or_init(|| self.make().map(Arc::new).map_err(|error| error.to_string()))
            .clone()
    }

    fn make(&self) -> Result<ClientConfig, Error> {
        let provider = tls::provider();
        let check = match &self.whom {
            Whom::Pinned(pin) => Check::Pin(*pin),
            Whom::Ourselves(identity) => Check::Own(identity.clone()),
            Whom::Anyone => Check::Nothing,
            Whom::Roots(ca) => {
                let roots = Arc::new(roots(ca));
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                let roots = builder.build().map_err(|error| Error::General(error.to_string()))?;
                Check::Roots(roots, ca.clone())
            }
        };
        let verifier = Verifier { check, remedy: self.remedy };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn roots(own: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let system = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
    match system.map(tls::read_certificates) {
        Some(Ok(system)) => drop(roots.add_parsable_certificates(system)),
        Some(Err(error)) => log::warn!("the system's roots are not used: {error}"),
        None => {}
    }
    roots.add_parsable_certificates(own.iter().cloned());
    roots
}

/// A self-signed certificate as `openssl req -x509` makes it: one of a CA, which serves itself.
fn is_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    let fault = other.0.downcast_ref::<webpki::Error>();
    fault == Some(&webpki::Error::CaUsedAsEndEntity)
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    remedy: &'static str,
}

#[derive(Debug)]
enum Check {
    Pin(Pin),
    Own(Arc<Identity>),
    Nothing,
    /// These and no others; the second are those that a person named.
    Roots(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(end_entity);
        let refused = match &self.check {
            Check::Pin(pin) if *pin == shown => return Ok(ServerCertVerified::assertion()),
            Check::Own(own) if own.fingerprint() == shown => {
                return Ok(ServerCertVerified::assertion());
            }
            Check::Pin(_) | Check::Own(_) => Refused::NotPinned { shown },
            Check::Roots(roots, named) => {
                let verified = roots.verify_server_cert(end_entity, intermediates, name, ocsp, now);
                let verified = match verified {
                    // It is in its time, or that would have been said.
                    Err(error) if is_ca(&error) && named.contains(end_entity) => {
                        let certificate = ParsedCertificate::try_from(end_entity)?;
                        let is_for = verify_server_name(&certificate, name);
                        is_for.map(|()| ServerCertVerified::assertion())
                    }
                    other => other,
                };
                match verified {
                    Err(Error::InvalidCertificate(fault)) => {
                        Refused::Certificate { fault, shown, remedy: self.remedy }
                    }
                    other => return other,
                }
            }
            Check::Nothing => return Ok(ServerCertVerified::assertion()),
        };
        Err(refused.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &tls::provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &tls::provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
