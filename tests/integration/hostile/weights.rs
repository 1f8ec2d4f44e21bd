//! Bytes that weigh: bodies that never end, heads that are huge, answers and events that nobody reads,
//! logs that somebody else fills.

use super::{HEALTH, Honest, KEY, Memory, STATS, keyed, open, statuses, with_key};
use crate::harness::{PATIENCE, Server, Setup, TASKS, eventually};
use crate::http::{Client, read_chunk, read_head};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::io::{BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

/// A connection whose own side of the kernel holds next to nothing, so that what is not read stays
/// with the server.
fn narrow(server: &Server) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    set_socket_recv_buffer_size(&socket, 4 << 10).expect("a socket");
    connect(&socket, &server.address()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

#[test]
fn a_head_over_its_limit_is_431_and_one_below_is_read() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let head = |lines: &str| format!("GET {HEALTH} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let last = "Connection: close\r\n";
    let long = |bytes: usize| format!("A: {}\r\n{last}", "x".repeat(bytes));
    assert_eq!(statuses(&server, head(&long(15 << 10)).as_bytes()), [200]);
    assert_eq!(statuses(&server, head(&("A: b\r\n".repeat(60) + last)).as_bytes()), [200]);
    for (what, lines) in [
        ("one long line", long(17 << 10)),
        ("one endless line", long(4 << 20)),
        ("many lines", "A: b\r\n".repeat(100) + last),
        ("very many lines", "A: b\r\n".repeat(300_000) + last),
        ("many lengths", "Content-Length: 0\r\n".repeat(100)),
    ] {
        let statuses = statuses(&server, head(&lines).as_bytes());
        // The answer may be lost when the connection ends while we are still sending.
        assert!(statuses.iter().all(|status| *status == 431), "{what}: {statuses:?}");
    }
    let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(70_000));
    assert!(statuses(&server, target.as_bytes()).iter().all(|status| [414, 431].contains(status)));
    memory.grew_at_most_mib(8);
    honest.still_holds();
}

#[test]
fn who_needs_no_key_may_send_no_body_to_speak_of() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let mut held = Vec::new();
    for path in [HEALTH, "/api/runtime/test-connection", STATS, TASKS] {
        let method = if path == HEALTH || path == STATS { "GET" } else { "POST" };
        let refusal = if [STATS, TASKS].contains(&path) { 401 } else { 413 };
        for length in ["5000", "1000000", "1000000000"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            );
            let mut stream = open(&server);
            stream.write_all(head.as_bytes()).unwrap();
            let mut stream = BufReader::new(stream);
            assert_eq!(read_head(&mut stream).expect("an answer").status, refusal, "{head}");
            held.push(stream);
        }
    }
    memory.grew_at_most_mib(8);
    honest.still_holds();
}

