//! What TLS costs: requests on connections that stay open, and connections for one request each, beside
//! the same in the clear.
//!
//! Must stay true: both servers are the same program and are asked the same; the generator's own TLS runs on
//! the same cores, so the server's CPU time stands beside the rate. Not here: what a request does.

use crate::Options;
use crate::figures::{Latencies, cpu, per_second};
use crate::server::{Server, unlimited};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const REQUEST: &[u8] = b"GET /api/runtime/health HTTP/1.1\r\nHost: localhost\r\n\r\n";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a connection is made.
#[derive(Clone)]
enum Way {
    Plain,
    Tls(Arc<ClientConfig>),
}

impl Way {
    async fn connect(&self, address: SocketAddr) -> Box<dyn Stream> {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let Way::Tls(config) = self else { return Box::new(stream) };
        let name = ServerName::try_from("localhost").expect("a name");
        Box::new(
            TlsConnector::from(config.clone()).connect(name, stream).await.expect("a handshake"),
        )
    }
}

fn believing(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).expect("the server has made it");
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

/// One request and its whole answer.
async fn ask(stream: &mut Box<dyn Stream>) {
    stream.write_all(REQUEST).await.expect("it is read");
    let (mut answer, mut have) = ([0; 4096], 0);
    loop {
        let read = stream.read(&mut answer[have..]).await.expect("an answer");
        assert_ne!(read, 0, "an answer");
        have += read;
        let text = str::from_utf8(&answer[..have]).expect("ASCII");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().split_once("content-length: ").map(|(_, rest)| {
            rest.lines().next().expect("a line").parse::<usize>().expect("a number")
        });
        if body.len() == length.expect("a length") {
            return;
        }
    }
}

/// Connections that are open at once and idle; strangers may have so many.
const IDLE: usize = 300;

struct Cost {
    rate: f64,
    /// Of the server, for each.
    cpu_us: f64,
}

impl Cost {
    fn print_beside(&self, clear: &Cost) {
        println!(
            "    {:.2} of http's rate, {:.1} times its CPU",
            self.rate / clear.rate,
            self.cpu_us / clear.cpu_us
        );
    }
}

/// Lets `connections` ask for so long; each on a connection that stays, or on one for each request.
async fn measure_one(
    name: &str,
    server: &Server,
    way: &Way,
    (connections, stays): (usize, bool),
    seconds: f64,
) -> Cost {
    let (began, spent, own) = (Instant::now(), server.cpu(), cpu("self"));
    let ends = began + Duration::from_secs_f64(seconds);
    let mut asking = JoinSet::new();
    for _ in 0..connections {
        let (way, address) = (way.clone(), server.address);
        asking.spawn(async move {
            let mut times = Latencies::default();
            let mut stream = way.connect(address).await;
            while Instant::now() < ends {
                let sent = Instant::now();
                if !stays {
                    stream = way.connect(address).await;
                }
                ask(&mut stream).await;
                times.push(sent.elapsed());
            }
            times
        });
    }
    let mut times = Latencies::default();
    while let Some(theirs) = asking.join_next().await {
        times.add(theirs.expect("every request was answered"));
    }
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / times.len() as f64;
    let rate = per_second(times.len(), began.elapsed());
    let cost = Cost { rate, cpu_us: each(server.cpu() - spent) };
    println!(
        "{name:<40} {connections:>5} {rate:>9.0} {:>8} {:>8} {:>8.1} {:>8.1}",
        times.percentile_ms(50.0),
        times.percentile_ms(99.0),
        cost.cpu_us,
        each(cpu("self") - own),
    );
    cost
}

/// A self-signed RSA certificate, if openssl is there to make it.
fn rsa(dir: &Path) -> Option<[(String, String); 2]> {
    let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let (key, certificate) = (path("rsa.key"), path("rsa.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=load"]);
    command.args(["-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", &key, "-out", &certificate]).stderr(Stdio::null());
    let made = command.status().is_ok_and(|status| status.success());
    made.then_some([("TLS_CERT".into(), certificate), ("TLS_KEY".into(), key)])
}

pub async fn measure(options: &Options) {
    let dir = options.dir.join(format!("bloom-load-tls-{}", std::process::id()));
    let start = async |name: &str, more: &[(&str, &str)]| {
        let env = unlimited(&[more, &[("LOG_LEVEL", "warn")]].concat());
        Server::start_on(&options.program, dir.join(name), env).await
    };
    let plain = start("plain", &[]).await;
    let ecdsa = start("ecdsa", &[("TLS_SELF_SIGNED", "1")]).await;
    let ecdsa_ca = dir.join("ecdsa/data/tls/certificate.pem");
    let mut servers = vec![("ECDSA P-256", ecdsa, believing(&ecdsa_ca))];
    if let Some(env) = rsa(&dir) {
        let env = env.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        servers.push(("RSA 2048", start("rsa", &env).await, believing(&dir.join("rsa.pem"))));
    }
    println!(
        "\n{:<40} {:>5} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "health", "conns", "each/s", "p50 ms", "p99 ms", "CPU µs", "own µs"
    );
    let seconds = options.seconds;
    for connections in options.only.iter().copied() {
        let how = (connections, true);
        let clear = measure_one("requests, http", &plain, &Way::Plain, how, seconds).await;
        let way = Way::Tls(servers[0].2.clone());
        let tls = measure_one("requests, https", &servers[0].1, &way, how, seconds).await;
        tls.print_beside(&clear);
    }
    let how = (8, false);
    let clear = measure_one("connections, http", &plain, &Way::Plain, how, seconds).await;
    for (name, server, config) in &servers {
        let mut anew = ClientConfig::clone(config);
        anew.resumption = Resumption::disabled();
        for (kind, config) in [("whole", &Arc::new(anew)), ("resumed", config)] {
            let way = Way::Tls(config.clone());
            let name = format!("handshakes, {kind}, {name}");
            measure_one(&name, server, &way, how, seconds).await.print_beside(&clear);
        }
    }
    idle(&plain, &Way::Plain, "http").await;
    idle(&servers[0].1, &Way::Tls(servers[0].2.clone()), "https").await;
    drop((plain, servers));
    std::fs::remove_dir_all(dir).ok();
}

/// What a connection holds that has asked once.
async fn idle(server: &Server, way: &Way, name: &str) {
    let before = server.memory_kib("VmRSS");
    let mut open = Vec::new();
    for _ in 0..IDLE {
        let mut stream = way.connect(server.address).await;
        ask(&mut stream).await;
        open.push(stream);
    }
    let each = server.memory_kib("VmRSS").saturating_sub(before) as f64 / IDLE as f64;
    println!("an idle connection, {name}: {each:.1} KiB");
}
