//! Being known to the server: registration, which is a sign of life when repeated, and signing off.
//!
//! Must stay true: after signing off nothing registers us again; who repeats what the server knows
//! causes no write there (P8). Not here: claims, which are a sign of life too.

use super::{STOPPING_CALL, Worker};
use crate::client::CallError;
use crate::config::parse_base_url;
use serde_json::json;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// Short, since signing off waits for it.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two registrations; a server misses us after a minute.
const AGAIN_AFTER: Duration = Duration::from_secs(20);

/// Registers again and again until the worker stops, whether a claim is under way or not. The first
/// time is the claim loop's, which then has something to say about it.
pub fn keep(worker: &Worker) {
    while !worker.stop.wait_for(AGAIN_AFTER) {
        if worker.is_registered()
            && let Err(fault) = register(worker)
        {
            log::debug!("no sign of life: {fault}");
        }
    }
}

/// Tells the server what this machine is and offers.
pub fn register(worker: &Worker) -> Result<(), CallError> {
    let mut present = worker.presence();
    if present.signed_off {
        return Ok(());
    }
    let config = &worker.config;
    let mut body = json!({
        "name": config.name,
        "status": "online",
        "capabilities": {
            "claude_cli": worker.is_ready(),
            "max_concurrency": config.max_concurrency,
            "labels": config.labels,
        },
        "agent_version": env!("CARGO_PKG_VERSION"),
        "os_info": os_info(),
        "install_method": "binary",
    });
    if let Some(address) = own_address(worker.client.base()) {
        body["ip_addrs"] = json!([address]);
    }
    worker.client.post("/api/runtime/workers", &body, REGISTER_TIMEOUT)?;
    if !present.registered {
        let (name, server) = (&config.name, worker.client.base());
        let most = config.max_concurrency;
        log::info!("registered worker={name:?} server={server} max_concurrency={most}");
    }
    present.registered = true;
    Ok(())
}

/// Tells the server that we are going, so that it gives us nothing more in the minute that it would
/// take to notice. One try: a server that is away notices by itself.
pub fn sign_off(worker: &Worker) {
    let mut present = worker.presence();
    present.signed_off = true;
    if present.registered {
        let body = json!({ "name": worker.config.name, "status": "offline" });
        if let Err(fault) = worker.client.post("/api/runtime/workers", &body, STOPPING_CALL) {
            log::debug!("not signed off: {fault}");
        }
    }
}

/// Our address as the server's machine would see it: that of a socket towards it. Nothing is sent.
fn own_address(server: &str) -> Option<IpAddr> {
    let server = parse_base_url(server).ok()?;
    let server = server.host_and_port().to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// `linux x86_64 (Alpine Linux v3.22)`.
fn os_info() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("unknown").trim_matches('"');
    format!("{} {} ({name})", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_address_is_the_one_towards_the_server() {
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        for server in ["http://127.0.0.1:5000", "https://127.0.0.1", "http://127.0.0.1:1/prefix"] {
            assert_eq!(own_address(server), loopback, "{server}");
        }
        assert_eq!(own_address("http://no.such.host.invalid"), None);
    }
}
