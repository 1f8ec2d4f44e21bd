//! Membridge's agents become workers: gaps are filled, nothing that a worker said is overwritten.

use super::{before, pointed_at};
use crate::harness::{Server, WORKERS, eventually, rows};
use crate::http::Client;
use crate::membridge_standin::{Membridge, Upstream, agent, answer};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::Duration;

#[track_caller]
fn syncing(bridge: &Membridge) -> Server {
    pointed_at(&bridge.url()).env("MEMBRIDGE_SYNC_SECONDS", "1").start()
}

#[track_caller]
fn until_listed(client: &mut Client, name: &str) -> Value {
    let path = format!("{WORKERS}/{name}");
    eventually(name, || Some(client.get(&path)).filter(|answer| answer.status == 200)).json()
}

/// Waits for two more rounds, so that one of them began after now.
#[track_caller]
fn two_rounds(bridge: &Membridge) {
    let lists = || bridge.upstream.seen().iter().filter(|asked| asked.path == "/agents").count();
    let before = lists();
    eventually("two rounds", || (lists() >= before + 2).then_some(()));
}

#[test]
fn an_agent_becomes_a_worker_and_is_not_written_again() {
    let bridge = Membridge::start();
    bridge.add_agent("worker-01", "http://127.0.0.1:1/", "online");
    let server = syncing(&bridge);
    let mut client = server.client();
    let worker = until_listed(&mut client, "worker-01");
    assert_eq!((&worker["status"], &worker["from_membridge"]), (&json!("online"), &json!(true)));
    assert_eq!(worker["url"], "http://127.0.0.1:1");
    assert_eq!(
        worker["capabilities"],
        json!({"claude_cli": true, "max_concurrency": 1, "labels": []})
    );
    assert!(worker["registered_at"].as_i64().unwrap() > 1_700_000_000_000, "{worker}");
    assert_eq!(worker["last_heartbeat"], Value::Null, "Membridge has not seen it");
    two_rounds(&bridge);
    let written = server.written_bytes();
    two_rounds(&bridge);
    assert_eq!(server.written_bytes(), written, "nothing changed, nothing is written");
    let told = client.audit_of("worker-01");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(
        (&told[0]["action"], &told[0]["actor"]),
        (&json!("worker_registered"), &json!("membridge"))
    );
    // The list is followed.
    bridge.list(json!([agent("worker-01", "http://127.0.0.1:2", "error")]));
    eventually("its new state", || {
        let worker = client.get(&format!("{WORKERS}/worker-01")).ok(200);
        (worker["status"] == "error" && worker["url"] == "http://127.0.0.1:2").then_some(())
    });
}

