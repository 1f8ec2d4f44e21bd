//! The live log of a task: lines that heartbeats brought, read or followed, and nothing of it on disk.

use crate::harness::{Server, TASKS, eventually, failure, success, under};
use crate::http::{Client, connect, read_chunk, read_head};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::net::TcpStream;

/// One who follows a task's log.
struct Follower {
    stream: BufReader<TcpStream>,
    text: String,
}

impl Follower {
    #[track_caller]
    fn new(server: &Server, task: &str, headers: &str) -> Follower {
        let mut stream = connect(server.address()).unwrap();
        let head =
            format!("GET {TASKS}/{task}/log?follow=1 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let answer = read_head(&mut stream).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        Follower { stream, text: String::new() }
    }

    /// The next event that is no comment, as it stands on the wire; None at the end of the stream.
    #[track_caller]
    fn next(&mut self) -> Option<String> {
        let mut alive = 0;
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if !event.starts_with(':') {
                    return Some(event);
                }
                alive += usize::from(event == ": alive");
                assert!(alive < 2, "nothing came for more than 20 s");
            }
            let chunk = read_chunk(&mut self.stream).unwrap()?;
            self.text += &String::from_utf8(chunk).unwrap();
        }
    }

    /// The number and the text of the next event, which must be a line.
    #[track_caller]
    fn line(&mut self) -> (u64, String) {
        let event = self.next().expect("a line");
        let (id, data) = event.split_once("\ndata: ").unwrap_or_else(|| panic!("{event}"));
        let line: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{event}"));
        assert_eq!(id, format!("id: {}", line["n"]));
        (line["n"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn ends_as(&mut self, status: &str) {
        let end = format!("event: end\ndata: {{\"status\":\"{status}\"}}");
        assert_eq!(self.next(), Some(end));
        assert_eq!(self.next(), None, "the stream ends");
    }
}

fn say(client: &mut Client, task: &str, lease: &str, lines: &[&str]) {
    client.act(task, "heartbeat", json!({"lease_id": lease, "log": lines})).ok(200);
}

#[track_caller]
fn log(client: &mut Client, task: &str, query: &str) -> Value {
    client.get(&format!("{TASKS}/{task}/log{query}")).ok(200)
}

fn texts(log: &Value) -> Vec<&str> {
    let lines = log["lines"].as_array().unwrap();
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

fn leased(server: &Server) -> (Client, String, String) {
    let mut client = server.client();
    client.register("w", 9);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    (client, task, lease)
}

#[test]
fn what_a_task_says_is_read_from_where_a_reader_stopped_over_all_its_attempts() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    let empty = json!({"task_id": task, "lines": [], "next": 0, "lost": false, "ended": false});
    assert_eq!(log(&mut client, &task, ""), empty);
    say(&mut client, &task, &lease, &["one", "two", "три\u{0}"]);
    let first = log(&mut client, &task, "?limit=2");
    assert_eq!((texts(&first), &first["next"]), (vec!["one", "two"], &json!(2)));
    let rest = log(&mut client, &task, "?after=2");
    assert_eq!((texts(&rest), &rest["lines"][0]["n"]), (vec!["три\u{0}"], &json!(3)));
    client.act(&task, "complete", under(&lease, failure("boom"))).ok(200);
    assert_eq!(log(&mut client, &task, "?after=3")["ended"], true);
    client.act(&task, "requeue", json!({})).ok(200);
    let second = client.lease(&task, "w", 600);
    say(&mut client, &task, &second, &["again"]);
    let again = log(&mut client, &task, "?after=3");
    assert_eq!((texts(&again), &again["ended"]), (vec!["again"], &json!(false)));
    assert_eq!((&again["lines"][0]["n"], &again["lines"][0]["attempt"]), (&json!(4), &json!(2)));
}

#[test]
fn a_lease_that_is_lost_writes_nothing_into_the_log() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    client.act(&task, "complete", under(&lease, failure("x"))).ok(200);
    client.act(&task, "requeue", json!({})).ok(200);
    let second = client.lease(&task, "w", 600);
    let stale = json!({"lease_id": lease, "log": ["I slept"]});
    client.act(&task, "heartbeat", stale).refused_somehow(409);
    say(&mut client, &task, &second, &["mine"]);
    assert_eq!(texts(&log(&mut client, &task, "")), ["mine"]);
}

#[test]
fn lines_are_cut_and_never_a_reason_to_refuse_a_heartbeat() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    for nonsense in
        [json!("text"), json!({"a": 1}), json!(7), Value::Null, json!([1, null, [], {}])]
    {
        client.act(&task, "heartbeat", json!({"lease_id": lease, "log": nonsense})).ok(200);
    }
    assert_eq!(texts(&log(&mut client, &task, "")), [""; 0]);
    let long = "ж".repeat(2_001);
    say(&mut client, &task, &lease, &[&long]);
    assert_eq!(texts(&log(&mut client, &task, "")), [&long[2..]]);
    let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    say(&mut client, &task, &lease, &many);
    assert_eq!(texts(&log(&mut client, &task, "?after=1")), many[1..]);
    (0..2).for_each(|_| say(&mut client, &task, &lease, &many));
    let tail = log(&mut client, &task, "");
    assert_eq!(
        (texts(&tail).len(), &tail["next"], &tail["lost"]),
        (500, &json!(601), &json!(true))
    );
}

