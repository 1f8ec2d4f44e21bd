//! The five routes: what is passed on, what is added, what is never sent.

use super::{BRIDGE, before, pointed_at};
use crate::http::Client;
use crate::membridge_standin::{KEY, Membridge, Upstream, answer};
use serde_json::{Value, json};

const CID: &str = "aeeafec3a5b5710f";

/// A control plane with a project of two nodes.
fn garden() -> Membridge {
    let bridge = Membridge::start();
    let mut direct = direct(&bridge);
    direct.post("/projects", json!({"name": "garden-seedling"})).ok(201);
    for node in ["rpi4b", "orangepi"] {
        let beat = json!({"node_id": node, "canonical_id": CID, "ip_addrs": ["10.0.0.1"]});
        direct.post("/agent/heartbeat", beat).ok(200);
    }
    bridge
}

fn direct(bridge: &Membridge) -> Client {
    let address = bridge.url().trim_start_matches("http://").parse().unwrap();
    let mut client = Client::new(address);
    client.headers.push(("X-MEMBRIDGE-ADMIN".into(), KEY.into()));
    client
}

fn leadership(cid: &str) -> String {
    format!("{BRIDGE}/projects/{cid}/leadership")
}

#[test]
fn json_is_passed_on_byte_for_byte() {
    let bridge = garden();
    let server = before(&bridge.url());
    let mut client = server.client();
    for path in ["/health", "/projects", &format!("/projects/{CID}/nodes")] {
        let (theirs, ours) = (direct(&bridge).get(path), client.get(&format!("{BRIDGE}{path}")));
        assert_eq!(ours.status, 200, "{ours}");
        assert_eq!(ours.text(), theirs.text(), "{path}");
        assert_eq!(ours.header("content-type"), Some("application/json; charset=utf-8"));
    }
    // Spaces, number texts, the order of keys, repeated keys: all as they came.
    const ODD: &str = "\n {\"b\": 1.50, \"a\":1e5,\"b\":\"\\u0041\"}\t\n";
    let odd = Upstream::start(|_, stream| answer(stream, 200, "", ODD));
    let server = before(&odd.url());
    let ours = server.client().get(&format!("{BRIDGE}/projects?x=1"));
    assert_eq!(ours.text(), ODD);
    assert_eq!(odd.seen()[0].path, "/projects", "the query is not passed on");
    let head = server.client().send("HEAD", &format!("{BRIDGE}/projects"), &[], None);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn leadership_names_the_primary_and_warns_of_one_that_nobody_knows() {
    let bridge = garden();
    let server = before(&bridge.url());
    let mut client = server.client();
    let none = client.get(&leadership(CID)).ok(200);
    assert_eq!((&none["primary_node_id"], none.get("warning")), (&Value::Null, None));
    let select = format!("{}/select", leadership(CID));
    let body = json!({"primary_node_id": "rpi4b", "lease_seconds": 600, "more": 1});
    let selected = client.post(&select, body).ok(200);
    assert_eq!((&selected["ok"], &selected["lease_seconds"]), (&json!(true), &json!(600)));
    let known = client.get(&leadership(CID)).ok(200);
    assert_eq!((&known["primary_node_id"], known.get("warning")), (&json!("rpi4b"), None));
    assert_eq!(known["preferred_primary"], "rpi4b");
    client.post(&select, json!({"primary_node_id": "ghost", "lease_seconds": null})).ok(200);
    let ghost = client.get(&leadership(CID)).ok(200);
    assert_eq!(ghost["primary_node_id"], "ghost");
    assert!(ghost["warning"].as_str().unwrap().contains("ghost"), "{ghost}");

    let told = client.audit_of(CID);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["action"], "leadership_promote");
    assert_eq!(told[1]["entity_type"], "membridge_project");
    assert_eq!(told[1]["actor"], "admin");
    assert_eq!(told[1]["detail"], format!("Promoted primary to rpi4b for project {CID}"));
    let sent: Vec<_> = bridge.upstream.seen().into_iter().filter(|a| a.method == "POST").collect();
    assert_eq!(sent[sent.len() - 2].body, r#"{"primary_node_id":"rpi4b","lease_seconds":600}"#);
    assert_eq!(sent[sent.len() - 1].body, r#"{"primary_node_id":"ghost"}"#);
}

#[test]
fn a_promotion_that_cannot_be_meant_is_refused_and_not_sent() {
    let bridge = garden();
    let seen = bridge.upstream.seen().len();
    let server = before(&bridge.url());
    let mut client = server.client();
    let select = format!("{}/select", leadership(CID));
    for (body, field) in [
        (json!({}), "primary_node_id"),
        (json!({"primary_node_id": ""}), "primary_node_id"),
        (json!({"primary_node_id": null}), "primary_node_id"),
        (json!({"primary_node_id": "x".repeat(129)}), "primary_node_id"),
        (json!({"primary_node_id": "a", "lease_seconds": 59}), "lease_seconds"),
        (json!({"primary_node_id": "a", "lease_seconds": 86_401}), "lease_seconds"),
        (json!({"primary_node_id": "a", "lease_seconds": 60.5}), "lease_seconds"),
        (json!({"primary_node_id": "a", "lease_seconds": "60"}), "lease_seconds"),
    ] {
        let answer = client.post(&select, body.clone());
        answer.refused_somehow(400);
        assert!(!answer.json()["error"]["fieldErrors"][field].is_null(), "{body}: {answer}");
    }
    client.get(&select).refused_somehow(405);
    assert_eq!(bridge.upstream.seen().len(), seen);
    assert_eq!(client.audit_of(CID).len(), 0);
    for lease_seconds in [60, 86_400] {
        let body = json!({"primary_node_id": "a", "lease_seconds": lease_seconds});
        client.post(&select, body).ok(200);
    }
}

#[test]
fn a_refusal_keeps_its_status_and_only_a_promotion_its_words() {
    let words = r#"{"detail":[{"msg":"Field required"}]}"#;
    for status in [307, 400, 401, 403, 404, 409, 422] {
        let to = "location: http://127.0.0.1:1/\r\n";
        let upstream = Upstream::start(move |_, stream| answer(stream, status, to, words));
        let server = before(&upstream.url());
        let mut client = server.client();
        let text = format!("Membridge returned {status}");
        for path in ["/health", "/projects", "/projects/p/leadership", "/projects/p/nodes"] {
            let answer = client.get(&format!("{BRIDGE}{path}"));
            answer.refused(status, &text);
            assert_eq!(answer.header("location"), None);
        }
        let select = format!("{}/select", leadership("p"));
        client.post(&select, json!({"primary_node_id": "n"})).refused(status, words);
        assert_eq!(client.audit_of("p").len(), 0);
        assert_eq!(upstream.seen().len(), 5, "none of these is tried again");
    }
}

#[test]
fn what_may_pass_by_itself_is_tried_again_but_a_promotion_is_sent_once() {
    let upstream = Upstream::start(|_, stream| answer(stream, 503, "", "{}"));
    let server = before(&upstream.url());
    let mut client = server.client();
    let select = format!("{}/select", leadership("p"));
    client.post(&select, json!({"primary_node_id": "n"})).refused(503, "{}");
    assert_eq!(upstream.seen().len(), 1);
    client.get(&format!("{BRIDGE}/health")).refused(503, "Membridge returned 503");
    assert_eq!(upstream.seen().len(), 3, "one retry");
    // Two more failures make five in a row: now it is left alone.
    client.get(&format!("{BRIDGE}/projects")).refused(503, "Membridge returned 503");
    assert_eq!(upstream.seen().len(), 5);
    let resting = client.get(&format!("{BRIDGE}/projects"));
    assert_eq!(resting.refused(502, "fetch failed"), "membridge_resting");
    let seconds: u64 = resting.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=15).contains(&seconds));
    assert!(resting.json()["detail"].as_str().unwrap().contains("asked again in"), "{resting}");
    client.post(&select, json!({"primary_node_id": "n"})).refused(502, "fetch failed");
    assert_eq!(upstream.seen().len(), 5, "nothing was sent");
    let health = client.get("/api/runtime/health").ok(200);
    assert_eq!(health["membridge"]["consecutiveFailures"], 5);
    assert_eq!(health["membridge"]["lastError"], "Membridge returned 503");
    // The operator's own test asks all the same.
    client.post_nothing("/api/runtime/test-connection").ok(200);
    assert_eq!(upstream.seen().len(), 6);
}

