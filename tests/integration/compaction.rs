//! Compaction beside a running server: space comes back, nobody notices, and a kill in its middle loses
//! nothing.
//!
//! Not here: compaction on a stopped server (`retention`).

use crate::harness::{Server, Setup, eventually, run};
use crate::retention::Past;
use bloom_runtime::engine::Command;
use bloom_runtime::store::Store;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const PROMPT_BYTES: usize = 400_000;
const YOUNG: usize = 40;

fn archive_of(data: &Path) -> PathBuf {
    data.join("archive.redb")
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// An archive that retention has emptied for the greater part, and the tasks that are left.
fn mostly_free(dir: &Arc<tempfile::TempDir>) -> (PathBuf, Vec<String>) {
    let data = dir.path().join("data");
    let mut past = Past::of(&data);
    past.finish_tasks(250, PROMPT_BYTES);
    past.pass_days(90);
    let young = past.finish_tasks(YOUNG, PROMPT_BYTES);
    past.pass_days(1);
    past.end();
    let setup = Setup::default().env("RETENTION_DAYS", "90").env("COMPACT_IDLE_SECONDS", "0");
    let mut server = setup.start_in(dir.clone());
    server.wait_until_said("retention removed tasks=250");
    assert_eq!(server.terminate(), Some(0));
    // Nothing is left to move, so the next server is idle at once.
    let mut past = Past::of(&data);
    past.finish_tasks(0, 0);
    past.end();
    assert!(size(&archive_of(&data)) > 80 << 20, "{}", size(&archive_of(&data)));
    (data, young)
}

fn compacting(dir: &Arc<tempfile::TempDir>) -> Server {
    Setup::default().env("COMPACT_IDLE_SECONDS", "1").start_in(dir.clone())
}

/// These tasks have finished, each with its whole prompt, and no others.
fn assert_holds(server: &Server, tasks: &[String]) {
    let mut client = server.client();
    let stats = client.get("/api/runtime/stats").ok(200);
    assert_eq!(stats["tasks"]["by_status"]["completed"], tasks.len());
    for task in tasks {
        let found = client.get(&format!("/api/runtime/llm-tasks/{task}")).ok(200);
        assert!(found["prompt"].as_str().is_some_and(|prompt| prompt.len() >= 1_000));
    }
}

fn assert_healthy(data: &Path) {
    let args = ["doctor", "--deep", "--env-file", "/dev/null", "--data-dir"];
    let examined = run(&[&args[..], &[data.to_str().unwrap()]].concat(), &[]);
    assert_eq!(examined.code, Some(0), "{}", examined.stdout);
}

#[test]
fn an_idle_server_gives_space_back_and_its_readers_notice_nothing() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (data, young) = mostly_free(&dir);
    let before = size(&archive_of(&data));
    let mut server = compacting(&dir);
    let (mut client, mut slowest, mut answers) = (server.client(), 0, 0);
    eventually("the archive has become small", || {
        for task in &young {
            let began = Instant::now();
            client.get(&format!("/api/runtime/llm-tasks/{task}")).ok(200);
            slowest = slowest.max(began.elapsed().as_millis());
            answers += 1;
        }
        (size(&archive_of(&data)) < before / 2).then_some(())
    });
    println!("longest of {answers} answers beside it: {slowest} ms");
    server.wait_until_said("compaction gave space back file=archive.redb");
    let after = size(&archive_of(&data));
    println!("{before} bytes before, {after} now");
    assert!(after < before / 2, "{before} bytes before, {after} now");
    assert_holds(&server, &young);
    let task = client.new_task();
    client.act(&task, "cancel", json!({})).ok(200);
    server.kill9();
    assert_healthy(&data);
    server.restart();
    assert_holds(&server, &young);
    assert_eq!(server.terminate(), Some(0));
    // What moves to the archive from now on moves to the new file.
    let mut past = Past::of(&data);
    let more = past.finish_tasks(2, 1_000);
    past.end();
    server.restart();
    assert_holds(&server, &[young, more].concat());
    assert_eq!(server.terminate(), Some(0));
    assert_healthy(&data);
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_nothing() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (data, young) = mostly_free(&dir);
    let copy = data.join("archive.redb.smaller");
    let kept = size(&archive_of(&data));
    let mut in_the_middle = 0;
    for least in [1, 2 << 20, 6 << 20, 12 << 20] {
        let mut server = compacting(&dir);
        eventually("the copy has grown, or has taken the name", || {
            (size(&copy) >= least || size(&archive_of(&data)) < kept / 2).then_some(())
        });
        server.kill9();
        in_the_middle += u32::from(copy.exists());
        assert_healthy(&data);
        let mut calm = Setup::default().env("COMPACT_IDLE_SECONDS", "0").start_in(dir.clone());
        assert!(!copy.exists(), "a start removes what is unfinished");
        assert_holds(&calm, &young);
        assert_eq!(calm.terminate(), Some(0));
    }
    assert!(in_the_middle > 0, "no kill came in time, so nothing was tried");
    let mut server = compacting(&dir);
    if size(&archive_of(&data)) > kept / 2 {
        server.wait_until_said("compaction gave space back file=archive.redb");
    }
    assert_holds(&server, &young);
    assert_eq!(server.terminate(), Some(0));
    assert_healthy(&data);
}

#[test]
fn who_holds_a_snapshot_reads_on_and_a_copy_that_is_given_up_leaves_nothing() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (data, young) = mostly_free(&dir);
    let (store, _) = Store::open(&data).unwrap();
    let before = size(&archive_of(&data));
    let chunks = std::cell::Cell::new(0);
    let few = || {
        chunks.set(chunks.get() + 1);
        chunks.get() < 6
    };
    assert_eq!(store.compact_archive(&few).unwrap(), None);
    assert!(chunks.get() == 6 && !data.join("archive.redb.smaller").exists());
    assert_eq!(size(&archive_of(&data)), before);

    let snapshot = store.archive(Arc::default()).unwrap();
    let compacted = store.compact_archive(&|| true).unwrap().expect("much is free");
    assert!(compacted.after_bytes < before / 2, "{compacted:?}");
    assert_eq!(snapshot.tasks_below(None, u64::MAX, 1_000, |_| false).unwrap().len(), young.len());
    for seq in snapshot.tasks_below(None, u64::MAX, 1_000, |_| false).unwrap() {
        assert_eq!(snapshot.spec(seq).unwrap().expect("there").prompt.len(), PROMPT_BYTES);
    }
    drop(snapshot);
    assert_eq!(store.compact_archive(&|| true).unwrap(), None, "not again for nothing");
    let findings = store.examine(&mut |_, _| {}).unwrap();
    assert!(findings.is_healthy(), "{findings}");
}

#[test]
fn the_writer_compacts_the_hot_file_between_two_commits() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let hot = data.join("hot.redb");
    let mut past = Past::of(&data);
    past.finish_tasks(250, PROMPT_BYTES);
    let before = size(&hot);
    assert!(before > 80 << 20, "{before}");
    let compacted = past.ask(|reply| Command::CompactHot { reply }).expect("much is free");
    assert!(size(&hot) < before / 4, "{compacted:?}");
    assert!(past.ask(|reply| Command::CompactHot { reply }).is_none(), "not again for nothing");
    past.finish_tasks(3, 1_000);
    past.end();
    assert_healthy(&data);
}
