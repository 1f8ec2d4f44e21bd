//! TLS in both directions: the server against curl, openssl and rustls, and our own calls against servers
//! whose certificates are good, bad or strange.

mod authority;
mod others;
mod reload;
mod server;
mod start;

use crate::harness::{Server, Setup};
use authority::Pair;
pub use authority::{Authority, Front, GOOD};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HEALTH: &str = "/api/runtime/health";

fn with_pair(pair: &Pair) -> Setup {
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (certificate, key) = (path(&pair.certificate), path(&pair.key));
    Setup::default().env("TLS_CERT", &certificate).env("TLS_KEY", &key)
}

fn self_signed() -> Setup {
    Setup::default().env("TLS_SELF_SIGNED", "1")
}

/// The certificate that a self-signed server has made.
fn made_by(server: &Server) -> std::path::PathBuf {
    server.dir().path().join("data/tls/certificate.pem")
}

/// What openssl prints about a file.
fn openssl(args: &[&str], file: &Path) -> String {
    let output = Command::new("openssl").args(args).arg(file).output().expect("openssl is there");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `openssl s_client` against the server: its stdout and stderr, and whether it was content.
fn s_client(server: &Server, args: &[&str]) -> (String, bool) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.address().to_string()]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("openssl is there");
    (both(&output), output.status.success())
}

fn both(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// What curl prints; `config` is what would else stand in its arguments.
fn curl(config: &str) -> Result<String, String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--config", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl is there");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(config.as_bytes()).expect("curl reads");
    drop(stdin);
    let output = child.wait_with_output().expect("curl ends");
    let said = both(&output);
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// `GET path` by curl, which knows this certificate or authority and calls the server `host`.
fn get(server: &Server, ca: &Path, host: &str, path: &str) -> Result<String, String> {
    let port = server.address().port();
    curl(&format!(
        "url = https://{host}:{port}{path}\ncacert = {}\nresolve = {host}:{port}:127.0.0.1\ninclude\n",
        ca.display()
    ))
}
