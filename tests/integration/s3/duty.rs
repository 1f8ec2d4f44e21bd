//! Artifacts on their way to S3 and back, with the real program: whatever becomes of S3, tasks complete and
//! every content can be read.

use super::proxy::{Proxy, Weather};
use super::server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY, client as s3_client, settings};
use crate::harness::{Server, Setup, TASKS, eventually, id, run, success, under};
use crate::http::Client;
use bloom_runtime::artifacts::Place;
use bloom_runtime::domain::StoredObject;
use bloom_runtime::store::{ObjectRules, Store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::process::Command;

pub const ARTIFACTS: &str = "/api/runtime/artifacts";
const HEALTH: &str = "/api/runtime/health";

/// A server whose artifacts go to S3 there as soon as they may.
pub fn to_s3(url: &str) -> Setup {
    [
        ("MINIO_ENDPOINT", url),
        ("MINIO_ACCESS_KEY", ACCESS_KEY),
        ("MINIO_SECRET_KEY", SECRET_KEY),
        ("ARCHIVE_AFTER_SECONDS", "0"),
    ]
    .into_iter()
    .fold(Setup::default(), |setup, (name, value)| setup.env(name, value))
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Completes a new task with this output; its artifact, its task and its lease.
fn complete(client: &mut Client, output: &str) -> (String, String, String) {
    client.register("w", 32);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    let done = client.act(&task, "complete", under(&lease, success(output))).ok(200);
    (id(&done["artifact"]), task, lease)
}

pub fn artifact(client: &mut Client, id: &str) -> Value {
    client.get(&format!("{ARTIFACTS}/{id}")).ok(200)
}

/// The artifact once it is known to lie in S3.
pub fn stored(client: &mut Client, id: &str) -> Value {
    eventually("it lies in S3", || {
        Some(artifact(client, id)).filter(|artifact| artifact["url"].is_string())
    })
}

pub fn content(client: &mut Client, id: &str) -> Vec<u8> {
    let answer = client.get(&format!("{ARTIFACTS}/{id}/content"));
    assert_eq!(answer.status, 200, "{answer}");
    answer.body
}

/// What health says of S3, once it fits.
fn health(client: &mut Client, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(client.get(HEALTH).ok(200)["artifacts"].clone()).filter(&fits))
}

#[test]
fn an_output_and_a_file_go_to_s3_and_are_read_back_from_there() {
    let s3 = S3Server::start();
    let server = to_s3(&s3.url()).start();
    let mut client = server.client();
    client.register("w", 32);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    let file: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let path = format!("{TASKS}/{task}/artifacts?lease_id={lease}&name=a%20b.bin");
    let returned = client.send("POST", &path, &[("Content-Type", "x/y")], Some(&file)).ok(201);
    let output = "Привіт\n".repeat(1000);
    let done = client.act(&task, "complete", under(&lease, success(&output))).ok(200);
    let at = done["artifact"]["created_at"].to_string();

    let out = stored(&mut client, &id(&done["artifact"]));
    let key = format!("artifacts/{task}/{at}.json");
    assert_eq!(out["url"], format!("minio://{BUCKET}/{key}"));
    assert_eq!((&out["content"], &out["bytes"]), (&Value::Null, &json!(output.len())));
    assert_eq!(out["sha256"], sha256(output.as_bytes()));
    let back = stored(&mut client, &id(&returned));
    let file_key = format!("artifacts/{task}/{}-a_b.bin", id(&returned));
    assert_eq!(back["url"], format!("minio://{BUCKET}/{file_key}"));
    let objects = s3.objects(BUCKET);
    assert_eq!(objects.keys().collect::<Vec<_>>(), [&file_key, &key]);
    assert!(objects[&key] == output.as_bytes() && objects[&file_key] == file);
    let folder = server.dir().path().join("data/files");
    eventually("no copy stays", || {
        (std::fs::read_dir(&folder).unwrap().count() == 0).then_some(())
    });

    assert!(content(&mut client, &id(&out)) == output.as_bytes());
    let path = format!("{ARTIFACTS}/{}/content", id(&back));
    let whole = client.get(&path);
    assert!(whole.status == 200 && whole.body == file);
    assert_eq!(whole.header("content-type"), Some("x/y"));
    let tag = format!("\"{}\"", sha256(&file));
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    let part = client.send("GET", &path, &[("Range", "bytes=100-299")], None);
    assert!(part.status == 206 && part.body == file[100..300]);
    let last = client.send("GET", &path, &[("Range", "bytes=-1")], None);
    assert!(last.status == 206 && last.body == file[file.len() - 1..]);
    assert_eq!(client.send("GET", &path, &[("If-None-Match", &tag)], None).status, 304);
    assert_eq!(client.send("GET", &path, &[("Range", "bytes=9999999-")], None).status, 416);

    let result = client.get(&format!("{TASKS}/{task}/result")).ok(200);
    assert_eq!(result["output"], output);
    let again = client.act(&task, "complete", under(&lease, success("x"))).ok(200);
    assert_eq!(again["result"], done["result"]);
    let url = format!("{}{path}?redirect=1", server.url());
    let said = Command::new("curl").args(["-sL", "-D", "-", &url]).output().expect("curl");
    let head = String::from_utf8_lossy(&said.stdout[..600]).into_owned();
    assert!(head.contains("307 Temporary Redirect") && head.contains("X-Amz-Signature="), "{head}");
    assert!(said.stdout.ends_with(&file), "the signed address leads to the content");
    let known = health(&mut client, "nothing waits", |known| known["waiting"] == 0);
    assert_eq!((&known["connected"], &known["last_error"]), (&json!(true), &Value::Null));
    assert_eq!(client.get("/api/runtime/stats").ok(200)["artifacts"]["waiting"], 0);
}

#[test]
fn a_copy_stays_when_it_is_to_stay_and_is_read_without_s3() {
    let mut s3 = S3Server::start();
    let server = to_s3(&s3.url()).env("ARTIFACT_INLINE", "keep").start();
    let mut client = server.client();
    let (id, ..) = complete(&mut client, "kept");
    let known = stored(&mut client, &id);
    assert_eq!(known["content"], Value::Null, "as the system before showed it");
    s3.kill();
    assert_eq!(content(&mut client, &id), b"kept");
}

#[test]
fn while_s3_is_away_tasks_complete_it_is_said_what_hangs_and_it_heals_by_itself() {
    let mut s3 = S3Server::start();
    let server = to_s3(&s3.url()).start();
    let mut client = server.client();
    let (first, task, lease) = complete(&mut client, "first");
    stored(&mut client, &first);
    s3.kill();
    let later: Vec<_> = (0..20).map(|n| complete(&mut client, &format!("later {n}")).0).collect();
    let known = health(&mut client, "it is told", |known| known["waiting"] == 20);
    assert!(known["oldest_at"].is_i64(), "{known}");
    let known = health(&mut client, "why", |known| known["last_error"].is_string());
    assert_eq!(known["connected"], false);
    let words = format!("S3 at {} cannot be reached", s3.address);
    assert!(known["last_error"].as_str().unwrap().starts_with(&words), "{known}");
    for (n, id) in later.iter().enumerate() {
        assert_eq!(content(&mut client, id), format!("later {n}").as_bytes());
    }
    for answer in [
        client.get(&format!("{ARTIFACTS}/{first}/content")),
        client.get(&format!("{TASKS}/{task}/result")),
    ] {
        assert_eq!(answer.status, 503, "{answer}");
        assert_eq!(answer.json()["code"], "artifact_unavailable");
        assert!(answer.text().contains(&words), "{answer}");
    }
    let shown = run(&["task", &task, "--server", &server.url()], &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains(&task) && shown.stderr.contains(&words), "{}", shown.stderr);
    // Whoever completes again is not made to wait for S3.
    let again = client.act(&task, "complete", under(&lease, success("x"))).ok(200);
    assert_eq!(
        (&again["task"]["status"], &again["result"]["output"]),
        (&json!("completed"), &Value::Null)
    );
    s3.run();
    health(&mut client, "it heals", |known| known["waiting"] == 0 && known["last_error"].is_null());
    assert_eq!(s3.objects(BUCKET).len(), 21);
    assert_eq!(content(&mut client, &first), b"first");
    let said = server.wait_until_said("s3 works again");
    assert_eq!(said.matches("cannot be reached").count(), 1, "one line:\n{said}");
}

#[test]
fn a_server_that_dies_between_the_upload_and_its_note_uploads_the_same_again() {
    let s3 = S3Server::start();
    let proxy = Proxy::before(s3.address);
    let mut server = to_s3(&proxy.url()).start();
    // It gets there, but never wholly back.
    proxy.set(Weather::StallsAnswersAfter(2_000));
    let output = "x".repeat(100_000);
    let (id, ..) = complete(&mut server.client(), &output);
    eventually("it is there", || (s3.objects(BUCKET).len() == 1).then_some(()));
    assert_eq!(artifact(&mut server.client(), &id)["url"], Value::Null);
    server.kill9();
    proxy.set(Weather::Fine);
    server.restart();
    let mut client = server.client();
    stored(&mut client, &id);
    assert_eq!(s3.objects(BUCKET).len(), 1);
    assert!(content(&mut client, &id) == output.as_bytes());
}

#[test]
fn what_s3_gives_back_otherwise_is_not_noted_and_what_it_loses_is_not_passed_on_as_whole() {
    let s3 = S3Server::start();
    let proxy = Proxy::before(s3.address);
    let server = to_s3(&proxy.url()).start();
    let mut client = server.client();
    let output = "y".repeat(300_000);
    proxy.set(Weather::SpoilsAnswersAfter(250_000));
    let (id, ..) = complete(&mut client, &output);
    let words = json!("S3 gives an object back that is not what was put there");
    health(&mut client, "it is told", |known| known["last_error"] == words);
    assert_eq!(artifact(&mut client, &id)["url"], Value::Null);
    assert!(content(&mut client, &id) == output.as_bytes());
    proxy.set(Weather::Fine);
    let known = stored(&mut client, &id);
    let key = known["url"].as_str().unwrap().rsplit_once(BUCKET).unwrap().1;
    let path = s3.bucket(BUCKET).join(key.trim_start_matches('/'));
    let mut spoilt = output.into_bytes();
    spoilt[200_000] = b'n';
    std::fs::write(&path, &spoilt).unwrap();
    let url = format!("{}{ARTIFACTS}/{id}/content", server.url());
    let curl = Command::new("curl").args(["-s", &url]).output().expect("curl");
    assert_eq!(curl.status.code(), Some(18), "it ends before the last piece");
    assert!(curl.stdout.len() < spoilt.len());
    server.wait_until_said("its content there is another");
    std::fs::write(&path, b"short").unwrap();
    let answer = client.get(&format!("{ARTIFACTS}/{id}/content"));
    assert_eq!(answer.json()["code"], "artifact_unavailable");
}

#[test]
fn objects_whose_tasks_are_gone_are_deleted_when_that_is_wanted() {
    let s3 = S3Server::start();
    let place = Place { bucket: BUCKET, key: "artifacts/gone/1.json" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let content = super::client::content(b"gone".to_vec());
    runtime.block_on(s3_client(&settings(&s3.url())).put(place, &content)).unwrap();
    let mut server = to_s3(&s3.url()).env("RETENTION_S3", "1").start();
    server.terminate();
    {
        let (store, _) = Store::open(&server.dir().path().join("data")).unwrap();
        store.keep_objects(ObjectRules { deletes: true, ..ObjectRules::default() });
        let [bucket, key] = [place.bucket, place.key].map(str::to_owned);
        let object = StoredObject { bucket, key, bytes: 4, sha256: content.sha256 };
        // An upload that ends after retention has taken its task.
        store.mark_stored(&[(99, object)]).unwrap();
    }
    server.restart();
    eventually("it is deleted", || s3.objects(BUCKET).is_empty().then_some(()));
    health(&mut server.client(), "it is noted", |known| known["to_delete"] == 0);
}

#[test]
fn keys_and_signatures_of_s3_are_in_no_log_line_no_answer_and_no_error() {
    let s3 = S3Server::start();
    let proxy = Proxy::before(s3.address);
    let mut server = to_s3(&proxy.url()).env("LOG_LEVEL", "trace").start();
    let mut client = server.client();
    let (id, task, _) = complete(&mut client, "first");
    stored(&mut client, &id);
    let mut seen = String::new();
    let hostile =
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 93\r\n\r\n<Error><Code>SignatureDoesNotMatch\
        </Code><Message>canary-access-7f3a canary-secret/9c1e+5b</M";
    for weather in [Weather::Fine, Weather::Down, Weather::Says(hostile)] {
        proxy.set(weather);
        complete(&mut client, "again");
        for path in [
            HEALTH.into(),
            "/api/runtime/stats".into(),
            format!("{ARTIFACTS}/{id}"),
            format!("{ARTIFACTS}/{id}/content"),
            format!("{TASKS}/{task}/result"),
            "/api/runtime/audit".to_owned(),
        ] {
            seen += &client.get(&path).text();
        }
        client.get(&format!("{ARTIFACTS}/{id}/content?redirect=1"));
    }
    health(&mut client, "a wrong key is told", |known| {
        known["last_error"].as_str().is_some_and(|words| words.contains("MINIO_SECRET_KEY is not"))
    });
    server.terminate();
    seen += &server.said();
    assert!(seen.contains("S3"), "{seen}");
    for secret in [ACCESS_KEY, SECRET_KEY, "X-Amz-", "AWS4-HMAC", "Signature="] {
        assert!(!seen.contains(secret), "{secret} is shown in:\n{seen}");
    }
}

/// The most memory that the process ever held, in KiB.
fn peak_kib(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn fifty_megabytes_pass_to_s3_and_back_in_sixteen_more_of_memory() {
    let s3 = S3Server::start();
    let server = to_s3(&s3.url()).start();
    let mut client = server.client();
    let (small, ..) = complete(&mut client, "small");
    stored(&mut client, &small);
    let before = peak_kib(&server);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    let file: Vec<u8> = (0..50_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let path = format!("{TASKS}/{task}/artifacts?lease_id={lease}&name=large");
    let returned = client.send("POST", &path, &[("Content-Type", "x/y")], Some(&file)).ok(201);
    client.act(&task, "complete", under(&lease, success("done"))).ok(200);
    stored(&mut client, &id(&returned));
    assert!(content(&mut client, &id(&returned)) == file);
    let more = peak_kib(&server) - before;
    assert!(more <= 16 << 10, "{more} KiB more than before");
}