/// Ids that are no plain segment, as they stand in a path.
fn shapes() -> Vec<String> {
    let mut shapes: Vec<String> = (0..=255u8)
        .filter(|byte| !byte.is_ascii_alphanumeric() && !b"._-".contains(byte))
        .map(|byte| format!("a%{byte:02X}b"))
        .collect();
    let odd = [
        "%2F",
        "%2f",
        "..%2F..",
        "%2e%2e%2f",
        "%2E%2E",
        "%2e",
        "..",
        ".",
        ".%2e",
        "%2e.",
        "%2F..%2F..",
        "..%5C..",
        "%5c",
        "p%2Fleadership",
        "%252F",
        "%252e%252e",
        "..;",
        "p;x=1",
        "%0d%0aX-Evil:%20y",
        "p%0D%0A%0D%0AGET%20%2Fagents",
        "%00",
        "p%00",
        "%09",
        "%7F",
        "p%3Fx",
        "p%23x",
        "p%20HTTP%2F1.1",
        "%D1%86",
        "%F0%9F%91%8B",
        "%E2%80%AE",
        "%E2%80%A4%E2%80%A4",
        "%EF%BC%8F",
        "%C0%AF",
        "%ED%A0%80",
        "%",
        "%2",
        "%zz",
        "%u002f",
        "p@h",
        "p:1",
        "p+q",
        "p,q",
        "p=q",
        "p!",
        "p*",
        "p'",
        "(p)",
        "p$",
        "p&q",
        "~p",
    ];
    shapes.extend(odd.map(str::to_owned));
    shapes.extend([129, 300, 1_000, 4_000].map(|length| "p".repeat(length)));
    shapes
}

