//! Certificates as tests need them, and a server that shows them before whatever stands behind it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};

const DAY: u64 = 86_400;

/// An authority that is known nowhere but where a test says so.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Days before and after now from which and until which a certificate counts.
pub type Time = (i64, i64);
pub const GOOD: Time = (-1, 300);

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Authority {
    pub fn new() -> Authority {
        let root =
            CertifiedIssuer::self_signed(authority("Root of a test"), key()).expect("a root");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), root.pem()).expect("a file");
        Authority { root, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn params(names: &[&str], (from, until): Time) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "A server of a test");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let at = |days: i64| {
            let seconds = now.saturating_add_signed(days * DAY as i64);
            date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        (params.not_before, params.not_after) = (at(from), at(until));
        params
    }

    /// Issues a certificate under this file name.
    pub fn issue(&self, name: &str, names: &[&str], time: Time) -> Pair {
        let key = key();
        let params = Authority::params(names, time);
        let certificate = params.signed_by(&key, &self.root).expect("a certificate");
        self.write(name, &certificate.pem(), &key.serialize_pem())
    }

    /// The same for a key that openssl has made.
    pub fn issue_for_key(&self, name: &str, names: &[&str], key_pem: &str) -> Pair {
        let key = KeyPair::from_pem(key_pem).expect("a key");
        let certificate = Authority::params(names, GOOD).signed_by(&key, &self.root);
        self.write(name, &certificate.expect("a certificate").pem(), key_pem)
    }

    /// The same through an authority in between, whose certificate stands behind it in the file.
    pub fn issue_through_another(&self, name: &str, names: &[&str]) -> Pair {
        let between = CertifiedIssuer::signed_by(authority("In between"), key(), &self.root);
        let between = between.expect("an authority");
        let key = key();
        let certificate = Authority::params(names, GOOD).signed_by(&key, &between);
        let chain = certificate.expect("a certificate").pem() + &between.pem();
        self.write(name, &chain, &key.serialize_pem())
    }

    fn write(&self, name: &str, certificate: &str, key: &str) -> Pair {
        let pair = Pair {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, certificate).expect("a file");
        std::fs::write(&pair.key, key).expect("a file");
        pair
    }
}

impl Pair {
    /// Puts itself where a server reads that one.
    pub fn replaces(&self, other: &Pair) {
        std::fs::copy(&self.certificate, &other.certificate).expect("a file");
        std::fs::copy(&self.key, &other.key).expect("a file");
    }
}

/// The SHA-256 of the first certificate of a file, as openssl says it.
pub fn fingerprint(certificate: &Path) -> String {
    let said = super::openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in"], certificate);
    said.trim().split_once('=').expect("a fingerprint").1.to_owned()
}

/// Speaks TLS for a server that does not; its threads end with the test process.
pub struct Front {
    port: u16,
}

impl Front {
    pub fn before(upstream: SocketAddr, pair: &Pair) -> Front {
        let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (tell, port) = std::sync::mpsc::channel();
        let serve = async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound").port()).expect("it is waited for");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(upstream).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        };
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve);
        });
        Front { port: port.recv().expect("it starts") }
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }
}
