//! CONTRACT §1: what a body may be, and the named answer for each that it may not.

use crate::harness::{PATIENCE, Server, TASKS, WORKERS, success};
use crate::http::{Answer, Client, connect, read_head};
use serde_json::json;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VALID: &str = r#"{"context_id":"c","agent_slug":"a","prompt":"p"}"#;

fn create(client: &mut Client, body: impl AsRef<[u8]>) -> Answer {
    client.post_text(TASKS, "application/json", body.as_ref())
}

#[test]
fn no_body_at_all_is_required_and_an_empty_json_body_is_an_empty_object() {
    let server = Server::start();
    let mut client = server.client();
    for path in [TASKS, WORKERS, "/api/runtime/config"] {
        client.post_nothing(path).invalid_form("Required");
    }
    let required = json!(["Required"]);
    let fields = json!({"context_id": required, "agent_slug": required, "prompt": required});
    create(&mut client, "").invalid(fields.clone());
    create(&mut client, "{}").invalid(fields);
}

#[test]
fn calls_that_need_no_body_take_none_or_an_empty_json_one() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 8);
    let json = ("Content-Type", "application/json");
    for headers in [&[][..], &[json][..]] {
        let task = client.new_task();
        let mut act =
            |verb: &str| client.send("POST", &format!("{TASKS}/{task}/{verb}"), headers, Some(b""));
        act("lease").ok(201);
        act("heartbeat").ok(200);
        act("cancel").ok(200);
        act("requeue").ok(200);
        client.send("POST", "/api/runtime/test-connection", headers, Some(b"")).ok(200);
    }
}

#[test]
fn a_body_that_is_no_object_is_named_or_unreadable() {
    let server = Server::start();
    let mut client = server.client();
    create(&mut client, "[]").invalid_form("Expected object, received array");
    let unreadable = [
        "5",
        "\"x\"",
        "null",
        "true",
        "{bad",
        "{}{}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "   ",
        "{\"prompt\":\"\\x\"}",
        "{'a':1}",
        "NaN",
        "{\"a\":\"line\nbreak\"}",
    ];
    for body in unreadable.iter().filter(|body| !body.trim().is_empty()) {
        create(&mut client, body).unreadable(400);
    }
    create(&mut client, b"{\"prompt\":\"\xff\xfe\"}").refused_somehow(400);
    create(&mut client, VALID).ok(201);
}

#[test]
fn texts_come_back_as_they_were_sent() {
    let server = Server::start();
    let mut client = server.client();
    let task = create(&mut client, format!("\u{feff} \r\n\t{VALID}")).ok(201);
    assert_eq!(task["prompt"], "p", "a BOM and blanks are accepted");
    let twice = r#"{"context_id":"c","agent_slug":"a","prompt":"first","prompt":"second"}"#;
    assert_eq!(create(&mut client, twice).ok(201)["prompt"], "second");
    let lone = r#"{"context_id":"c","agent_slug":"\udc00","prompt":"x\ud800y\ud83d\ude00"}"#;
    let task = create(&mut client, lone).ok(201);
    assert_eq!(task["prompt"], "x\u{fffd}y😀");
    assert_eq!(task["agent_slug"], "\u{fffd}");
    let odd = "nul \u{0} bell \u{7} привіт 👋 \u{2028} \"quoted\" \\ </script>";
    let id = crate::harness::id(&client.create(json!({"prompt": odd})));
    assert_eq!(client.task(&id)["prompt"], odd);
    client.register("w", 1);
    client.lease(&id, "w", 60);
    let done = client.act(&id, "complete", success(odd)).ok(200);
    assert_eq!(done["result"]["output"], odd);
    assert_eq!(client.get(&format!("{TASKS}/{id}/result")).ok(200)["output"], odd);
}

#[test]
fn numbers_may_be_written_as_floats_and_exponents() {
    let server = Server::start();
    let policy = json!({"timeout_sec": 6e1, "budget": 1e21});
    let task = server.client().create(json!({"max_attempts": 5.0, "policy": policy}));
    assert_eq!(task["max_attempts"], 5);
    assert_eq!(task["policy"]["timeout_sec"], 60);
    assert_eq!(task["policy"]["budget"].as_f64(), Some(1e21));
}

#[test]
fn the_content_type_decides_what_a_body_is() {
    let server = Server::start();
    let mut client = server.client();
    let mut typed = |kind: &str, body: &str| client.post_text(TASKS, kind, body.as_bytes());
    let json = [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/x-www-form-urlencoded",
    ];
    for kind in json {
        typed(kind, VALID).ok(201);
    }
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    let task = typed(form, "context_id=c+1&agent_slug=a%2Fb&prompt=%D1%86&extra").ok(201);
    assert_eq!((&task["context_id"], &task["agent_slug"]), (&json!("c 1"), &json!("a/b")));
    assert_eq!(task["prompt"], "ц");
    let strings = "context_id=c&agent_slug=a&prompt=p&max_attempts=5";
    typed(form, strings).invalid(json!({"max_attempts": ["Expected number, received string"]}));
    let refused = [
        "text/plain",
        "text/html",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/json; charset=iso-8859-1",
        "application/json; charset=nope",
    ];
    for kind in refused {
        typed(kind, VALID).unreadable(415);
    }
    client.send("POST", TASKS, &[], Some(VALID.as_bytes())).ok(201);
}

