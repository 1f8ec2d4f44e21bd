//! Files that workers return, and contents as they are read: parts, tags, digests, limits, crashes.
//!
//! Not here: S3 (`s3`), the rules (`domain::artifact`).

use crate::harness::{Server, Setup, TASKS, failure, id, success, under};
use crate::http::{Answer, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;

const ARTIFACTS: &str = "/api/runtime/artifacts";

/// A task of worker `w`, and the lease.
fn held(client: &mut Client) -> (String, String) {
    client.register("w", 8);
    let task = id(&client.create(json!({})));
    let lease = client.act(&task, "lease", json!({})).ok(201);
    (task, id(&lease["lease"]))
}

fn give(client: &mut Client, task: &str, query: &str, body: &[u8]) -> Answer {
    let path = format!("{TASKS}/{task}/artifacts?{query}");
    client.send("POST", &path, &[("Content-Type", "text/markdown")], Some(body))
}

fn given(client: &mut Client, task: &str, lease: &str, name: &str, body: &[u8]) -> Value {
    give(client, task, &format!("lease_id={lease}&name={name}"), body).ok(201)
}

fn content(client: &mut Client, artifact: &Value, headers: &[(&str, &str)]) -> Answer {
    let path = format!("{ARTIFACTS}/{}/content", id(artifact));
    client.send("GET", &path, headers, None)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn on_disk(server: &Server) -> Vec<PathBuf> {
    let folder = server.dir().path().join("data/files");
    fs::read_dir(folder).expect("the folder").map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_file_comes_back_as_it_went_and_survives_a_kill_and_the_end_of_its_task() {
    let mut server = Server::start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let body: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let file = given(&mut client, &task, &lease, "plan%201.bin", &body);
    assert_eq!(file["name"], "plan 1.bin");
    assert_eq!(file["bytes"], body.len());
    assert_eq!(file["sha256"], sha256(&body));
    assert_eq!((&file["type"], &file["worker_id"]), (&json!("FILE"), &json!("w")));
    assert_eq!((&file["content"], &file["url"]), (&Value::Null, &Value::Null));
    server.kill9();
    server.restart();
    let mut client = server.client();
    client.act(&task, "complete", under(&lease, success("done"))).ok(200);
    let listed = client.get(&format!("{ARTIFACTS}?task_id={task}")).ok(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!((&listed[0]["content"], &listed[1]), (&json!("done"), &file));
    assert_eq!(client.get(&format!("{ARTIFACTS}/{}", id(&file))).ok(200), file);
    assert_eq!(client.audit_of(&task)[1]["action"], "artifact_added");

    let answer = content(&mut client, &file, &[]);
    assert_eq!((answer.status, answer.body == body), (200, true));
    for (name, value) in [
        ("content-type", "text/markdown"),
        (
            "content-disposition",
            "attachment; filename=\"plan_1.bin\"; filename*=UTF-8''plan%201.bin",
        ),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("accept-ranges", "bytes"),
        ("etag", &format!("\"{}\"", sha256(&body))),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_content_is_read_in_parts_and_not_again_by_who_has_it() {
    let server = Server::start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let text = "0123456789".repeat(20_000);
    let file = given(&mut client, &task, &lease, "a", text.as_bytes());
    let done = client.act(&task, "complete", under(&lease, success(&text))).ok(200);
    for artifact in [&file, &done["artifact"]] {
        let whole = content(&mut client, artifact, &[]);
        assert_eq!(whole.body, text.as_bytes());
        let tag = whole.header("etag").expect("a tag").to_owned();
        let part = content(&mut client, artifact, &[("Range", "bytes=100005-100014")]);
        assert_eq!((part.status, part.text().as_str()), (206, "5678901234"));
        assert_eq!(part.header("content-range"), Some("bytes 100005-100014/200000"));
        assert_eq!(part.header("content-length"), Some("10"));
        let last = content(&mut client, artifact, &[("Range", "bytes=-3"), ("If-Range", &tag)]);
        assert_eq!((last.status, last.text().as_str()), (206, "789"));
        let other = content(&mut client, artifact, &[("Range", "bytes=-3"), ("If-Range", "\"x\"")]);
        assert_eq!((other.status, other.body.len()), (200, 200_000));
        let known = content(&mut client, artifact, &[("If-None-Match", &tag)]);
        assert_eq!((known.status, known.body.len()), (304, 0));
        let beyond = content(&mut client, artifact, &[("Range", "bytes=200000-")]);
        beyond.refused_somehow(416);
        assert_eq!(beyond.header("content-range"), Some("bytes */200000"));
        let path = format!("{ARTIFACTS}/{}/content", id(artifact));
        let head = client.send("HEAD", &path, &[], None);
        assert_eq!((head.status, head.header("content-length")), (200, Some("200000")));
    }
}

#[test]
fn only_the_holder_returns_files_and_nothing_is_left_of_those_that_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let other = "00000000-0009-8000-8000-000000000000";
    let lost = give(&mut client, &task, &format!("lease_id={other}&name=a"), b"x");
    assert_eq!(lost.ok(409)["code"], "lease_lost");
    assert_eq!(give(&mut client, other, "name=a", b"x").ok(404)["code"], "task_not_found");
    for query in
        ["", "name=", "name=a%2Fb", "name=..", "name=a%0Ab", &format!("name={}", "x".repeat(256))]
    {
        let refused = give(&mut client, &task, &format!("lease_id={lease}&{query}"), b"x");
        assert_eq!(refused.ok(400)["code"], "bad_file_name", "{query}");
    }
    let path = format!("{TASKS}/{task}/artifacts?lease_id={lease}&name=a");
    let gzip = client.send("POST", &path, &[("Content-Encoding", "gzip")], Some(b"x"));
    assert_eq!(gzip.ok(415)["code"], "unsupported_body");
    let odd = client.send("POST", &format!("{path}&type=text"), &[], Some(b"x"));
    assert_eq!(odd.ok(400)["code"], "bad_file_type");
    assert_eq!(client.get(&format!("{TASKS}/{task}/artifacts")).status, 405);
    let unnamed = give(&mut client, &task, "name=by-trust", b"");
    assert_eq!(unnamed.ok(201)["bytes"], 0, "who names no lease is believed while none was lost");
    let path = format!("/l/{lease}{TASKS}/{task}/artifacts?name=by-path");
    client.send("POST", &path, &[], Some(b"x")).ok(201);
    client.act(&task, "complete", under(&lease, failure("no"))).ok(200);
    let late = give(&mut client, &task, &format!("lease_id={lease}&name=late"), b"x");
    assert_eq!(late.ok(409)["code"], "lease_lost");
    assert_eq!(on_disk(&server).len(), 2, "{:?}", on_disk(&server));
}

#[test]
fn files_are_limited_each_for_a_task_and_in_all_p9() {
    let server = Setup::default().env("ARTIFACT_MB_MAX", "1").env("ARTIFACTS_MB_MAX", "2").start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let query = format!("lease_id={lease}&name=a");
    let mega = vec![b'x'; 1 << 20];
    let large = give(&mut client, &task, &query, &[&mega[..], b"x"].concat());
    assert_eq!(large.ok(413)["code"], "body_too_large");
    // One whose length is not told is cut off where it becomes too large.
    let mut chunks = format!(
        "POST {TASKS}/{task}/artifacts?{query} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address()
    )
    .into_bytes();
    for _ in 0..2 {
        chunks.extend(format!("{:x}\r\n", mega.len()).bytes());
        chunks.extend(&mega);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    let endless = server.client().try_raw("POST", "", &chunks).expect("an answer");
    assert_eq!(endless.ok(413)["code"], "body_too_large");
    for _ in 0..2 {
        give(&mut client, &task, &query, &mega).ok(201);
    }
    let full = give(&mut client, &task, &query, b"x");
    assert_eq!(full.ok(507)["code"], "files_full");
    assert_eq!(on_disk(&server).len(), 2);

    let (task, lease) = held(&mut client);
    let query = format!("lease_id={lease}&name=a");
    for _ in 0..32 {
        give(&mut client, &task, &query, b"").ok(201);
    }
    assert_eq!(give(&mut client, &task, &query, b"").ok(409)["code"], "too_many_files");
    assert_eq!(on_disk(&server).len(), 34);
}

#[test]
fn what_breaks_off_leaves_nothing_and_what_a_crash_leaves_goes_with_the_next_start() {
    let mut server = Server::start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let kept = given(&mut client, &task, &lease, "kept", b"kept");
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    let head = format!(
        "POST {TASKS}/{task}/artifacts?name=half&lease_id={lease} HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000\r\n\r\n",
        server.address()
    );
    stream.write_all(head.as_bytes()).expect("it listens");
    stream.write_all(&[b'x'; 50_000]).expect("it listens");
    crate::harness::eventually("the file arrives", || (on_disk(&server).len() == 2).then_some(()));
    drop(stream);
    crate::harness::eventually("it is gone", || (on_disk(&server).len() == 1).then_some(()));

    server.kill9();
    let folder = server.dir().path().join("data/files");
    let own = on_disk(&server)[0].file_name().unwrap().to_str().unwrap().to_owned();
    let of_no_task = format!("999-{}-0011223344556677", sha256(b"x"));
    let of_another_record =
        format!("{}-{}-0011223344556677", own.split('-').next().unwrap(), sha256(b"x"));
    for name in ["arriving-0011223344556677", &of_no_task, &of_another_record] {
        fs::write(folder.join(name), b"x").unwrap();
    }
    server.restart();
    crate::harness::eventually("strays are gone", || (on_disk(&server).len() == 1).then_some(()));
    assert_eq!(content(&mut server.client(), &kept, &[]).body, b"kept");
}

#[test]
fn a_file_that_was_damaged_on_disk_breaks_off_instead_of_being_taken_for_whole() {
    let server = Server::start();
    let mut client = server.client();
    let (task, lease) = held(&mut client);
    let body = vec![b'x'; 200_000];
    let file = given(&mut client, &task, &lease, "a", &body);
    let path = on_disk(&server).remove(0);
    let mut damaged = body.clone();
    damaged[150_000] = b'y';
    fs::write(&path, &damaged).unwrap();
    let path = format!("{ARTIFACTS}/{}/content", id(&file));
    let cut_off = client.try_send("GET", &path, &[], None);
    assert!(cut_off.is_err(), "{:?}", cut_off.map(|answer| answer.body.len()));
    server.wait_until_said("its digest differs");
}