#[test]
fn no_shape_of_a_project_id_leads_to_another_path() {
    let upstream = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    let server = before(&upstream.url());
    let mut client = server.client();
    let shapes = shapes();
    assert!(shapes.len() >= 200, "{}", shapes.len());
    for shape in &shapes {
        let project = format!("{BRIDGE}/projects/{shape}");
        client.get(&format!("{project}/leadership")).refused_somehow(400);
        client.get(&format!("{project}/nodes")).refused_somehow(400);
        let select = format!("{project}/leadership/select");
        client.post(&select, json!({"primary_node_id": "n"})).refused_somehow(400);
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
    for plain in ["p", "...", "a.b", "A-z_0", "%41", &"p".repeat(128)] {
        client.get(&format!("{BRIDGE}/projects/{plain}/nodes")).ok(200);
    }
    let paths: Vec<_> = upstream.seen().into_iter().map(|asked| asked.path).collect();
    assert_eq!(
        paths[..5],
        ["p", "...", "a.b", "A-z_0", "A"].map(|p| format!("/projects/{p}/nodes"))
    );
}

#[test]
fn every_route_needs_our_key_and_a_path_in_the_address_is_a_prefix() {
    let upstream = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    let url = format!("{}/pre/fix", upstream.url());
    let server = pointed_at(&url).env("RUNTIME_API_KEY", "k-1").start();
    for path in ["/health", "/projects", "/projects/p/leadership", "/projects/p/nodes", "/nope"] {
        server.client().get(&format!("{BRIDGE}{path}")).refused(401, "Unauthorized");
    }
    assert_eq!(upstream.seen().len(), 0);
    let mut client = server.client().with_key("k-1");
    client.get(&format!("{BRIDGE}/health/")).ok(200);
    client.get("/API/Membridge/Projects").ok(200);
    client.get(&format!("/l/x{BRIDGE}/projects")).refused_somehow(404);
    let paths: Vec<_> = upstream.seen().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/pre/fix/health", "/pre/fix/projects"]);
}
