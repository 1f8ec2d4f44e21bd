//! What the operator meets: starts that are refused, exit codes, shutdown, damaged files, `check`.

use crate::harness::{Server, Setup, TASKS, id, rows, run, success};
use crate::http::{connect, read_head};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One line that a person can act on: not a panic, not a backtrace, not a page.
#[track_caller]
fn one_clear_line(said: &str, about: &[&str]) {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.last().unwrap_or_else(|| panic!("nothing was said"));
    assert!(!said.contains("panicked"), "{said}");
    assert!(
        about.iter().all(|word| last.contains(word)),
        "{about:?} stand in the last line of:\n{said}"
    );
    assert_eq!(lines.len(), 1, "one line:\n{said}");
}

/// Every file under the data directory with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(dir).expect("a data directory") {
        let path = file.expect("a file").path();
        if path.is_file() {
            found.insert(path.clone(), std::fs::read(&path).expect("readable"));
        }
    }
    found
}

/// A data directory that was used and left in order.
fn used() -> (Arc<tempfile::TempDir>, PathBuf) {
    let mut server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.lease(&task, "w", 60);
    client.act(&task, "complete", success("kept")).ok(200);
    client.new_task();
    assert_eq!(server.terminate(), Some(0));
    let dir = server.dir();
    let data = dir.path().join("data");
    (dir, data)
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let server = Server::start();
    let task = server.client().new_task();
    let dir = server.dir();
    let ended = Setup::default().refuse_in(dir.path());
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
    one_clear_line(&ended.stderr, &["data"]);
    server.client().task(&task);
    server.client().new_task();
}

#[test]
fn a_port_in_use_is_refused_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let ended = Setup::default().port(port).refuse_in(dir.path());
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    one_clear_line(&ended.stderr, &[&port.to_string()]);
}

#[test]
fn a_value_that_cannot_be_used_is_refused_with_64_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        ("TRUSTED_PROXIES", "not-an-address"),
        ("RATE_LIMIT_PER_MINUTE", "many"),
        ("MEMBRIDGE_SERVER_URL", "host:8000"),
        ("FORCE_HTTPS", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "completed=30,done=90"),
        ("AUDIT_RETENTION_DAYS", "a year"),
        ("COMPACT_IDLE_SECONDS", "-1"),
        ("RUNTIME_API_KEY_FILE", "/no/such/file"),
        ("MEMBRIDGE_SERVER_URL", "file:///etc/passwd"),
    ];
    for (name, value) in wrong {
        let ended = Setup::default().stock_limits().env(name, value).refuse_in(dir.path());
        assert_eq!(ended.code, Some(64), "{name}={value}: {}", ended.stderr);
        one_clear_line(&ended.stderr, &[name]);
    }
    for args in [["serve", "--port", "70000"], ["serve", "--nope", "1"], ["nope", "--port", "1"]] {
        let ended = run(&args, &[]);
        assert_eq!(ended.code, Some(64), "{args:?}: {}", ended.stderr);
    }
    assert!(!dir.path().join("data").exists(), "a refused start makes nothing");
}

#[test]
fn a_secret_that_cannot_be_used_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::default().env("RUNTIME_API_KEY", "secret\u{1}value").env("PORT", "x");
    let ended = setup.stock_limits().env("LOG_LEVEL", "loud").refuse_in(dir.path());
    assert_eq!(ended.code, Some(64));
    assert!(!ended.stderr.contains("value"), "{}", ended.stderr);
}

/// A start on this directory must be refused, with nothing changed.
#[track_caller]
fn refused_untouched(dir: &Path, data: &Path, case: &str) {
    let before = contents(data);
    let ended = Setup::default().refuse_in(dir);
    assert_eq!(ended.code, Some(74), "{case}: {}", ended.stderr);
    one_clear_line(&ended.stderr, &[]);
    let after = contents(data);
    let changed = before.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes));
    let changed: Vec<_> = changed.map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "{case}: overwritten {changed:?}");
}

#[test]
fn a_damaged_data_file_is_refused_and_left_as_it_was() {
    let (dir, data) = used();
    let whole = contents(&data);
    let databases: Vec<_> = whole.iter().filter(|(_, bytes)| bytes.starts_with(b"redb")).collect();
    assert!(!databases.is_empty(), "no redb file in {:?}", whole.keys());
    for (path, bytes) in databases {
        let mut headless = bytes.clone();
        headless[..64].fill(0xA5);
        let cases: [(&str, &[u8]); 4] = [
            ("no redb file", &headless),
            (
                "a text",
                b"this was never a database, but it may be someone's only copy of something\n",
            ),
            ("cut off", &bytes[..bytes.len() / 3]),
            ("cut off in the header", &bytes[..100]),
        ];
        for (case, damaged) in cases {
            std::fs::write(path, damaged).unwrap();
            refused_untouched(dir.path(), &data, case);
        }
        std::fs::write(path, bytes).unwrap();
    }
    let server = Setup::default().start_in(dir);
    assert_eq!(rows(&server.client().get(TASKS)).len(), 2, "put back, it is all there");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_refused_with_74() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file where the directory should be").unwrap();
    let ended = Setup::default().refuse_in(dir.path());
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
    one_clear_line(&ended.stderr, &["data"]);
}