#[test]
fn what_a_worker_said_itself_is_never_overwritten() {
    let bridge = Membridge::start();
    let setup = pointed_at(&bridge.url()).env("MEMBRIDGE_SYNC_SECONDS", "1");
    let server = setup.env("PUBLIC_URL", "http://127.0.0.1:1").start();
    let mut client = server.client();
    let said = json!({"name": "w", "status": "online", "ip_addrs": ["10.0.0.7"],
        "capabilities": {"max_concurrency": 3, "labels": ["gpu"]}, "agent_version": "0.4.0"});
    let before = client.post(WORKERS, said).ok(201);
    bridge.add_agent("w", "http://127.0.0.1:1", "unknown");
    bridge.add_agent("other", "http://127.0.0.1:1", "unknown");
    until_listed(&mut client, "other");
    let after = client.get(&format!("{WORKERS}/w")).ok(200);
    for field in ["status", "capabilities", "ip_addrs", "agent_version", "registered_at"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(
        (&after["url"], &after["from_membridge"]),
        (&json!("http://127.0.0.1:1"), &json!(false))
    );
    assert_eq!(after["pushed"], false, "it asks for its tasks");
    // Now it says where it is; the list has nothing to add.
    let own = client.post(WORKERS, json!({"name": "w", "url": "http://127.0.0.1:9"})).ok(200);
    bridge.list(json!([agent("w", "http://127.0.0.1:1", "offline")]));
    two_rounds(&bridge);
    let kept = client.get(&format!("{WORKERS}/w")).ok(200);
    assert_eq!((&kept["url"], &kept["status"]), (&own["url"], &json!("online")));
    // One that was known from the list alone speaks for itself.
    client.post(WORKERS, json!({"name": "other", "capabilities": {"max_concurrency": 2}})).ok(200);
    let other = client.get(&format!("{WORKERS}/other")).ok(200);
    assert_eq!(
        (&other["from_membridge"], &other["url"]),
        (&json!(false), &json!("http://127.0.0.1:1"))
    );
}

#[test]
fn an_agent_that_answers_for_itself_is_given_tasks_although_the_list_knows_nothing_of_it() {
    let healthy = Upstream::start(|_, stream| {
        answer(stream, 200, "", r#"{"ok":true,"output":"done","duration_ms":1}"#);
    });
    let bridge = Membridge::start();
    bridge.add_agent("agent", &healthy.url(), "unknown");
    let setup = pointed_at(&bridge.url()).env("MEMBRIDGE_SYNC_SECONDS", "1");
    let mut server = setup.env("PUBLIC_URL", "http://127.0.0.1:1").start();
    let mut client = server.client();
    assert_eq!(until_listed(&mut client, "agent")["status"], "unknown");
    let task = client.new_task();
    // The first round of the probes begins with the server.
    server.kill9();
    server.restart();
    let mut client = server.client();
    assert_eq!(client.until(&task, "completed")["worker_id"], "agent");
    two_rounds(&bridge);
    let agent = client.get(&format!("{WORKERS}/agent")).ok(200);
    assert_eq!((&agent["status"], &agent["pushed"]), (&json!("online"), &json!(true)));
    assert!(healthy.seen().iter().all(|asked| !asked.head.to_lowercase().contains("admin")));
}

#[test]
fn bad_agents_are_told_of_once_and_spoil_nothing() {
    let bridge = Membridge::start();
    bridge.list(json!([
        5, null, {"url": "http://a"}, {"name": ""}, {"name": "x".repeat(129)},
        {"name": "bad-url", "url": "javascript:alert(1)"},
        {"name": "fraction", "url": "http://127.0.0.1:1", "status": "online",
         "registered_at": 1795229275.4111383, "last_seen": 1795229275.6079},
        {"name": "fraction", "url": "http://127.0.0.1:2"},
        {"name": "strange", "status": 7, "registered_at": "soon", "last_seen": -1},
    ]));
    let server = syncing(&bridge);
    let mut client = server.client();
    until_listed(&mut client, "strange");
    two_rounds(&bridge);
    let names: Vec<_> = rows(&client.get(WORKERS)).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(names, ["fraction", "strange"]);
    let fraction = client.get(&format!("{WORKERS}/fraction")).ok(200);
    assert_eq!(fraction["registered_at"], 1_795_229_275_411_i64);
    assert_eq!(fraction["last_heartbeat"], 1_795_229_275_608_i64);
    let said = server.said();
    for complaint in
        ["no object", "without a name", "its name is too long", "bad-url", "listed twice"]
    {
        assert_eq!(said.matches(complaint).count(), 1, "{complaint}:\n{said}");
    }
}

#[test]
fn pulling_the_plug_and_putting_it_in_again_heals_by_itself_and_is_told_twice() {
    let bridge = Membridge::start();
    let server = syncing(&bridge);
    let mut client = server.client();
    let mut until = |connected: bool, failures: u64| {
        eventually("the connection", || {
            let health = client.get("/api/runtime/health").ok(200)["membridge"].take();
            let fits = health["connected"] == connected;
            let enough = health["consecutiveFailures"].as_u64().unwrap() >= failures;
            (fits && enough).then_some(health)
        })
    };
    until(true, 0);
    bridge.upstream.unplug();
    // So often that it is left alone for a while.
    let down = until(false, 5);
    assert_eq!(down["lastError"], "fetch failed");
    bridge.upstream.plug_in();
    bridge.add_agent("late", "http://127.0.0.1:1", "online");
    assert_eq!(until(true, 0)["consecutiveFailures"], 0);
    until_listed(&mut server.client(), "late");
    let mut client = server.client();
    let told = eventually("both entries", || {
        Some(client.audit_of("singleton")).filter(|told| told.len() >= 2)
    });
    two_rounds(&bridge);
    assert_eq!(client.audit_of("singleton").len(), 2, "{told:#?}");
    assert!(told.iter().all(|entry| entry["action"] == "connection_changed"), "{told:#?}");
    assert!(told[1]["detail"].as_str().unwrap().contains("not connected any more"), "{told:#?}");
    assert!(told[0]["detail"].as_str().unwrap().contains("connected again"), "{told:#?}");
    assert_eq!(server.said().matches("membridge sync: ").count(), 1, "told once while it lasts");
}

#[test]
fn a_control_plane_that_has_just_restarted_takes_nobody_offline() {
    let bridge = Membridge::start();
    bridge.add_agent("w", "http://127.0.0.1:1", "online");
    let server = syncing(&bridge);
    let mut client = server.client();
    until_listed(&mut client, "w");
    bridge.restart();
    two_rounds(&bridge);
    assert_eq!(client.get(&format!("{WORKERS}/w")).ok(200)["status"], "online");
    // Removed by hand, it is known again with the next list.
    bridge.add_agent("w", "http://127.0.0.1:1", "online");
    client.delete(&format!("{WORKERS}/w")).ok(200);
    until_listed(&mut client, "w");
}

#[test]
fn without_the_sync_nobody_is_asked() {
    let bridge = Membridge::start();
    let server = before(&bridge.url());
    // There is no event for what does not happen; a second is many rounds of nothing.
    sleep(Duration::from_secs(1));
    assert_eq!(bridge.upstream.seen().len(), 0);
    assert_eq!(server.client().get("/api/runtime/health").ok(200)["membridge"]["connected"], false);
}
