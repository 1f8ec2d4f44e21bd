//! Agents that registered once are asked whether they are there (CONTRACT §3).

use crate::harness::{Setup, eventually};
use crate::steps::WORKERS;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn a_worker_that_gave_an_address_is_asked_for_its_health_and_that_is_a_sign_of_life() {
    let agent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", agent.local_addr().unwrap());
    let mut server = Setup::default().start();
    let registered = server.client().post(WORKERS, json!({"name": "agent", "url": url})).json();
    let before = registered["last_heartbeat"].as_i64().unwrap();
    // The first round begins with the server.
    server.kill9();
    server.restart();
    let (mut asked, _) = agent.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        asked.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("key"), "nothing secret goes along: {head}");
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    eventually("the sign of life", || {
        let shown = server.client().get(&format!("{WORKERS}/agent")).json();
        (shown["last_heartbeat"].as_i64().unwrap() > before).then_some(())
    });
}
