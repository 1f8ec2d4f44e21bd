//! Our own calls over https: Membridge, agents, the worker, the commands for people.

use super::authority::{Authority, Front, GOOD, fingerprint};
use super::*;
use crate::agent::{Agent, Conduct};
use crate::harness::{PROGRAM, WORKERS, eventually, run};
use crate::membridge_standin::{KEY, Membridge, Upstream};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Child;

const STANDIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standin/claude");

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address")
}

fn at_bridge(url: &str, authority: Option<&Authority>) -> Setup {
    let setup = Setup::default().env("MEMBRIDGE_SERVER_URL", url).env("MEMBRIDGE_ADMIN_KEY", KEY);
    let ca = authority.map(|authority| authority.ca().to_str().expect("UTF-8").to_owned());
    ca.into_iter().fold(setup, |setup, ca| setup.env("OUTGOING_CA", &ca))
}

fn tested(setup: Setup) -> Value {
    setup.start().client().post_nothing("/api/runtime/test-connection").ok(200)
}

#[test]
fn membridge_is_called_over_https_with_the_authority_that_it_is_told_to_believe() {
    let (authority, bridge) = (Authority::new(), Membridge::start());
    let pair = authority.issue("bridge", &["localhost", "127.0.0.1"], GOOD);
    let front = Front::before(address(&bridge.url()), &pair);
    for host in ["localhost", "127.0.0.1"] {
        let good = tested(at_bridge(&front.url(host), Some(&authority)));
        assert_eq!(good["connected"], true, "{good}");
    }
    let server = at_bridge(&front.url("localhost"), Some(&authority)).start();
    server.client().get("/api/membridge/projects").ok(200);
}

#[test]
fn a_certificate_that_is_not_believed_is_told_with_the_way_out_and_gets_no_key() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("it is read");
    });
    for (issuer, names, time, words) in [
        (&other, "localhost", GOOD, "believe it with OUTGOING_CA"),
        (
            &authority,
            "elsewhere.example",
            GOOD,
            "is not for localhost; it is for elsewhere.example: ",
        ),
        (&authority, "localhost", (-30, -2), "or set this machine's clock"),
        (&authority, "localhost", (2, 30), "look at this machine's clock"),
    ] {
        let pair = issuer.issue("bad", &[names], time);
        let front = Front::before(address(&upstream.url()), &pair);
        let bad = tested(at_bridge(&front.url("localhost"), Some(&authority)));
        let detail = bad["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "{detail}");
        assert_eq!((&bad["connected"], &bad["failed"]), (&json!(false), &json!("reachability")));
    }
    assert_eq!(upstream.seen().len(), 0, "nobody was asked anything");
    let plain = tested(at_bridge(&upstream.url().replace("http:", "https:"), None));
    let detail = plain["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("is it http?"), "{detail}");
}

#[test]
fn a_self_signed_certificate_as_openssl_makes_it_is_believed_where_it_is_named() {
    let (authority, bridge) = (Authority::new(), Membridge::start());
    let pair = Pair { certificate: authority.path("own.pem"), key: authority.path("own.key") };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout"]);
    command.arg(&pair.key).arg("-out").arg(&pair.certificate);
    let made = command.args(["-addext", "subjectAltName=DNS:localhost"]).output();
    assert!(made.expect("openssl is there").status.success());
    let front = Front::before(address(&bridge.url()), &pair);
    let ask = |host: &str, ca: &Path| {
        let setup = at_bridge(&front.url(host), None);
        tested(setup.env("OUTGOING_CA", ca.to_str().expect("UTF-8")))
    };
    assert_eq!(ask("localhost", &pair.certificate)["connected"], true);
    for (host, ca, words) in [
        ("localhost", authority.ca(), "CaUsedAsEndEntity): believe it with OUTGOING_CA"),
        ("127.0.0.1", pair.certificate.clone(), "is not for 127.0.0.1; it is for localhost"),
    ] {
        let refused = ask(host, &ca);
        assert!(refused["detail"].as_str().expect("a detail").contains(words), "{refused}");
    }
}

#[test]
fn a_redirect_over_https_is_followed_by_nobody() {
    let authority = Authority::new();
    let pair = authority.issue("good", &["localhost"], GOOD);
    let thief = Upstream::start(|_, stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}")));
    let to = thief.url();
    let moved = Upstream::start(move |_, stream| {
        let head = format!("HTTP/1.1 307 Moved\r\nLocation: {to}/\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is read");
    });
    let front = Front::before(address(&moved.url()), &pair);
    let refused = tested(at_bridge(&front.url("localhost"), Some(&authority)));
    assert!(refused["detail"].as_str().expect("a detail").contains("never followed"), "{refused}");
    let ca = authority.ca();
    let args = ["stats", "--server", &front.url("localhost"), "--ca", ca.to_str().expect("UTF-8")];
    let ended = run(&args, &[("RUNTIME_API_KEY", "k")]);
    assert!(ended.stderr.contains("never followed"), "{}", ended.stderr);
    assert_eq!((moved.seen().len(), thief.seen().len()), (2, 0));
}

#[test]
fn an_answer_that_is_cut_off_under_tls_is_none() {
    let authority = Authority::new();
    let pair = authority.issue("good", &["localhost"], GOOD);
    let cut = Upstream::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"a\":")
            .expect("it is read");
    });
    let front = Front::before(address(&cut.url()), &pair);
    let broken = tested(at_bridge(&front.url("localhost"), Some(&authority)));
    assert!(broken["detail"].as_str().expect("a detail").contains("broke off"), "{broken}");
}