#[test]
fn an_encoding_that_we_do_not_speak_is_415() {
    let server = Server::start();
    let mut client = server.client();
    let mut encoded = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", encoding)];
        client.send("POST", TASKS, &headers, Some(body))
    };
    for encoding in ["br", "zstd", "nope"] {
        encoded(encoding, VALID.as_bytes()).unreadable(415);
    }
    encoded("identity", VALID.as_bytes()).ok(201);
    let broken_gzip = encoded("gzip", b"\x1f\x8b\x08 this is no gzip stream");
    assert!([400, 415].contains(&broken_gzip.status), "{broken_gzip}");
}

#[test]
fn a_body_nested_too_deep_is_refused_and_harms_nobody() {
    let server = Server::start();
    let mut client = server.client();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
        create(&mut client, deep(100_000)).unreadable(400);
        let hidden = VALID.replace("}", &format!(",\"extra\":{}}}", deep(100_000)));
        create(&mut client, hidden).unreadable(400);
    }
    create(&mut client, VALID).ok(201);
}

#[test]
fn a_body_may_have_16_mib_and_not_a_byte_more() {
    let server = Server::start();
    let mut client = server.client();
    const LIMIT: usize = 16 * 1024 * 1024;
    let frame = VALID.replace("\"p\"", "\"\"");
    let with = |length: usize| frame.replace("\"\"", &format!("\"{}\"", "p".repeat(length)));
    let exact = with(LIMIT - frame.len());
    assert_eq!(exact.len(), LIMIT);
    let task = create(&mut client, &exact).ok(201);
    assert_eq!(task["prompt"].as_str().map(str::len), Some(LIMIT - frame.len()));
    create(&mut client, with(LIMIT - frame.len() + 1)).unreadable(413);
    // Announced alone is enough, and so is sent without being announced.
    let head =
        format!("POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let announced = format!("{head}Content-Length: 99999999999\r\n\r\n{{");
    server.client().try_raw("POST", TASKS, announced.as_bytes()).unwrap().unreadable(413);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x100000));
    (0..17).for_each(|_| chunked.extend_from_slice(chunk.as_bytes()));
    server.client().try_raw("POST", TASKS, &chunked).unwrap().unreadable(413);
    server.client().get("/api/runtime/health").ok(200);
}

#[test]
fn a_chunked_body_is_read_like_any_other() {
    let server = Server::start();
    let (first, second) = VALID.split_at(20);
    let request = format!(
        "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len(),
    );
    server.client().try_raw("POST", TASKS, request.as_bytes()).unwrap().ok(201);
}

#[test]
fn what_is_no_http_is_refused_and_harms_nobody() {
    let server = Server::start();
    let many = format!("GET /api/runtime/health HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000));
    let lengths = format!(
        "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
    );
    for bytes in ["\u{16}\u{3}\u{1} hello TLS\r\n\r\n", "GET\r\n\r\n", &many, &lengths] {
        if let Ok(answer) = server.client().try_raw("GET", "(raw)", bytes.as_bytes()) {
            assert!((400..500).contains(&answer.status), "{answer}");
        }
    }
    server.client().get("/api/runtime/health").ok(200);
}

#[test]
fn all_bodies_in_flight_share_one_budget() {
    let server = Server::start();
    let (address, full) = (server.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let mut stream = connect(address).unwrap();
                stream.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let head = format!(
                    "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n"
                );
                // Twelve of the sixteen megabytes, then nothing: the body stays in flight.
                let sent = stream.get_mut().write_all(head.as_bytes());
                let sent = sent.and_then(|()| stream.get_mut().write_all(&vec![b' '; 12_000_000]));
                let deadline = Instant::now() + PATIENCE;
                while !full.load(Ordering::SeqCst) && Instant::now() < deadline {
                    match read_head(&mut stream) {
                        Ok(answer) if answer.status == 503 => full.store(true, Ordering::SeqCst),
                        Ok(_) => return,
                        // Answered and closed while we were sending, and the answer was lost.
                        Err(_) if sent.is_err() => return,
                        Err(_) => {}
                    }
                }
            });
        }
    });
    assert!(full.load(Ordering::SeqCst), "576 MB of bodies in flight and no 503");
    server.client().get("/api/runtime/health").ok(200);
    server.client().new_task();
}
