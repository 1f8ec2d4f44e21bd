//! Where Membridge is and its key: saved, kept, cleared, and bound to each other (CONTRACT §3, §5).

use super::{BRIDGE, before, pointed_at};
use crate::harness::{Setup, eventually};
use crate::membridge_standin::{KEY, Membridge, Upstream, answer};
use serde_json::json;

const CONFIG: &str = "/api/runtime/config";

/// Answers everything with `{}` and keeps what it was asked.
fn collector() -> Upstream {
    Upstream::start(|_, stream| answer(stream, 200, "", "{}"))
}

#[test]
fn another_address_without_its_key_is_refused_and_never_gets_the_old_one() {
    let (bridge, thief) = (Membridge::start(), collector());
    let server = before(&bridge.url());
    let mut client = server.client();
    for body in [
        json!({"membridge_server_url": thief.url()}),
        json!({"membridge_server_url": thief.url(), "admin_key": null}),
        json!({"membridge_server_url": bridge.url().replace("127.0.0.1", "localhost")}),
        json!({"membridge_server_url": bridge.url().replace("http:", "https:")}),
    ] {
        let answer = client.post(CONFIG, body.clone());
        answer.refused_somehow(400);
        assert!(!answer.json()["error"]["fieldErrors"]["admin_key"].is_null(), "{body}: {answer}");
    }
    assert_eq!(client.get(CONFIG).ok(200)["membridge_server_url"], bridge.url());

    // With a key of its own it is asked, and with no other.
    let own = json!({"membridge_server_url": thief.url(), "admin_key": "the-thiefs-own"});
    client.post(CONFIG, own).ok(200);
    client.get(&format!("{BRIDGE}/projects")).ok(200);
    assert!(
        thief.seen().iter().all(|asked| asked.headers("x-membridge-admin") == ["the-thiefs-own"])
    );
    assert_eq!(thief.seen().len(), 1);
}

#[test]
fn an_address_of_the_same_origin_keeps_the_key_and_so_does_a_restart() {
    let bridge = collector();
    let mut server = pointed_at(&bridge.url()).start();
    let deeper = json!({"membridge_server_url": format!("{}/deeper/", bridge.url())});
    let answer = server.client().post(CONFIG, deeper).ok(200);
    assert_eq!(answer["membridge_server_url"], format!("{}/deeper", bridge.url()));
    assert_eq!(answer["admin_key_masked"], "te****ey");
    server.kill9();
    server.restart();
    server.client().get(&format!("{BRIDGE}/projects")).ok(200);
    let asked = bridge.wait_for("the deeper path", |asked| asked.path == "/deeper/projects");
    assert_eq!(asked.headers("x-membridge-admin"), [KEY]);
}

#[test]
fn the_environments_key_does_not_follow_a_saved_address_elsewhere() {
    let (first, second) = (collector(), collector());
    let mut server = Setup::default().env("MEMBRIDGE_SERVER_URL", &first.url()).start();
    let body = json!({"membridge_server_url": first.url(), "admin_key": "saved-key-for-first"});
    server.client().post(CONFIG, body).ok(200);
    assert_eq!(server.terminate(), Some(0));
    // The operator moves the environment to another host; what was saved still wins.
    let moved = pointed_at(&second.url()).start_in(server.dir());
    let mut client = moved.client();
    client.get(&format!("{BRIDGE}/projects")).ok(200);
    assert_eq!(first.seen()[0].headers("x-membridge-admin"), ["saved-key-for-first"]);
    // Cleared, the environment's is used, with its own key.
    let cleared = client.delete(CONFIG).ok(200);
    assert_eq!(cleared["membridge_server_url"], second.url());
    client.get(&format!("{BRIDGE}/projects")).ok(200);
    assert_eq!(second.seen()[0].headers("x-membridge-admin"), [KEY]);
    assert_eq!(first.seen().len(), 1);
    // A second time there is nothing to clear, and nothing is told.
    client.delete(CONFIG).ok(200);
    let told = client.audit_of("singleton");
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(told[0]["action"], "config_updated");
}

#[test]
fn a_save_is_all_or_nothing() {
    let bridge = Membridge::start();
    let server = before(&bridge.url());
    let mut client = server.client();
    let was = client.get(CONFIG).ok(200);
    for body in [
        json!({"membridge_server_url": "http://elsewhere:1", "admin_key": ""}),
        json!({"membridge_server_url": "http://elsewhere:1", "admin_key": "a\r\nX: y"}),
        json!({"membridge_server_url": "file:///etc/passwd", "admin_key": "k"}),
        json!({"membridge_server_url": "http://u:p@elsewhere", "admin_key": "k"}),
    ] {
        client.post(CONFIG, body).refused_somehow(400);
        assert_eq!(client.get(CONFIG).ok(200), was);
    }
    assert_eq!(client.audit_of("singleton").len(), 0);
}

#[test]
fn a_test_says_which_half_failed() {
    let bridge = Membridge::start();
    let server = before(&bridge.url());
    let mut client = server.client();
    let test = |client: &mut crate::http::Client| {
        client.post_nothing("/api/runtime/test-connection").ok(200)
    };
    let good = test(&mut client);
    assert_eq!((&good["connected"], &good["health"]["version"]), (&json!(true), &json!("0.3.0")));
    assert_eq!(client.get("/api/runtime/health").ok(200)["membridge"]["connected"], true);

    client
        .post(CONFIG, json!({"membridge_server_url": bridge.url(), "admin_key": "wrong"}))
        .ok(200);
    let bad = test(&mut client);
    assert_eq!((&bad["connected"], &bad["failed"]), (&json!(false), &json!("key")));
    assert_eq!(bad["error"], "Membridge returned 401");
    // Its health takes any key, which does not make the wrong one right.
    client.get(&format!("{BRIDGE}/health")).ok(200);
    assert_eq!(client.get("/api/runtime/health").ok(200)["membridge"]["connected"], false);

    for url in ["https://127.0.0.1:1", "http://[::1]:1"] {
        let why = format!("cannot be reached at {url}: Connection refused");
        client.post(CONFIG, json!({"membridge_server_url": url, "admin_key": "k"})).ok(200);
        let detail = test(&mut client)["detail"].take();
        assert!(detail.as_str().unwrap().contains(&why), "{detail}");
    }
    client.post(CONFIG, json!({"membridge_server_url": bridge.url(), "admin_key": KEY})).ok(200);
    bridge.upstream.unplug();
    let down = test(&mut client);
    assert_eq!((&down["error"], &down["failed"]), (&json!("fetch failed"), &json!("reachability")));
    assert_eq!(client.audit_of("singleton").len(), 5, "one good test and four saves");
    eventually("last_test", || client.get(CONFIG).ok(200)["last_test"].as_i64());
}
