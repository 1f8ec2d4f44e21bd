//! The server's side of TLS as openssl, curl and strangers see it.

use super::authority::{Authority, GOOD};
use super::*;
use crate::harness::eventually;
use crate::http::Client;
use std::io::Read;
use std::net::TcpStream;

/// The beginning of a handshake that never goes on.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[test]
fn tls_1_2_and_1_3_are_spoken_with_http_1_1_and_nothing_older() {
    let authority = Authority::new();
    let server = with_pair(&authority.issue("good", &["localhost"], GOOD)).start();
    let alpn = ["-alpn", "h2,http/1.1"];
    for (version, named, cipher) in [
        ("-tls1_2", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("-tls1_3", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ] {
        let (said, good) = s_client(&server, &[version, alpn[0], alpn[1]]);
        let session = format!("New, {named}, Cipher is {cipher}");
        assert!(good && said.contains(&session), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    for refused in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-alpn", "h2"],
        &["-tls1_2", "-cipher", "AES128-SHA"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
    ] {
        let (said, good) = s_client(&server, refused);
        assert!(!good && said.contains("alert"), "{refused:?}: {said}");
    }
}

#[test]
fn the_whole_chain_is_sent() {
    let authority = Authority::new();
    let server = with_pair(&authority.issue_through_another("chained", &["localhost"])).start();
    let ca = authority.ca();
    let ca = ca.to_str().expect("UTF-8");
    let (said, _) = s_client(&server, &["-CAfile", ca, "-verify_hostname", "localhost"]);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let (said, _) = s_client(&server, &["-CAfile", ca, "-verify_hostname", "elsewhere"]);
    assert!(said.contains("hostname mismatch"), "{said}");
}

#[test]
fn who_speaks_http_to_the_port_of_https_is_told_so() {
    let server = self_signed().start();
    let long = "x".repeat(60_000);
    let post = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n{long}");
    for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", &post] {
        let mut client = Client::new(server.address());
        let answer = client.try_raw("GET", "/", request.as_bytes()).expect("an answer");
        assert_eq!(answer.json()["code"], "https_required");
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("This port speaks https"), "{}", answer.text());
    }
}

fn http_port(server: &Server) -> Client {
    let said = server.wait_until_said("leads to https");
    let line = said.lines().find(|line| line.contains("leads to https")).expect("just found");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.0.0.1:"));
    Client::new(address.expect("an address").parse().expect("an address"))
}

#[test]
fn the_http_port_leads_to_https_and_nowhere_else() {
    let setup = self_signed().env("HTTP_PORT", "0").env("ALLOWED_HOSTS", "bloom.example");
    let server = setup.env("RUNTIME_API_KEY", "k").start();
    let (mut client, port) = (http_port(&server), server.address().port());
    let mut ask = |method: &str, host: &str, target: &str| {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.try_raw(method, target, request.as_bytes()).expect("an answer")
    };
    for (host, named) in [
        ("bloom.example", "bloom.example"),
        ("bloom.example:80", "bloom.example"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
    ] {
        for target in ["/", "/api/runtime/llm-tasks?status=queued&limit=1", "//evil.example/x"] {
            let answer = ask("GET", host, target);
            let to = format!("https://{named}:{port}{target}");
            assert_eq!((answer.status, answer.header("location")), (308, Some(to.as_str())));
        }
    }
    assert_eq!(ask("POST", "bloom.example", "/api/runtime/llm-tasks").status, 308);
    // A whole URL as the target names the host too.
    let whole = ask("GET", "bloom.example", "http://evil.example/");
    for answer in [whole, ask("GET", "evil.example", "/"), ask("GET", "bloom.example@evil", "/")] {
        assert_eq!((answer.status, answer.header("location")), (421, None));
    }
    let nameless = client.try_raw("GET", "/", b"GET / HTTP/1.0\r\n\r\n").expect("an answer");
    assert_eq!((nameless.status, nameless.header("location")), (400, None));
}

#[test]
fn cookies_are_for_https_alone_and_browsers_are_told_to_stay_there() {
    let setup = self_signed().env("RUNTIME_API_KEY", "k").env("HSTS_SECONDS", "31536000");
    let server = setup.env("HTTP_PORT", "0").start();
    let port = server.address().port();
    let signed_in = curl(&format!(
        "url = https://localhost:{port}/api/session\ncacert = {}\ninclude\n\
         header = \"Content-Type: application/json\"\ndata = \"{{\\\"key\\\":\\\"k\\\"}}\"\n",
        made_by(&server).display()
    ));
    let signed_in = signed_in.expect("an answer").to_lowercase();
    let cookie = signed_in.lines().find(|line| line.starts_with("set-cookie:"));
    assert!(cookie.is_some_and(|cookie| cookie.contains("; secure")), "{signed_in}");
    assert!(signed_in.contains("strict-transport-security: max-age=31536000"), "{signed_in}");
    let led = http_port(&server).get("/");
    assert_eq!(led.header("strict-transport-security"), None, "over http it means nothing");
}

#[test]
fn what_a_trusted_proxy_says_of_its_own_caller_counts_more_than_our_https() {
    let server = self_signed().env("FORCE_HTTPS", "1").start();
    let ask = |header: &str| {
        curl(&format!(
            "url = https://localhost:{}/api/runtime/stats\ncacert = {}\ninclude\n{header}\n",
            server.address().port(),
            made_by(&server).display()
        ))
        .expect("an answer")
    };
    assert!(ask("").starts_with("HTTP/1.1 200"), "our own https is https");
    assert!(ask("header = \"X-Forwarded-Proto: https\"").starts_with("HTTP/1.1 200"));
    assert!(ask("header = \"X-Forwarded-Proto: http\"").starts_with("HTTP/1.1 301"));
}

#[test]
fn a_thousand_half_open_handshakes_hinder_nobody() {
    let authority = Authority::new();
    let setup = with_pair(&authority.issue("good", &["localhost"], GOOD));
    let server = setup.env("RUNTIME_API_KEY", "k").start();
    let before = resident_kib(&server);
    let half_open: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).expect("it is let in");
            stream.write_all(HALF_A_HELLO).expect("it is read");
            stream
        })
        .collect();
    for _ in 0..20 {
        let answer = get(&server, &authority.ca(), "localhost", HEALTH).expect("it is served");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let each = (resident_kib(&server).saturating_sub(before)) as f64 / 1000.0;
    println!("a half-open handshake holds {each:.1} KiB");
    assert!(each < 64.0, "a half-open handshake holds {each} KiB");
    // They end by themselves, or were let go of for others.
    for mut stream in half_open {
        stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
        let end = stream.read(&mut [0; 64]);
        assert!(!matches!(&end, Ok(1..)), "nothing is said to half a hello: {end:?}");
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

#[test]
fn a_hello_without_end_is_hung_up_on() {
    let server = self_signed().env("LOG_LEVEL", "debug").start();
    let mut stream = TcpStream::connect(server.address()).expect("it is let in");
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    // A hello of 60,000 bytes in records of 1,000, of which the last never comes.
    let mut hello = b"\x01\x00\xea\x60\x03\x03".to_vec();
    hello.resize(50_000, 0);
    for part in hello.chunks(1_000) {
        let record = [b"\x16\x03\x01\x03\xe8".as_slice(), part].concat();
        if stream.write_all(&record).is_err() {
            break;
        }
    }
    let end = stream.read(&mut [0; 1024]);
    assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    // Not for its time, which is over after 10 s.
    let said = server.wait_until_said("TLS with 127.0.0.1");
    assert!(said.contains("failed: ") && !said.contains("took longer"), "{said}");
}

fn resident_kib(server: &Server) -> usize {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn events_come_over_tls_as_they_happen() {
    let server = self_signed().start();
    let (port, ca) = (server.address().port(), made_by(&server));
    let mut command = Command::new("curl");
    command.args(["--silent", "--no-buffer", "--max-time", "30", "--cacert"]).arg(&ca);
    let url = format!("https://localhost:{port}/api/runtime/events");
    let mut listening = command.arg(url).stdout(Stdio::piped()).spawn().expect("curl is there");
    let mut stdout = listening.stdout.take().expect("stdout is piped");
    let mut heard = [0; 4096];
    let first = stdout.read(&mut heard).expect("the stream begins");
    assert_ne!(first, 0);
    let task = r#"{\"prompt\":\"p\",\"context_id\":\"c\",\"agent_slug\":\"a\"}"#;
    let made = curl(&format!(
        "url = https://localhost:{port}/api/runtime/llm-tasks\ncacert = {}\n\
         header = \"Content-Type: application/json\"\ndata = \"{task}\"\n",
        ca.display()
    ));
    let made: serde_json::Value = serde_json::from_str(&made.expect("an answer")).expect("JSON");
    let id = made["id"].as_str().expect("an id").to_owned();
    let mut said = String::new();
    eventually("its event", || {
        let read = stdout.read(&mut heard).expect("the stream goes on");
        assert_ne!(read, 0, "the stream ended: {said}");
        said += &String::from_utf8_lossy(&heard[..read]);
        said.contains(&id).then_some(())
    });
    listening.kill().expect("it is ours");
    listening.wait().expect("it is ours");
}
