//! The stand-in stays honest: what the real control plane answered, it answers too.

use crate::http::{connect, read_body, read_head};
use crate::membridge_standin::Membridge;
use serde_json::Value;
use std::io::Write;

const RECORDED: &str = include_str!("../../data/membridge.jsonl");
/// Times and ids change from run to run.
const VOLATILE: [&str; 6] =
    ["registered_at", "last_seen", "created_at", "finished_at", "request_id", "id"];

/// What differs, by JSON pointer.
fn compare(at: &str, theirs: &Value, ours: &Value) -> Vec<String> {
    let is_volatile = VOLATILE.iter().any(|name| at.ends_with(&format!("/{name}")));
    match (theirs, ours) {
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_))
            if is_volatile =>
        {
            Vec::new()
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().flat_map(|(key, a)| compare(&format!("{at}/{key}"), a, &b[key])).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.flat_map(|(n, (a, b))| compare(&format!("{at}/{n}"), a, b)).collect()
        }
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{at}: {a}, ours {b}")],
    }
}

#[test]
fn the_stand_in_answers_as_the_real_control_plane_did() {
    let standin = Membridge::start();
    let address = standin.url().trim_start_matches("http://").parse().unwrap();
    let mut differences = Vec::new();
    let mut replayed = 0;
    for line in RECORDED.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let (method, path) =
            (request["method"].as_str().unwrap(), request["path"].as_str().unwrap());
        let mut stream = connect(address).unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in request["headers"].as_object().unwrap() {
            text += &format!("{name}: {}\r\n", value.as_str().unwrap());
        }
        let body = request["body"].as_str().unwrap_or_default();
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        let mut answer = read_head(&mut stream).unwrap();
        if method != "HEAD" {
            answer.body = read_body(&mut stream, &answer).unwrap();
        }
        let ours =
            if answer.body.is_empty() { Value::String(String::new()) } else { answer.json() };
        let mut found = compare("", &response["body"], &ours);
        if response["status"] != answer.status {
            found.push(format!("status {}, ours {}", response["status"], answer.status));
        }
        let theirs = response["location"].as_str().map(|to| to.replace("127.0.0.1:18000", "HOST"));
        let ours = answer.header("location").map(|to| to.replace(&address.to_string(), "HOST"));
        if theirs != ours {
            found.push(format!("location {theirs:?}, ours {ours:?}"));
        }
        differences.extend(found.iter().map(|found| format!("{method} {path} {body}: {found}")));
        replayed += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(replayed, 51);
}