#[test]
fn a_follower_gets_each_line_as_it_comes_and_the_end_of_the_task() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    say(&mut client, &task, &lease, &["before"]);
    let mut follower = Follower::new(&server, &task, "");
    assert_eq!(follower.line(), (1, "before".into()));
    say(&mut client, &task, &lease, &["one", "two"]);
    assert_eq!(follower.line(), (2, "one".into()));
    assert_eq!(follower.line(), (3, "two".into()));
    let mut resumed = Follower::new(&server, &task, "Last-Event-ID: 2\r\n");
    assert_eq!(resumed.line(), (3, "two".into()));
    client.act(&task, "complete", under(&lease, success("x"))).ok(200);
    follower.ends_as("completed");
    resumed.ends_as("completed");
    let mut late = Follower::new(&server, &task, "Last-Event-ID: 3\r\n");
    late.ends_as("completed");
    // Whatever ends a task, also one that never said a word.
    let quiet = client.new_task();
    let mut follower = Follower::new(&server, &quiet, "");
    client.act(&quiet, "cancel", json!({})).ok(200);
    follower.ends_as("cancelled");
}

#[test]
fn a_follower_of_many_lines_gets_all_of_them_before_the_end() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    (0..64).for_each(|_| say(&mut client, &task, &lease, &["x", "y", "z"]));
    client.act(&task, "complete", under(&lease, success("x"))).ok(200);
    let mut follower = Follower::new(&server, &task, "");
    for n in 1..=192 {
        assert_eq!(follower.line().0, n);
    }
    follower.ends_as("completed");
}

#[test]
fn a_place_of_another_life_of_the_server_is_told_that_lines_are_lost() {
    let mut server = Server::start();
    let (mut client, task, lease) = leased(&server);
    say(&mut client, &task, &lease, &["one", "two"]);
    server.kill9();
    server.restart();
    let mut client = server.client();
    let gone = json!({"task_id": task, "lines": [], "next": 0, "lost": true, "ended": false});
    assert_eq!(log(&mut client, &task, "?after=2"), gone);
    let mut follower = Follower::new(&server, &task, "Last-Event-ID: 2\r\n");
    assert_eq!(follower.next().as_deref(), Some("event: lost\ndata: {\"next\":1}"));
    say(&mut client, &task, &lease, &["three"]);
    assert_eq!(follower.line(), (1, "three".into()));
}

#[test]
fn an_unknown_task_has_no_log_and_a_head_of_a_stream_has_an_end() {
    let server = Server::start();
    let mut client = server.client();
    for id in ["nope", "00000000-0001-83ae-9d3a-3100dddd7002"] {
        for query in ["", "?follow=1"] {
            let answer = client.get(&format!("{TASKS}/{id}/log{query}"));
            assert_eq!(answer.refused_somehow(404), "task_not_found");
        }
    }
    let task = client.new_task();
    let path = format!("{TASKS}/{task}/log");
    let accept = [("Accept", "text/event-stream")];
    let head = client.send("HEAD", &path, &accept, None);
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(client.get_on_kept(&path).ok(200)["ended"], false);
}

#[test]
fn nothing_of_a_log_touches_the_disk() {
    let server = Server::start();
    let (mut client, task, lease) = leased(&server);
    say(&mut client, &task, &lease, &["the first makes it running"]);
    let mut before = server.written_bytes();
    eventually("a quiet disk", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let quiet = std::mem::replace(&mut before, server.written_bytes()) == before;
        quiet.then_some(())
    });
    let mut follower = Follower::new(&server, &task, "");
    for n in 0..300 {
        say(&mut client, &task, &lease, &[&"x".repeat(1_000), "y"]);
        let place = log(&mut client, &task, "")["next"].clone();
        assert_eq!(place, 1 + 2 * (n + 1));
    }
    follower.next().expect("it was followed all the time");
    assert_eq!(server.written_bytes(), before, "P8");
}
