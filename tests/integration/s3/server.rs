//! s3s-fs on loopback with a folder and keys of its own; it ends with its test.

use crate::harness::eventually;
use bloom_runtime::artifacts::S3;
use bloom_runtime::clock::{Clock, SystemClock};
use bloom_runtime::config::{Minio, Secret, parse_base_url};
use bloom_runtime::outgoing::{Dialer, Trust};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/s3/bin/s3s-fs");
pub const ACCESS_KEY: &str = "canary-access-7f3a";
pub const SECRET_KEY: &str = "canary-secret/9c1e+5b";
pub const BUCKET: &str = "bloom-artifacts";

pub struct S3Server {
    child: Option<Child>,
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl S3Server {
    #[track_caller]
    pub fn start() -> S3Server {
        assert!(Path::new(PROGRAM).is_file(), "first: sh tests/s3/install.sh");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut server = S3Server { child: None, address: free.expect("a free port"), folder };
        server.run();
        server
    }

    /// Starts it on its port and folder, where it does not run.
    pub fn run(&mut self) {
        let start = || {
            let port = self.address.port().to_string();
            let mut command = Command::new(PROGRAM);
            command.env_clear().args(["--host", "127.0.0.1", "--port", &port]);
            command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
            command.arg("--domain").arg(format!("s3.localhost:{port}")).arg(self.folder.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("s3s-fs starts")
        };
        let mut child = start();
        eventually("s3s-fs listens", || {
            if child.try_wait().expect("ours").is_some() {
                // Somebody else had its port for a moment.
                child = start();
            }
            TcpStream::connect(self.address).ok()
        });
        self.child = Some(child);
    }

    /// Power off.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn bucket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What lies in a bucket, by key.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.bucket(bucket);
        let (mut found, mut open) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for path in entries.map(|entry| entry.expect("readable").path()) {
                if path.is_dir() {
                    open.push(path);
                } else {
                    let key = path.strip_prefix(&root).expect("inside").display().to_string();
                    found.insert(key, std::fs::read(&path).expect("readable"));
                }
            }
        }
        found
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The settings of a client.
pub fn settings(url: &str) -> Minio {
    Minio {
        endpoint: parse_base_url(url).expect("an address"),
        region: "us-east-1".into(),
        path_style: true,
        access_key: Secret::new(ACCESS_KEY),
        secret_key: Secret::new(SECRET_KEY),
        bucket: BUCKET.into(),
        membridge_bucket: "claude-memory".into(),
        keeps_inline: false,
        retention_removes: false,
    }
}

pub fn client(minio: &Minio) -> S3 {
    client_at(minio, Arc::new(SystemClock::new()))
}

pub fn client_at(minio: &Minio, clock: Arc<dyn Clock>) -> S3 {
    S3::new(minio, Dialer::new(Trust::new(None, None, "MINIO_CA").expect("no file")), clock)
}
