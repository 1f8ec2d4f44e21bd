//! An upstream that is slow, endless, broken or wants the key: every route ends in words, and nobody else
//! waits for it.

use super::{BRIDGE, before, pointed_at};
use crate::harness::{Server, eventually};
use crate::http::{Answer, Client};
use crate::membridge_standin::{KEY, Upstream, answer};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Keeps a connection open and silent until the other side gives up.
fn hang(stream: &mut TcpStream) {
    let _ = std::io::Read::read(stream, &mut [0]);
}

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// A byte a second.
fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// The head of a good answer that promises this many bytes.
fn head(length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
        .into()
}

/// A megabyte at a time, for a gigabyte, or until nobody reads.
fn flood(stream: &mut TcpStream, piece: &[u8]) {
    let megabyte = piece.repeat((1 << 20) / piece.len());
    for _ in 0..1024 {
        if stream.write_all(&megabyte).is_err() {
            return;
        }
    }
}

type Misbehaviour = fn(&mut TcpStream);

/// Each with the status that a caller sees.
const MISBEHAVIOURS: [(&str, u16, Misbehaviour); 20] = [
    ("hangs", 502, hang),
    ("drips its head", 502, |s| drip(s, &head(2))),
    ("drips its body", 502, |s| {
        send(s, &head(600));
        drip(s, &[b' '; 600]);
    }),
    ("a gigabyte", 502, |s| {
        send(s, &head(1 << 30));
        flood(s, b"[] ");
    }),
    ("a gigabyte in chunks", 502, |s| {
        send(s, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        flood(s, b"8\r\n        \r\n");
    }),
    ("a gigabyte of headers", 502, |s| {
        send(s, b"HTTP/1.1 200 OK\r\n");
        flood(s, b"a: b\r\n");
    }),
    ("headers exactly at the limit, then more", 502, |s| {
        send(s, b"HTTP/1.1 200 OK\r\n");
        // The client counts what is left of 8,192 bytes; this line and its end take it below nothing.
        send(s, format!("{}\n", "a".repeat(8_191)).as_bytes());
        flood(s, b"a: b\r\n");
    }),
    ("html", 502, |s| answer(s, 200, "", "<html>hello")),
    ("nothing with a 200", 502, |s| answer(s, 200, "", "")),
    ("half a document", 502, |s| answer(s, 200, "", "[{\"a\":")),
    ("invalid UTF-8", 502, |s| {
        send(s, &head(5));
        send(s, b"[\"\xff\"]");
    }),
    ("204", 502, |s| send(s, b"HTTP/1.1 204 No Content\r\n\r\n")),
    ("closes at once", 502, |_| {}),
    ("closes in its head", 502, |s| send(s, b"HTTP/1.1 200 OK\r\ncontent-le")),
    ("closes in its body", 502, |s| {
        send(s, &head(20));
        send(s, b"[1,2]");
    }),
    ("more than it promised", 200, |s| {
        send(s, &head(2));
        send(s, b"[][][]");
    }),
    ("a length that is none", 502, |s| {
        send(s, b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n[]");
    }),
    ("no HTTP", 502, |s| send(s, b"SSH-2.0-OpenSSH_9\r\n")),
    ("informs for ever", 502, |s| send(s, b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    ("a status beyond all", 502, |s| send(s, b"HTTP/1.1 999 X\r\ncontent-length: 2\r\n\r\n[]")),
];

fn every_route(client: &mut Client) -> Vec<Answer> {
    let mut answers: Vec<_> =
        ["/health", "/projects", "/projects/p/leadership", "/projects/p/nodes"]
            .map(|path| client.get(&format!("{BRIDGE}{path}")))
            .into();
    let select = format!("{BRIDGE}/projects/p/leadership/select");
    answers.push(client.post(&select, json!({"primary_node_id": "n"})));
    answers
}

#[test]
fn every_misbehaviour_ends_in_words_on_every_route_and_in_the_sync() {
    std::thread::scope(|scope| {
        for (name, status, misbehave) in MISBEHAVIOURS {
            scope.spawn(move || {
                let upstream = Upstream::start(move |_, stream| misbehave(stream));
                let server = pointed_at(&upstream.url()).env("MEMBRIDGE_SYNC_SECONDS", "1").start();
                upstream.wait_for("the sync", |asked| asked.path == "/agents");
                let mut client = server.client();
                let began = Instant::now();
                for answer in every_route(&mut client) {
                    match status {
                        200 => assert_eq!(answer.text(), "[]", "{name}: {answer}"),
                        status => drop(answer.refused_somehow(status)),
                    }
                }
                println!("{name}: five routes in {:.1} s", began.elapsed().as_secs_f64());
                // Whatever came, it goes on, holds no worker, and told nothing of the key.
                assert_eq!(client.get("/api/runtime/workers").ok(200), json!([]));
                assert_eq!(client.get("/api/runtime/health").ok(200)["status"], "ok");
                assert!(!server.said().contains(KEY), "{name}");
            });
        }
    });
}

#[test]
fn refusals_of_every_kind_end_in_words_on_every_route() {
    std::thread::scope(|scope| {
        for status in [401, 404, 409, 422, 500, 503] {
            scope.spawn(move || {
                let html = "<html>no";
                let upstream = Upstream::start(move |_, stream| answer(stream, status, "", html));
                let server = pointed_at(&upstream.url()).env("MEMBRIDGE_SYNC_SECONDS", "1").start();
                upstream.wait_for("the sync", |asked| asked.path == "/agents");
                for answer in every_route(&mut server.client()) {
                    // Past five failures in a row it is left alone for a while.
                    let expected = if answer.status == 502 && status >= 500 { 502 } else { status };
                    answer.refused_somehow(expected);
                }
            });
        }
    });
}

#[test]
fn a_redirect_to_a_collector_brings_it_nothing() {
    let collector = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    for status in [301, 302, 303, 307, 308] {
        let to = format!("location: {}/take\r\n", collector.url());
        let upstream = Upstream::start(move |_, stream| answer(stream, status, &to, "{}"));
        let server = pointed_at(&upstream.url()).env("MEMBRIDGE_SYNC_SECONDS", "1").start();
        upstream.wait_for("the sync", |asked| asked.path == "/agents");
        for answer in every_route(&mut server.client()) {
            answer.refused_somehow(status);
            assert_eq!(answer.header("location"), None, "{answer}");
        }
        let test = server.client().post_nothing("/api/runtime/test-connection").ok(200);
        assert_eq!(test["connected"], false, "{test}");
    }
    assert_eq!(collector.seen().len(), 0);
}

#[test]
fn the_environments_proxies_are_not_looked_at() {
    let proxy = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    let upstream = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    let mut setup = pointed_at(&upstream.url());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        setup = setup.env(name, &proxy.url());
    }
    let server = setup.start();
    every_route(&mut server.client());
    assert_eq!((upstream.seen().len(), proxy.seen().len()), (5, 0));
}

/// The slowest of a hundred of our own answers, from a list that is read from disk among them.
fn p99_ms(client: &mut Client, rounds: usize) -> f64 {
    let mut took = Vec::new();
    for n in 0..rounds {
        let path =
            ["/api/runtime/llm-tasks?limit=20", "/api/runtime/stats", "/api/runtime/workers"];
        let began = Instant::now();
        client.get(path[n % 3]).ok(200);
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    took[took.len() * 99 / 100]
}

#[test]
fn a_hundred_callers_of_a_hanging_upstream_are_answered_and_nobody_else_waits_for_them() {
    let upstream = Upstream::start(|_, stream| hang(stream));
    let server: Server = before(&upstream.url());
    let mut client = server.client();
    (0..50).for_each(|_| drop(client.new_task()));
    let alone = p99_ms(&mut client, 300);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let (tell, server) = (tell.clone(), &server);
            scope.spawn(move || {
                let began = Instant::now();
                let answer = server.client().get(&format!("{BRIDGE}/projects"));
                answer.refused(502, "fetch failed");
                tell.send(began.elapsed()).unwrap();
            });
        }
        upstream.wait_for("the first of them", |asked| asked.path == "/projects");
        let beside = p99_ms(&mut client, 300);
        // Writes too: each needs the writer's commit.
        (0..20).for_each(|_| drop(client.new_task()));
        assert!(told.try_recv().is_err(), "they were still waiting while we were answered");
        let longest = (0..100).map(|_| told.recv().unwrap()).max().unwrap();
        println!(
            "p99 of our own answers: {alone:.2} ms alone, {beside:.2} ms beside a hanging upstream"
        );
        println!("the longest of a hundred callers waited {:.1} s", longest.as_secs_f64());
    });
    assert!(upstream.seen().len() < 20, "most were answered without a call of their own");
}

#[test]
fn an_upstream_that_drips_is_let_go_of_although_it_never_stops() {
    let dripping = Arc::new(AtomicUsize::new(0));
    let open = dripping.clone();
    let upstream = Upstream::start(move |_, stream| {
        open.fetch_add(1, Ordering::SeqCst);
        send(stream, &head(1_000));
        drip(stream, &[b' '; 1_000]);
        open.fetch_sub(1, Ordering::SeqCst);
    });
    let server = before(&upstream.url());
    let answer = server.client().get(&format!("{BRIDGE}/projects"));
    answer.refused(502, "fetch failed");
    upstream.wait_for("the call", |asked| asked.path == "/projects");
    // Its handler ends when nobody reads any more; left alone it would drip for a quarter of an hour.
    eventually("that we hang up", || (dripping.load(Ordering::SeqCst) == 0).then_some(()));
}

#[test]
fn a_stop_does_not_wait_for_a_hanging_upstream() {
    let upstream = Upstream::start(|_, stream| hang(stream));
    let mut server = pointed_at(&upstream.url()).env("MEMBRIDGE_SYNC_SECONDS", "10").start();
    upstream.wait_for("the sync", |asked| asked.path == "/agents");
    let began = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    println!("stopped after {:.2} s", began.elapsed().as_secs_f64());
    assert!(server.said().contains("stopped, everything is on disk"));
    assert_eq!(upstream.seen().len(), 1, "no further try after the stop");
}