#[test]
fn large_bodies_that_stand_still_stop_no_small_one() {
    const HELD_BACK: usize = 6_000;
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let head = |length: usize| {
        format!(
            "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    // What keeps them from being cut off as silent: next to nothing, however long the rest takes.
    let (drip, dripping) = mpsc::channel::<TcpStream>();
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = dripping.recv().into_iter().collect();
        loop {
            match dripping.recv_timeout(Duration::from_secs(1)) {
                Ok(stream) => held.push(stream),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    held.retain_mut(|stream| stream.write(&[b' '; 60]).is_ok());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    // Nearly whole bodies that stand almost still, one more whenever none has been refused yet. Those
    // that were refused give their room back, so the smaller ones come last and fill what is left.
    let stand_still = |length: usize| {
        let mut held = Vec::new();
        eventually("a body is refused", || {
            let mut stream = open(&server);
            stream.write_all(head(length).as_bytes()).unwrap();
            // It may be refused and closed on the way.
            stream.write_all(&vec![b' '; length - HELD_BACK]).ok();
            stream.set_nonblocking(true).unwrap();
            drip.send(stream.try_clone().unwrap()).expect("it drips until the end");
            held.push(BufReader::new(stream));
            let is_refused = |stream: &mut BufReader<TcpStream>| match read_head(stream) {
                Ok(answer) if answer.status == 503 => true,
                Ok(answer) => panic!("{answer}"),
                // Closed on the way, and the answer was lost.
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            held.iter_mut().any(is_refused).then_some(())
        });
        held
    };
    let _held = [15_000_000, 1_000_000, 100_000].map(stand_still);
    let mut client = keyed(&server);
    let body = |length: usize| {
        json!({"context_id": "c", "agent_slug": "a", "prompt": "p".repeat(length)}).to_string()
    };
    let json = [("Content-Type", "application/json")];
    // Refused on the way, so that its answer may be lost.
    if let Ok(answer) = client.try_send("POST", TASKS, &json, Some(body(14_000_000).as_bytes())) {
        assert_eq!(answer.refused_somehow(503), "bodies_in_flight");
    }
    let mut create =
        |length: usize| client.send("POST", TASKS, &json, Some(body(length).as_bytes()));
    let mut small = Vec::new();
    for _ in 0..10 {
        let mut stream = open(&server);
        stream.write_all(head(60_000).as_bytes()).unwrap();
        stream.write_all(&[b' '; 59_999]).unwrap();
        small.push(stream);
        create(10).ok(201);
        create(50_000).ok(201);
    }
    memory.grew_at_most_mib(160);
    honest.still_holds();
}

#[test]
fn a_body_by_the_byte_is_cut_off() {
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let mut stream = open(&server);
    let head = format!(
        "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\
         Content-Length: 5000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut stream = BufReader::new(stream);
    // Never silent, and never done: a byte each tenth of a second.
    let answer = eventually("an answer to a body by the byte", || {
        stream.get_mut().write_all(b" ").ok();
        read_head(&mut stream).ok()
    });
    assert_eq!(answer.status, 408, "{answer}");
    assert_eq!(answer.header("connection"), Some("close"));
    memory.grew_at_most_mib(8);
    honest.still_holds();
}

#[test]
fn wrong_keys_as_fast_as_they_come_fill_neither_the_log_nor_the_days_of_others() {
    const ASKED: usize = 20_000;
    let server = with_key();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let address = server.address();
    let floods = [(); 4].map(|()| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("the server listens");
            let mut reading = BufReader::new(stream.try_clone().expect("a socket"));
            let request = format!(
                "HEAD {STATS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: wrong\r\n\r\n\
                 HEAD {HEALTH} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            );
            let writing = std::thread::spawn(move || {
                stream.write_all(request.repeat(ASKED / 8).as_bytes()).expect("all is read");
            });
            let mut guessed = [0; 2];
            for n in 0..ASKED / 4 {
                let status = read_head(&mut reading).expect("an answer").status;
                match (n % 2, status) {
                    (0, 401) => guessed[0] += 1,
                    (0, 429) => guessed[1] += 1,
                    (1, 200) => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
            writing.join().expect("all is sent");
            guessed
        })
    });
    let all = floods.map(|flood| flood.join().expect("every request is answered"));
    let (heard, limited) = all.iter().fold((0, 0), |sum, one| (sum.0 + one[0], sum.1 + one[1]));
    // A window may end in between.
    assert!(heard <= 400 && limited > 0, "{heard} guesses were heard, {limited} were not");
    memory.grew_at_most_mib(8);
    honest.still_holds();
    let said = server.said();
    let lines = said.lines().filter(|line| !line.contains("llm-tasks")).count();
    assert!(lines < 3_000, "{lines} lines about {ASKED} requests of strangers");
    let told = said.lines().filter(|line| line.contains("are counted only")).count();
    assert!((1..=5).contains(&told), "said {told} times");
}

#[test]
fn a_hundred_event_streams_that_never_read_cost_nobody_else_an_event() {
    const TOLD: usize = 4_000;
    let server = Setup::default().env("RUNTIME_API_KEY", KEY).start();
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let ask = format!(
        "GET /api/runtime/events HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\r\n"
    );
    let listen = |mut stream: TcpStream| {
        stream.write_all(ask.as_bytes()).expect("the server listens");
        let mut stream = BufReader::new(stream);
        assert_eq!(read_head(&mut stream).expect("an answer").status, 200);
        stream
    };
    let _deaf: Vec<_> = (0..100).map(|_| listen(narrow(&server))).collect();
    let mut attentive = listen(open(&server));
    let hearing = std::thread::spawn(move || {
        let (mut heard, mut text) = (0, String::new());
        while heard < TOLD {
            let chunk = read_chunk(&mut attentive).expect("a stream").expect("it does not end");
            text += str::from_utf8(&chunk).expect("text");
            while let Some((event, rest)) = text.split_once("\n\n") {
                assert!(!event.contains("reset"), "it reads, so it misses nothing");
                heard += usize::from(event.contains("task_created"));
                text = rest.to_owned();
            }
        }
    });
    let address = server.address();
    let busy = [(); 4].map(|()| {
        std::thread::spawn(move || {
            let mut client = Client::new(address).with_key(KEY);
            (0..TOLD / 4).for_each(|_| drop(client.new_task()));
        })
    });
    for busy in busy {
        busy.join().expect("every task is created");
    }
    hearing.join().expect("every event is heard");
    memory.grew_at_most_mib(48);
    honest.still_holds();
}

#[test]
fn pages_that_nobody_reads_share_a_budget() {
    let server = Setup::default().env("RUNTIME_API_KEY", KEY).start();
    let mut client = keyed(&server);
    for _ in 0..5 {
        client.create(json!({"prompt": "p".repeat(1 << 20)}));
    }
    let (honest, memory) = (Honest::start(&server), Memory::before(&server));
    let ask =
        format!("GET {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\r\n");
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        let mut stream = narrow(&server);
        stream.write_all(ask.as_bytes()).expect("the server listens");
        let mut stream = BufReader::new(stream);
        let answer = read_head(&mut stream).expect("an answer");
        refused += usize::from(answer.status == 503);
        assert!([200, 503].contains(&answer.status), "{answer}");
        held.push(stream);
    }
    assert!((20..30).contains(&refused), "of 40 pages of 4 MiB {refused} were refused");
    let mut small = || client.get(&format!("{TASKS}?limit=1&status=leased"));
    small().ok(200);
    assert_eq!(client.get(TASKS).refused_somehow(503), "answers_in_flight");
    memory.grew_at_most_mib(120);
    drop(held);
    eventually("room again", || (client.get(TASKS).status == 200).then_some(()));
    honest.still_holds();
}
