//! Too many connections, connections that say little, and connections that vanish.

use super::{HEALTH, Honest, KEY, Memory, STATS, keyed, many_files, open, with_key};
use crate::harness::{Server, TASKS, eventually};
use crate::http::read_head;
use rustix::net::sockopt::set_socket_linger;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// As `STRANGERS_MAX` in `src/http/places.rs`.
const STRANGERS_MAX: usize = 384;

/// Whether the other side has ended this connection.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn ended(streams: &mut [TcpStream]) -> usize {
    streams.iter_mut().map(has_ended).filter(|ended| *ended).count()
}

/// The lines of the log that tell of full places.
fn complaints(server: &Server) -> usize {
    server.said().lines().filter(|line| line.contains("connections limit=")).count()
}

#[test]
fn five_thousand_idle_connections_make_room_for_the_next_and_cost_little() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let count = many_files().saturating_sub(500).min(5_000);
    let mut idle: Vec<_> = (0..count).map(|_| open(&server)).collect();
    // Room is made for newcomers, and only for them.
    eventually("the oldest make room", || {
        drop(open(&server));
        (ended(&mut idle) >= count - STRANGERS_MAX).then_some(())
    });
    let kept = count - ended(&mut idle);
    assert!(kept >= STRANGERS_MAX / 2, "{kept} are still connected");
    // A newcomer with the key gets in, and so does one without it.
    keyed(&server).get(STATS).ok(200);
    server.client().get(HEALTH).ok(200);
    assert_eq!(complaints(&server), 1, "said once, not a thousand times");
    memory.grew_at_most_mib(12);
    honest.still_holds();
}

#[test]
fn heads_by_the_byte_take_no_place_from_who_has_a_key() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    // A known connection that keeps still stays, whatever strangers do.
    let mut known = keyed(&server);
    known.get(STATS).ok(200);
    many_files();
    let line = format!("GET {STATS} HTTP/1.1\r\nHost: localhost\r\nA: {}", "x".repeat(12 << 10));
    let mut slow: Vec<_> = (0..STRANGERS_MAX + 200)
        .map(|_| {
            let mut stream = open(&server);
            stream.write_all(line.as_bytes()).ok();
            stream
        })
        .collect();
    for _ in 0..20 {
        for stream in &mut slow {
            stream.write_all(b"x").ok();
        }
    }
    eventually("the oldest make room", || {
        drop(open(&server));
        (ended(&mut slow) >= 200).then_some(())
    });
    known.get_on_kept(STATS).ok(200);
    memory.grew_at_most_mib(24);
    honest.still_holds();
}

#[test]
fn connections_that_vanish_in_every_phase_leave_nothing_behind() {
    let server = with_key();
    let mut client = keyed(&server);
    client.register("w", 32);
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let key = format!("X-Runtime-API-Key: {KEY}\r\nContent-Type: application/json\r\n");
    let post = format!("POST {TASKS} HTTP/1.1\r\nHost: localhost\r\n{key}");
    let body = r#"{"context_id":"c","agent_slug":"a","prompt":"p"}"#;
    let claim = r#"{"wait_seconds":55}"#;
    let phases = [
        String::new(),
        "G".into(),
        "GET /api/runtime/health HTTP/1.1\r\nHo".into(),
        format!("{post}Content-Length: 5000\r\n\r\n"),
        format!("{post}Content-Length: 5000\r\n\r\n{body}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nff\r\n{{"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n0\r\nA: b"),
        format!("{post}Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n"),
        format!("GET /api/runtime/events HTTP/1.1\r\nHost: localhost\r\n{key}\r\n"),
        format!("GET {TASKS} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n"),
        format!(
            "POST /api/runtime/workers/w/claim HTTP/1.1\r\nHost: localhost\r\n{key}\
             Content-Length: {}\r\n\r\n{claim}",
            claim.len()
        ),
    ];
    let tasks = client.get(STATS).ok(200)["tasks"]["total"].clone();
    let before = server.open_sockets();
    for bytes in &phases {
        for reset in [false, true] {
            let streams = [(); 8].map(|()| {
                let mut stream = open(&server);
                stream.write_all(bytes.as_bytes()).expect("the server listens");
                if reset {
                    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
                }
                stream
            });
            drop(streams);
        }
    }
    // The honest worker's own connection may be among them for a moment.
    eventually("all are gone", || (server.open_sockets() <= before + 1).then_some(()));
    assert_eq!(client.get(STATS).ok(200)["tasks"]["total"], tasks, "none of them was whole");
    assert_eq!(keyed(&server).get(TASKS).ok(200).as_array().expect("a list").len(), 1);
    memory.grew_at_most_mib(16);
    honest.still_holds();
}

#[test]
fn twenty_thousand_requests_in_one_breath_are_answered_one_after_the_other() {
    const COUNT: usize = 20_000;
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let mut stream = open(&server);
    let mut reading = BufReader::new(stream.try_clone().expect("a socket"));
    let writer = std::thread::spawn(move || {
        let request = format!("HEAD {HEALTH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.repeat(COUNT).as_bytes()).expect("all is read");
        stream
    });
    for _ in 0..COUNT {
        assert_eq!(read_head(&mut reading).expect("an answer").status, 200);
    }
    drop(writer.join());
    memory.grew_at_most_mib(8);
    honest.still_holds();
}

#[test]
fn who_pipelines_and_never_reads_is_read_no_further() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let request = format!("GET {HEALTH} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(1_000);
    let mut stuck = Vec::new();
    for _ in 0..16 {
        let mut stream = open(&server);
        stream.set_nonblocking(true).expect("a socket");
        stuck.push(stream.try_clone().expect("a socket"));
        // Until the kernel's buffers of both directions are full, or a bound far above them.
        let mut sent = 0;
        let mut quiet = 0;
        while quiet < 50 && sent < 64 << 20 {
            match stream.write(request.as_bytes()) {
                Ok(count) => (sent, quiet) = (sent + count, 0),
                Err(_) => {
                    quiet += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        assert!(sent < 64 << 20, "{sent} bytes were read although no answer was");
    }
    memory.grew_at_most_mib(8);
    honest.still_holds();
}