#[test]
fn a_task_is_pushed_to_an_agent_over_https() {
    let authority = Authority::new();
    let agent = Agent::start(Conduct::OnlyAnswers);
    agent.ask_for_key("agent-key");
    let pair = authority.issue("agent", &["localhost"], GOOD);
    let front = Front::before(address(&agent.url()), &pair);
    let ca = authority.ca();
    let server = Setup::default()
        .env("PUBLIC_URL", "http://127.0.0.1:1")
        .env("MEMBRIDGE_AGENT_KEY", "agent-key")
        .env("OUTGOING_CA", ca.to_str().expect("UTF-8"))
        .start();
    let mut client = server.client();
    let new = json!({
        "name": "a", "url": front.url("localhost"), "agent_version": "0.4.0", "status": "online",
        "capabilities": {"claude_cli": true, "max_concurrency": 1, "labels": []},
    });
    assert_eq!(client.post(WORKERS, new).ok(201)["pushed"], true);
    let task = client.new_task();
    eventually("its result", || (client.task(&task)["status"] == "completed").then_some(()));
    assert_eq!(agent.orders_so_far(), 1);
}

/// A worker process with the stand-in of Claude CLI.
struct Worker {
    child: Child,
    home: tempfile::TempDir,
}

impl Worker {
    fn start(server: &Server, args: &[&str], env_file: &str) -> Worker {
        let home = tempfile::tempdir().expect("a home");
        let file = home.path().join("worker.env");
        std::fs::write(&file, env_file).expect("a file");
        let log = std::fs::File::create(home.path().join("log")).expect("a log");
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["worker", "--server", &server.url(), "--name", "fleet-1"]);
        command.args(["--claude", STANDIN, "--env-file"]).arg(file).args(args);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home.path()).env("TMPDIR", home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Worker { child: command.spawn().expect("it starts"), home }
    }

    fn wait_until_said(&self, words: &str) -> String {
        let log = self.home.path().join("log");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually(words, || Some(said()).filter(|said| said.contains(words)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The arguments of a person who knows the server by its certificate.
fn knowing(server: &Server) -> [String; 4] {
    let pin = fingerprint(&made_by(server));
    ["--server".into(), server.url(), "--pin".into(), pin]
}

fn person(server: &Server, args: &[&str]) -> crate::harness::Ended {
    let known = knowing(server);
    let args: Vec<&str> = args.iter().copied().chain(known.iter().map(String::as_str)).collect();
    run(&args, &[("RUNTIME_API_KEY", "k")])
}

#[test]
fn a_worker_runs_a_task_over_tls_with_a_pin_an_authority_or_settings() {
    let server = self_signed().env("RUNTIME_API_KEY", "k").start();
    let pin = fingerprint(&made_by(&server));
    let ca = made_by(&server);
    let ca = ca.to_str().expect("UTF-8");
    let in_file = format!("RUNTIME_API_KEY=k\nBLOOM_PIN={}\n", pin.replace(':', "").to_lowercase());
    for (args, env_file) in [
        (vec!["--pin", pin.as_str()], "RUNTIME_API_KEY=k\n"),
        (vec!["--ca", ca], "RUNTIME_API_KEY=k\n"),
        (vec![], in_file.as_str()),
    ] {
        let worker = Worker::start(&server, &args, env_file);
        worker.wait_until_said("registered");
        let ended = person(&server, &["submit", "Say hello.", "--wait", "--follow"]);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(!ended.stdout.is_empty());
    }
}

#[test]
fn a_worker_in_the_server_finds_it_over_tls_also_after_a_new_certificate() {
    let authority = Authority::new();
    let served = authority.issue("served", &["elsewhere.example"], GOOD);
    let home = tempfile::tempdir().expect("a home");
    let setup = with_pair(&served).flag("--claude", STANDIN).flag("--worker-name", "w");
    let setup = setup.env("HOME", home.path().to_str().expect("UTF-8"));
    let path = std::env::var("PATH").expect("a path");
    let server = setup.switch("--worker").env("RUNTIME_API_KEY", "k").env("PATH", &path).start();
    server.wait_until_said("registered");
    let submit = |pair: &super::Pair| {
        let (url, pin) = (server.url(), fingerprint(&pair.certificate));
        let args = ["submit", "Say hello.", "--wait", "--server", &url, "--pin", &pin];
        let ended = run(&args, &[("RUNTIME_API_KEY", "k")]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    submit(&served);
    let other = authority.issue("other", &["elsewhere.example"], GOOD);
    other.replaces(&served);
    server.hang_up();
    server.wait_until_said("new certificate: ");
    submit(&other);
}

#[test]
fn a_person_whose_server_is_not_believed_is_told_the_way_out() {
    let server = self_signed().env("RUNTIME_API_KEY", "k").start();
    let (url, shown) = (server.url(), fingerprint(&made_by(&server)));
    let ask = |more: &[&str]| {
        let args: Vec<&str> = ["stats", "--server", &url].iter().chain(more).copied().collect();
        let ended = run(&args, &[("RUNTIME_API_KEY", "k")]);
        (ended.code, ended.stderr)
    };
    let (code, said) = ask(&[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&shown) && said.contains("with --ca FILE or --pin SHA256"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(ask(&["--pin", &shown]).0, Some(0));
    let first = if shown.starts_with('0') { "1" } else { "0" };
    let wrong = format!("{first}{}", &shown[1..]);
    let (code, said) = ask(&["--pin", &wrong]);
    assert!(code == Some(69) && said.contains("another certificate than the pinned one"), "{said}");
    assert!(said.contains(&shown), "{said}");
    let (code, said) = ask(&["--ca", "/nowhere.pem"]);
    assert!(code == Some(64) && said.contains("/nowhere.pem cannot be read"), "{said}");
    let plain = url.replace("https:", "http:");
    let ended = run(&["stats", "--server", &plain], &[("RUNTIME_API_KEY", "k")]);
    assert!(ended.stderr.contains("This port speaks https"), "{}", ended.stderr);
}

#[test]
fn every_command_for_people_works_over_tls() {
    let server = self_signed().env("RUNTIME_API_KEY", "k").start();
    let made = person(&server, &["submit", "Say hello."]);
    let task = made.stdout.trim().to_owned();
    for args in [
        &["tasks"][..],
        &["task", &task],
        &["log", &task],
        &["cancel", &task],
        &["requeue", &task],
        &["workers"],
        &["stats", "--json"],
        &["audit"],
    ] {
        let ended = person(&server, args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
    }
}
