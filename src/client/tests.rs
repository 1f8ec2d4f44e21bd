//! The client against a server of one answer: what it sends, refuses and believes.

use super::*;
use crate::outgoing::Trust;
use std::io::Write;
use std::net::TcpListener;
use std::thread::JoinHandle;

const SHORT: Duration = Duration::from_secs(5);

fn dialer() -> Dialer {
    Dialer::new(Trust::new(None, None, "--pin").unwrap())
}

/// Answers one connection with `answer` and gives back what was asked.
fn one_answer(answer: &'static str) -> (Client, JoinHandle<String>) {
    one_answer_at("127.0.0.1:0", answer)
}

fn one_answer_at(address: &str, answer: &'static str) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind(address).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    (Client::new(&url, Some("k-1".into()), dialer()).unwrap(), asked)
}

#[test]
fn an_address_that_cannot_work_is_refused_with_the_way_out() {
    let table = [
        ("host:5000", "does not begin with http:// or https://"),
        ("http://", "has no valid host"),
        ("http://:80", "has no valid host"),
        ("http://user@host", "a user name or password"),
        ("http://a b", "a character"),
        ("http://host:0", "a port"),
        ("http://host:70000", "a port"),
        ("http://host:+80", "a port"),
        ("http://host/?q=1", "a query"),
        ("http://host/a\r\nX: y", "a character"),
    ];
    for (server, expected) in table {
        let fault = Client::new(server, None, dialer()).err().expect(server).0;
        assert!(fault.contains(expected), "{server}: {fault}");
    }
    let client = Client::new("http://host:5000/l/lease-1/", None, dialer()).unwrap();
    assert_eq!(client.base(), "http://host:5000/l/lease-1");
}

#[test]
fn a_key_with_a_line_end_never_reaches_a_header() {
    assert!(Client::new("http://host", Some("key\r\nX-Evil: 1".into()), dialer()).is_err());
    assert!(Client::new("http://host", Some("ключ".into()), dialer()).is_err());
}

#[test]
fn a_segment_cannot_change_the_path() {
    assert_eq!(segment("a/b ц%"), "a%2Fb%20%D1%86%25");
    assert_eq!(segment("x\r\ny?#"), "x%0D%0Ay%3F%23");
    assert_eq!(segment(".."), "%2E%2E");
    assert_eq!(segment("rpi4b.local-1_2~"), "rpi4b.local-1_2~");
}

#[test]
fn a_call_carries_the_key_and_reads_the_answer() {
    let (client, asked) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}");
    let answer = client.post("/api/x", &serde_json::json!({}), SHORT).unwrap();
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["a"], 1);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST /api/x HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("X-Runtime-API-Key: k-1\r\n"), "{asked}");
}

#[test]
fn an_ipv6_literal_is_called_with_the_same_care() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";
    let (client, asked) = one_answer_at("[::1]:0", whole);
    assert_eq!(client.get("/api", SHORT).unwrap().body(), b"{\"a\": 1}");
    let asked = asked.join().unwrap().to_lowercase();
    assert!(asked.starts_with("get /api http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("x-runtime-api-key: k-1\r\n") && asked.contains("host: [::1]:"),
        "{asked}"
    );
    for broken in ["HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", ""] {
        let (client, _asked) = one_answer_at("[::1]:0", broken);
        assert!(matches!(client.get("/", SHORT), Err(CallError::Unreachable(_))), "{broken}");
    }
    let (client, _asked) = one_answer_at("[::1]:0", "nonsense\r\n\r\n");
    assert!(matches!(client.get("/", SHORT), Err(CallError::Unreadable(_))));
    let moved = "HTTP/1.1 301 Moved\r\nLocation: http://[::1]:1/\r\nContent-Length: 0\r\n\r\n";
    let (client, _asked) = one_answer_at("[::1]:0", moved);
    assert!(matches!(client.get("/", SHORT), Err(CallError::Refused { status: 301, .. })));
    let (client, _asked) = one_answer_at("[::1]:0", "HTTP/1.1 200 OK\r\n\r\ndata: x\n\ndata");
    assert_eq!(
        client.stream("/log", SHORT).unwrap().map(|event| event.data).collect::<Vec<_>>(),
        ["x"]
    );
}

#[test]
fn a_refusal_brings_its_status_code_text_and_patience() {
    let (client, _asked) = one_answer(
        "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 30\r\n\r\n\
         {\"error\":\"Full\",\"code\":\"busy\"}",
    );
    let expected = CallError::Refused {
        status: 503,
        code: "busy".into(),
        text: "Full".into(),
        retry_after: Some(Duration::from_secs(7)),
    };
    assert_eq!(client.get("/", SHORT).unwrap_err(), expected);
}

#[test]
fn a_redirect_is_never_followed() {
    let (client, _asked) = one_answer(
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    );
    let refused = client.get("/", SHORT).unwrap_err();
    assert!(matches!(refused, CallError::Refused { status: 301, .. }), "{refused}");
}

#[test]
fn half_an_answer_counts_as_none() {
    let (client, _asked) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"a\":1}");
    assert!(matches!(client.get("/", SHORT), Err(CallError::Unreachable(_))));
}

#[test]
fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, None, dialer()).unwrap();
    assert!(matches!(client.get("/", SHORT), Err(CallError::Unreachable(_))));
}

#[test]
fn a_validation_is_told_field_by_field() {
    let (client, _asked) = one_answer(
        "HTTP/1.1 400 Bad\r\nContent-Length: 75\r\n\r\n\
         {\"error\":{\"fieldErrors\":{\"a\":[\"Required\",\"Odd\"]},\"formErrors\":[\"Whole\"]}}   ",
    );
    let refused = client.get("/", SHORT).unwrap_err();
    assert!(refused.to_string().ends_with("Whole; a: Required, Odd"), "{refused}");
}

#[test]
fn a_list_says_where_its_next_page_begins() {
    let (client, _asked) = one_answer(
        "HTTP/1.1 200 OK\r\nLink: </p/api?limit=1&cursor=a&f>; rel=\"next\"\r\n\
         Content-Length: 2\r\n\r\n[]",
    );
    assert_eq!(client.get("/api", SHORT).unwrap().next_cursor.as_deref(), Some("a"));
    assert_eq!(cursor_of("</api?limit=1>; rel=\"next\""), None);
    assert_eq!(cursor_of("</api?cursor=x y>; rel=\"next\"").as_deref(), Some("x%20y"));
}

#[test]
fn events_come_one_by_one_until_the_stream_ends() {
    let (client, asked) = one_answer(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: connected\n\n\
         id: 1\ndata: {\"a\":1}\n\nevent: end\r\ndata: x\r\ndata:y\r\n\r\nid: 2\ndata: half",
    );
    let events: Vec<_> = client.stream("/log", SHORT).unwrap().collect();
    let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
    assert_eq!(events, [event("", "{\"a\":1}"), event("end", "x\ny")]);
    assert!(asked.join().unwrap().contains("Accept: text/event-stream\r\n"));
}

#[test]
fn an_endless_line_ends_the_stream() {
    let long = format!("HTTP/1.1 200 OK\r\n\r\ndata: {}\n\n", "x".repeat(100_000));
    let (client, _asked) = one_answer(long.leak());
    assert_eq!(client.stream("/", SHORT).unwrap().next(), None);
}

#[test]
fn a_connection_that_ends_without_a_word_is_no_answer() {
    let (client, _asked) = one_answer("");
    assert!(matches!(client.get("/", SHORT), Err(CallError::Unreachable(_))));
}
