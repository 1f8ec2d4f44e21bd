//! A new certificate for a server that goes on serving.

use super::authority::{Authority, GOOD, fingerprint};
use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn believing(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a file")).expect("a root");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config.clone(), name).expect("a client");
    let stream = TcpStream::connect(address).expect("it listens");
    BufReader::new(StreamOwned::new(connection, stream))
}

/// One request on a connection that stays open; the status line.
fn ask(stream: &mut Stream) -> String {
    let request = format!("GET {HEALTH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).expect("it is read");
    let (mut status, mut length) = (String::new(), 0);
    stream.read_line(&mut status).expect("an answer");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("headers");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(stream, &mut body).expect("a body");
    status
}

fn shown_by(stream: &Stream) -> String {
    let chain = stream.get_ref().conn.peer_certificates().expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shown.der");
    std::fs::write(&file, &chain[0]).expect("a file");
    let said =
        openssl(&["x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", "-in"], &file);
    said.trim().split_once('=').expect("a fingerprint").1.to_owned()
}

#[test]
fn a_new_certificate_is_shown_after_sighup_and_no_request_fails() {
    let authority = Authority::new();
    let served = authority.issue("served", &["localhost"], GOOD);
    let pairs = ["first", "second"].map(|name| authority.issue(name, &["localhost"], GOOD));
    pairs[0].replaces(&served);
    let server = with_pair(&served).start();
    let (address, ca) = (server.address(), authority.ca());
    let mut kept = connect(address, &believing(&ca));
    assert!(ask(&mut kept).contains("200 OK"));
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // A configuration of its own each time, so that no handshake is cut short.
                    let mut stream = connect(address, &believing(&ca));
                    assert!(ask(&mut stream).contains("200 OK"));
                    assert!(ask(&mut stream).contains("200 OK"));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=20 {
            let pair = &pairs[round % 2];
            pair.replaces(&served);
            server.hang_up();
            server.wait_until_said_times("new certificate: ", round);
            let mut stream = connect(address, &believing(&ca));
            assert!(ask(&mut stream).contains("200 OK"));
            assert_eq!(shown_by(&stream), fingerprint(&pair.certificate));
            assert!(ask(&mut kept).contains("200 OK"), "an old connection goes on");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() > 20, "there was load");
}

#[test]
fn a_bad_new_certificate_changes_nothing_and_is_told() {
    let authority = Authority::new();
    let served = authority.issue("served", &["localhost"], GOOD);
    let first = fingerprint(&served.certificate);
    let server = with_pair(&served).start();
    let shows = || {
        let mut stream = connect(server.address(), &believing(&authority.ca()));
        assert!(ask(&mut stream).contains("200 OK"));
        shown_by(&stream)
    };
    let other = authority.issue("other", &["localhost"], GOOD);
    std::fs::copy(&other.key, &served.key).expect("a file");
    server.hang_up();
    server.wait_until_said("the certificate stays as it was: the key of");
    assert_eq!(shows(), first);
    std::fs::write(&served.certificate, "").expect("a file");
    server.hang_up();
    server.wait_until_said("served.pem holds no certificate");
    assert_eq!(shows(), first);
    authority.issue("ended", &["localhost"], (-30, -2)).replaces(&served);
    server.hang_up();
    server.wait_until_said("the certificate ended on");
    assert_eq!(shows(), first);
    other.replaces(&served);
    server.hang_up();
    server.wait_until_said("new certificate: ");
    assert_eq!(shows(), fingerprint(&other.certificate));
}
