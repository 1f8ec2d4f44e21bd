//! Who leads a project, as Membridge's scripts keep it in S3: shown beside what Membridge says, never written.

use super::duty::to_s3;
use super::proxy::{Proxy, Weather};
use super::server::{S3Server, client as s3_client, settings};
use crate::harness::{Setup, eventually};
use crate::membridge_standin::{KEY, Membridge};
use bloom_runtime::artifacts::Place;
use serde_json::{Value, json};

fn path(project: &str) -> String {
    format!("/api/membridge/projects/{project}/leadership")
}

fn keep(s3: &S3Server, project: &str, record: &str) {
    let key = format!("projects/{project}/leadership/lease.json");
    let place = Place { bucket: "claude-memory", key: &key };
    let content = super::client::content(record.as_bytes().to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(s3_client(&settings(&s3.url())).put(place, &content)).unwrap();
}

fn record(project: &str, expires_at: u64) -> String {
    json!({"canonical_id": project, "primary_node_id": "rpi4b", "issued_at": 1_795_000_000,
           "expires_at": expires_at, "lease_seconds": 3600, "epoch": 7,
           "policy": "primary_authoritative", "issued_by": "alpine"})
    .to_string()
}

fn with_membridge(setup: Setup, membridge: &Membridge) -> Setup {
    setup.env("MEMBRIDGE_SERVER_URL", &membridge.url()).env("MEMBRIDGE_ADMIN_KEY", KEY)
}

#[test]
fn the_record_of_a_project_is_shown_and_what_is_wrong_with_it() {
    let (s3, membridge) = (S3Server::start(), Membridge::start());
    keep(&s3, "live", &record("live", 4_000_000_000));
    keep(&s3, "over", &record("over", 1_795_003_600));
    keep(&s3, "odd", "{\"epoch\":");
    keep(&s3, "huge", &" ".repeat(70_000));
    keep(&s3, "other", &record("live", 4_000_000_000));
    let before = s3.objects("claude-memory");
    let server = with_membridge(to_s3(&s3.url()), &membridge).start();
    let mut client = server.client();
    let live = client.get(&path("live")).ok(200);
    assert_eq!(
        live["lease"],
        json!({"source": "s3", "epoch": 7, "issued_at": 1_795_000_000_000u64,
               "expires_at": 4_000_000_000_000u64, "lease_seconds": 3600,
               "policy": "primary_authoritative", "issued_by": "alpine",
               "primary_node_id": "rpi4b", "expired": false})
    );
    assert!(live["canonical_id"].is_string() && live.get("lease_note").is_none(), "{live}");
    assert_eq!(client.get(&path("over")).ok(200)["lease"]["expired"], true);
    for (project, words) in [
        ("odd", "not what Membridge's scripts write"),
        ("huge", "larger than 65536 bytes"),
        ("other", "one of another project"),
        ("none", "bucket claude-memory has no record of this project"),
    ] {
        let said = client.get(&path(project)).ok(200);
        assert_eq!(said["lease"], Value::Null, "{said}");
        assert!(said["lease_note"].as_str().unwrap().contains(words), "{said}");
    }
    assert!(s3.objects("claude-memory") == before, "nothing is written there");
}

#[test]
fn without_s3_nothing_is_said_and_an_s3_that_hangs_holds_nobody_up() {
    let (s3, membridge) = (S3Server::start(), Membridge::start());
    let server = with_membridge(Setup::default(), &membridge).start();
    let said = server.client().get(&path("live")).ok(200);
    assert!(said.get("lease").is_none() && said.get("lease_note").is_none(), "{said}");

    let proxy = Proxy::before(s3.address);
    proxy.set(Weather::StallsAnswersAfter(0));
    let server = with_membridge(to_s3(&proxy.url()), &membridge).start();
    let said = server.client().get(&path("live")).ok(200);
    assert_eq!(said["lease_note"], "S3 did not give it within 3 s");
    keep(&s3, "live", &record("live", 4_000_000_000));
    proxy.set(Weather::Fine);
    eventually("it is read again after a moment", || {
        server.client().get(&path("live")).ok(200)["lease"].is_object().then_some(())
    });
}