#[test]
fn a_start_prints_what_the_operator_needs_to_know() {
    let (dir, data) = used();
    let server = Setup::default().start_in(dir);
    let said = server.wait_until_said(&server.url());
    assert!(said.contains(data.to_str().unwrap()), "the data directory: {said}");
    assert!(
        said.contains("RUNTIME_API_KEY"),
        "authentication is off, and how to change it: {said}"
    );
    assert!(said.lines().count() <= 12, "a few lines: {said}");
}

#[test]
fn version_help_and_check_say_what_they_should() {
    let version = run(&["--version"], &[]);
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    let help = run(&["--help"], &[]);
    assert_eq!(help.code, Some(0));
    for word in ["serve", "check", "worker"] {
        assert!(help.stdout.contains(word), "{word} in {}", help.stdout);
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let check = ["check", "--env-file", "/dev/null", "--data-dir", data.to_str().unwrap()];
    let good = run(&check, &[("RUNTIME_API_KEY", "the-secret-key")]);
    assert_eq!(good.code, Some(0), "{}{}", good.stdout, good.stderr);
    let said = good.stdout + &good.stderr;
    assert!(said.contains(data.to_str().unwrap()) && said.contains("5000"), "{said}");
    assert!(!said.contains("the-secret-key"), "P10: {said}");
    assert!(!data.exists(), "check starts nothing and makes nothing");
    let bad = run(&check, &[("PORT", "eighty")]);
    assert_eq!(bad.code, Some(64));
    one_clear_line(&bad.stderr, &["PORT"]);
}

#[test]
fn sigterm_finishes_the_request_in_flight_and_ends_with_0() {
    let mut server = Server::start();
    let body = br#"{"context_id":"c","agent_slug":"a","prompt":"in flight"}"#;
    let mut stream = connect(server.address()).unwrap();
    let head = format!(
        "POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    // The interim answer proves that the request is being worked on.
    let mut interim = String::new();
    std::io::BufRead::read_line(&mut stream, &mut interim).unwrap();
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    std::io::BufRead::read_line(&mut stream, &mut interim).unwrap();
    server.ask_to_end();
    crate::harness::eventually("no new connections", || {
        connect(server.address()).is_err().then_some(())
    });
    stream.get_mut().write_all(body).unwrap();
    assert_eq!(read_head(&mut stream).unwrap().status, 201);
    drop(stream);
    assert_eq!(server.ended(), Some(0));
    server.restart();
    let kept = rows(&server.client().get(TASKS));
    assert_eq!(kept[0]["prompt"], "in flight", "what was answered is there");
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let mut server = Server::start();
    let mut client = server.client();
    client.get("/api/runtime/health").ok(200);
    let _silent = connect(server.address()).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn each_request_has_one_log_line_without_its_body() {
    let mut server = Setup::default().env("LOG_LEVEL", "info").start();
    let mut client = server.client();
    let answer =
        client.send("GET", "/api/runtime/stats?secret=1", &[("X-Request-Id", "trace-1")], None);
    answer.ok(200);
    let task = id(&client.create(json!({"prompt": "do not log me"})));
    client.get(&format!("{TASKS}/{task}"));
    server.terminate();
    let said = server.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("trace-1")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for word in ["GET", "/api/runtime/stats", "200"] {
        assert!(lines[0].contains(word), "{word} in {}", lines[0]);
    }
    assert!(!said.contains("do not log me") && !said.contains("secret=1"), "{said}");
}

#[test]
fn without_a_key_and_without_a_host_only_this_machine_can_connect() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let check = ["check", "--env-file", "/dev/null", "--data-dir", data.to_str().unwrap()];
    let open = run(&check, &[]);
    let said = open.stdout + &open.stderr;
    assert!(said.contains("127.0.0.1"), "{said}");
    assert!(
        said.contains("RUNTIME_API_KEY") || said.contains("HOST"),
        "how to change that: {said}"
    );
    let keyed = run(&check, &[("RUNTIME_API_KEY", "k")]);
    assert!((keyed.stdout + &keyed.stderr).contains("0.0.0.0"));
}
