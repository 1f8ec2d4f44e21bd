//! The event stream: what was committed, in order, once; a listener that fell behind is told (P6).

use crate::harness::{PATIENCE, Server, TASKS, failure, success};
use crate::http::{connect, read_chunk, read_head};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::net::TcpStream;

const EVENTS: &str = "/api/runtime/events";

/// One listener on the stream.
struct Listener {
    stream: BufReader<TcpStream>,
    text: String,
}

/// One event as it stands on the wire.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: String,
}

impl Event {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("data is JSON: {self:?}"))
    }

    fn is_reset(&self) -> bool {
        self.name == "reset" || self.data.contains("reset")
    }
}

impl Listener {
    fn new(server: &Server, last_event_id: Option<&str>) -> Listener {
        let mut stream = connect(server.address()).unwrap();
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{resume}\r\n"
        );
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let answer = read_head(&mut stream).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Listener { stream, text: String::new() }
    }

    /// The next event; comments and `retry` are passed over.
    fn next(&mut self) -> Event {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let mut event = Event::default();
                for line in block.lines() {
                    let (field, value) = line.split_once(':').unwrap_or((line, ""));
                    match field {
                        "event" => event.name = value.trim().into(),
                        "id" => event.id = value.trim().into(),
                        "data" => event.data += value.trim(),
                        _ => {}
                    }
                }
                if !event.data.is_empty() || !event.name.is_empty() {
                    return event;
                }
            }
            let chunk = read_chunk(&mut self.stream).unwrap().expect("the stream does not end");
            self.text += &String::from_utf8(chunk).unwrap();
        }
    }

    /// Events up to one of this kind.
    fn until(&mut self, kind: &str) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            let event = self.next();
            let found = event.json()["kind"] == kind;
            all.push(event);
            if found {
                return all;
            }
        }
    }
}

#[test]
fn each_change_is_told_in_order_after_it_is_there() {
    let server = Server::start();
    let mut listener = Listener::new(&server, None);
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let seen = listener.until("task_created");
    assert_eq!(seen.last().unwrap().json()["id"], task.as_str());
    client.task(&task);
    client.lease(&task, "w", 60);
    client.act(&task, "complete", success("x")).ok(200);
    let more = listener.until("task_completed");
    let all: Vec<_> = seen.iter().chain(&more).collect();
    let seqs: Vec<_> = all.iter().map(|event| event.json()["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    for event in &all {
        assert_eq!(
            event.id,
            event.json()["seq"].to_string(),
            "an event's id is its seq: {event:?}"
        );
        assert!(event.json()["id"].is_string(), "{event:?}");
    }
    let kinds: Vec<_> = all.iter().map(|event| event.json()["kind"].clone()).collect();
    assert_eq!(kinds, ["worker_registered", "task_created", "task_leased", "task_completed"]);
}

#[test]
fn a_listener_resumes_where_it_left() {
    let server = Server::start();
    let mut client = server.client();
    let mut listener = Listener::new(&server, None);
    let first = client.new_task();
    let place = listener.next();
    assert_eq!(place.json()["id"], first.as_str());
    drop(listener);
    let missed = [(); 3].map(|()| client.new_task());
    let mut again = Listener::new(&server, Some(&place.id));
    let told = [(); 3].map(|()| again.next().json()["id"].as_str().unwrap().to_owned());
    assert_eq!(told, missed, "each once, none twice");
}

#[test]
fn a_place_that_is_not_known_any_more_is_told_reset() {
    let mut server = Server::start();
    let mut listener = Listener::new(&server, None);
    server.client().new_task();
    let place = listener.next();
    server.client().new_task();
    server.kill9();
    server.restart();
    let mut client = server.client();
    let mut last = client.new_task();
    for unknown in [place.id.as_str(), "999999999", "nonsense"] {
        let mut listener = Listener::new(&server, Some(unknown));
        let task = client.new_task();
        let event = listener.next();
        // Either it says reset, or the events of the lost memory are all still there.
        assert!(event.is_reset(), "after {unknown}: {event:?}");
        let mut told = listener.until("task_created").pop().unwrap().json();
        if told["id"] == last.as_str() {
            // An event may come after its answer: it was not told yet when this one began to listen.
            told = listener.until("task_created").pop().unwrap().json();
        }
        assert_eq!(told["id"], task.as_str(), "and goes on from now");
        last = task;
    }
}

#[test]
fn a_refused_call_is_no_event() {
    let server = Server::start();
    let mut listener = Listener::new(&server, None);
    let mut client = server.client();
    client.act("nope", "lease", json!({})).refused_somehow(404);
    client.post(TASKS, json!({})).refused_somehow(400);
    let task = client.new_task();
    client.act(&task, "complete", failure("x")).refused_somehow(409);
    client.act(&task, "cancel", json!({})).ok(200);
    let kinds: Vec<_> =
        listener.until("task_cancelled").iter().map(|event| event.json()["kind"].clone()).collect();
    assert_eq!(kinds, ["task_created", "task_cancelled"]);
}

#[test]
fn listeners_are_capped_and_the_server_ends_in_spite_of_them() {
    let mut server = Server::start();
    let mut held = Vec::new();
    let mut refused = None;
    while refused.is_none() && held.len() < 2_000 {
        let mut stream = connect(server.address()).unwrap();
        stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = format!("GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.get_mut().write_all(ask.as_bytes()).unwrap();
        let status = read_head(&mut stream).unwrap().status;
        refused = (status != 200).then_some(status);
        held.push(stream);
    }
    assert!(matches!(refused, Some(503 | 429)), "{} listeners and no cap: {refused:?}", held.len());
    assert_eq!(server.terminate(), Some(0));
}
