//! Requests that two readers could end in different places (RFC 9112): refused, and what they hide
//! never takes effect.

use super::{HEALTH, Honest, KEY, Memory, STATS, keyed, statuses, with_key};
use crate::harness::{Server, TASKS};
use serde_json::json;

/// A whole request that would create a task.
fn create() -> String {
    let body = r#"{"context_id":"hidden","agent_slug":"a","prompt":"p"}"#;
    format!(
        "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The head of a POST with the key and these lines, open for more.
fn head(lines: &str) -> String {
    format!("POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n{lines}\r\n")
}

/// Demands that of these bytes nothing takes effect: at most one answer, a refusal, and then the end
/// of the connection.
#[track_caller]
fn refused(server: &Server, what: &str, bytes: &[u8]) {
    let statuses = statuses(server, bytes);
    let is_refusal = |status: &u16| (400..500).contains(status);
    assert!(
        statuses.len() <= 1 && statuses.iter().all(is_refusal),
        "{what}: answered {statuses:?} to {:.300}",
        bytes.escape_ascii().to_string()
    );
}

#[track_caller]
fn no_task_but_the_honest_one(server: &Server) {
    assert_eq!(keyed(server).get(STATS).ok(200)["tasks"]["total"], 1, "a hidden request counted");
}

#[test]
fn a_request_with_two_lengths_is_refused_and_what_it_hides_does_nothing() {
    let server = with_key();
    let (honest, hidden) = (Honest::start(&server), create());
    let sized = |length: usize| format!("Content-Length: {length}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    // A body that would create a task, where it is read as chunks.
    let task = r#"{"context_id":"chunked","agent_slug":"a","prompt":"p"}"#;
    let chunks = format!("{:x}\r\n{task}\r\n0\r\n\r\n", task.len());
    let whole = hidden.len() + chunks.len();
    for (what, lines, body) in [
        ("CL then TE", sized(whole) + chunked, format!("{chunks}{hidden}")),
        ("TE then CL", chunked.to_owned() + &sized(whole), format!("{chunks}{hidden}")),
        ("CL 0 and TE", sized(0) + chunked, format!("{chunks}{hidden}")),
        ("a CL that is none, and TE", format!("{chunked}Content-Length: x\r\n"), chunks.clone()),
        ("two CL", sized(0) + &sized(hidden.len()), hidden.clone()),
        ("two CL in one line", format!("Content-Length: 0, {}\r\n", hidden.len()), hidden.clone()),
    ] {
        refused(&server, what, format!("{}{body}", head(&lines)).as_bytes());
    }
    // The whole thing as a proxy passes it on, one good request before it and one behind.
    let good = format!("GET {HEALTH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let hiding = head(&(sized(whole) + chunked));
    let bytes = format!("{good}{hiding}{chunks}{hidden}{good}");
    assert_eq!(statuses(&server, bytes.as_bytes()), [200, 400]);
    no_task_but_the_honest_one(&server);
    honest.still_holds();
}

#[test]
fn an_encoding_that_is_not_exactly_chunked_is_refused() {
    let server = with_key();
    let (honest, hidden) = (Honest::start(&server), create());
    let task = r#"{"context_id":"chunked","agent_slug":"a","prompt":"p"}"#;
    let chunks = format!("{:x}\r\n{task}\r\n0\r\n\r\n", task.len());
    for value in [
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "identity",
        "\u{b}chunked",
        "chunked\0",
        "",
        "x\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
    ] {
        let bytes = head(&format!("Transfer-Encoding: {value}\r\n")) + &chunks + &hidden;
        refused(&server, value, bytes.as_bytes());
    }
    let old = head("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    refused(&server, "HTTP/1.0", (old + "0\r\n\r\n" + &hidden).as_bytes());
    no_task_but_the_honest_one(&server);
    honest.still_holds();
}

#[test]
fn a_length_that_is_no_plain_number_is_refused() {
    let server = with_key();
    let (honest, hidden) = (Honest::start(&server), create());
    for value in [
        "+5",
        "-1",
        "-0",
        "0x5",
        "5 5",
        "5,5",
        "5;",
        "5.0",
        "1e1",
        "\u{665}",
        "",
        "99999999999999999999999999",
        "18446744073709551616",
        "18446744073709551615",
    ] {
        let bytes = head(&format!("Content-Length: {value}\r\n")) + &hidden;
        refused(&server, value, bytes.as_bytes());
    }
    no_task_but_the_honest_one(&server);
    honest.still_holds();
}

#[test]
fn a_head_that_is_not_plain_lines_is_refused() {
    let server = with_key();
    let (honest, hidden) = (Honest::start(&server), create());
    let length = hidden.len();
    let nul = [head("A: b\0c\r\n"), head("A\0: b\r\n")].concat();
    for (what, bytes) in [
        ("blank before the colon", head(&format!("Content-Length : {length}\r\n"))),
        ("tab before the colon", head("Transfer-Encoding\t: chunked\r\n")),
        ("folded line", head(&format!("A: b\r\n Content-Length: {length}\r\n"))),
        ("folded length", head(&format!("Content-Length:\r\n {length}\r\n"))),
        ("line without a colon", head("Content-Length\r\n")),
        ("bare LF", head(&format!("A: b\nContent-Length: {length}\r\n"))),
        ("only LF", head("A: b\r\n").replace("\r\n", "\n")),
        ("bare CR", head(&format!("A: b\rContent-Length: {length}\r\n"))),
        ("CR CR LF", head(&format!("A: b\r\r\nContent-Length: {length}\r\n"))),
        ("NUL in a value", nul),
        ("a name that is none", head("Content[Length]: 5\r\n")),
        ("no name", head(": 5\r\n")),
        ("no host", head("").replace("Host: localhost\r\n", "")),
        ("two hosts", head("Host: y\r\n")),
        ("blank in the target", head("").replace(" HTTP/1.1", " x HTTP/1.1")),
        ("two blanks", head("").replace(" HTTP/1.1", "  HTTP/1.1")),
    ] {
        refused(&server, what, (bytes + &hidden).as_bytes());
    }
    no_task_but_the_honest_one(&server);
    honest.still_holds();
}

#[test]
fn what_is_no_http_1_ends_the_connection() {
    let server = with_key();
    let honest = Honest::start(&server);
    let hidden = create();
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    let shapes: [(&str, &[u8]); 9] = [
        ("TLS hello", hello),
        ("HTTP/0.9", b"GET /api/runtime/health\r\n"),
        ("no version", b"GET /api/runtime/health \r\nHost: localhost\r\n\r\n"),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ("HTTP/1.2", b"GET /api/runtime/health HTTP/1.2\r\nHost: localhost\r\n\r\n"),
        ("HTTP/2.0", b"GET /api/runtime/health HTTP/2.0\r\nHost: localhost\r\n\r\n"),
        ("lower case", b"GET /api/runtime/health http/1.1\r\nHost: localhost\r\n\r\n"),
        ("bytes", b"\xff\xfe\xfd\0\x01\x02\r\n\r\n"),
        ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (what, bytes) in shapes {
        refused(&server, what, &[bytes, hidden.as_bytes()].concat());
    }
    no_task_but_the_honest_one(&server);
    honest.still_holds();
}

#[test]
fn a_chunked_body_without_a_certain_end_is_refused() {
    let server = with_key();
    let (honest, memory, hidden) = (Honest::start(&server), Memory::before(&server), create());
    let trailers = |count: usize| "Content-Length: 5\r\n".repeat(count);
    for (what, body) in [
        ("size too large", "10000000000000000\r\n".to_owned()),
        ("largest size", "ffffffffffffffff\r\nx".into()),
        ("no size", "\r\n".into()),
        ("negative", "-1\r\n".into()),
        ("0x", "0x5\r\nhello\r\n0\r\n\r\n".into()),
        ("bare LF behind a size", "5\nhello\r\n0\r\n\r\n".into()),
        ("bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n".into()),
        ("chunk longer than said", "2\r\nhello\r\n0\r\n\r\n".into()),
        ("chunk shorter than said", "9\r\nhello\r\n0\r\n\r\n".into()),
        ("bare LF behind the end", "0\r\n\n".into()),
        ("bare LF in a trailer", "0\r\nA: b\nX: y\r\n\r\n".into()),
        ("extension of a megabyte", format!("5;a={}\r\nhello\r\n", "x".repeat(1 << 20))),
        ("many extensions", "1;abcdefgh\r\nx\r\n".repeat(100_000)),
        ("trailers by the thousand", format!("0\r\n{}\r\n", trailers(5_000))),
        ("a trailer of a megabyte", format!("0\r\nA: {}\r\n\r\n", "x".repeat(1 << 20))),
    ] {
        let bytes = head("Transfer-Encoding: chunked\r\n") + &body + &hidden;
        refused(&server, what, bytes.as_bytes());
    }
    no_task_but_the_honest_one(&server);
    memory.grew_at_most_mib(16);
    honest.still_holds();
}

#[test]
fn what_stands_in_a_body_is_text_and_no_request() {
    let server = with_key();
    let honest = Honest::start(&server);
    let prompt = create();
    let body = json!({"context_id": "c", "agent_slug": "a", "prompt": prompt}).to_string();
    let last = format!(
        "GET {HEALTH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
        prompt.len(),
        create()
    );
    let sized = head(&format!("Content-Length: {}\r\n", body.len())) + &body;
    let (first, rest) = body.split_at(30);
    let chunked = head("Transfer-Encoding: chunked\r\n")
        + &format!("{:x};e=\"1\"\r\n{first}\r\n", first.len())
        + &format!("{:X} \r\n{rest}\r\n0\r\nHost: trailer\r\n\r\n", rest.len());
    // All in one write, pipelined.
    let bytes = format!("{sized}{chunked}\r\n{sized}{last}");
    assert_eq!(statuses(&server, bytes.as_bytes()), [201, 201, 201, 200]);
    assert_eq!(keyed(&server).get(STATS).ok(200)["tasks"]["total"], 4);
    honest.still_holds();
}

#[test]
fn a_whole_url_as_target_is_read_by_its_path_and_its_own_host_counts() {
    let server = crate::harness::Setup::default().env("ALLOWED_HOSTS", "bloom.example").start();
    let ask = |target: &str, host: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        server.client().try_raw("GET", target, bytes.as_bytes()).unwrap().status
    };
    assert_eq!(ask("http://bloom.example/api/runtime/stats", "bloom.example"), 200);
    assert_eq!(ask("http://bloom.example/api/runtime/stats", "evil.example"), 200);
    assert_eq!(ask("http://evil.example/api/runtime/stats", "bloom.example"), 421);
    assert_eq!(ask("http://evil.example/api/runtime/stats", "localhost"), 421);
    assert_eq!(ask("/api/runtime/stats", "evil.example"), 421);
    assert_eq!(ask("/api/runtime/stats", "bloom.example"), 200);
    assert_eq!(ask("http://bloom.example/nothing", "bloom.example"), 404);
    assert!((400..500).contains(&ask("bloom.example:80", "bloom.example")));
    assert!((400..500).contains(&ask("*", "bloom.example")));
}
