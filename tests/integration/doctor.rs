//! `bloom-runtime doctor` on healthy, killed, used and damaged directories: what is wrong is named in
//! words, and nothing is changed by looking.
//!
//! The directories are made with the library, the damages with redb. Not here: what power loss may leave
//! (`tests/proofs/power_loss`), which is examined by the same code.

use crate::harness::{Ended, Server, Setup, failure, id, run, success};
use bloom_runtime::clock::{Clock, ManualClock};
use bloom_runtime::engine::{Command, Core, system_random};
use bloom_runtime::store::Store;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const HOT: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("hot");
const WORKERS: TableDefinition<&str, &[u8]> = TableDefinition::new("workers");
const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
const PARTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("parts");
const BY_STATUS: TableDefinition<(u8, u64), ()> = TableDefinition::new("tasks_by_status");
const BY_AGE: TableDefinition<(u8, u64, u64), ()> = TableDefinition::new("tasks_by_age");
const LEASES: TableDefinition<(u8, u64), u64> = TableDefinition::new("leases");
const OUTCOMES: TableDefinition<u64, (u64, u32)> = TableDefinition::new("outcomes");
const KEYS: TableDefinition<&str, u64> = TableDefinition::new("keys");
const KEYS_BY_TASK: TableDefinition<u64, (u64, &str)> = TableDefinition::new("keys_by_task");
const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
const JOURNAL: u64 = 1 << 63;

fn examine(data: &Path, more: &[&str]) -> Ended {
    let args = ["doctor", "--env-file", "/dev/null", "--data-dir", data.to_str().unwrap()];
    run(&[&args, more].concat(), &[])
}

fn contents(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// A directory after orderly work: task 1 completed and task 2 failed, both in the archive; task 3
/// completed, in the hot file; task 4 leased, task 5 queued, under the idempotency key "k".
fn used() -> (Arc<tempfile::TempDir>, PathBuf) {
    let mut server = Server::start();
    let mut client = server.client();
    client.register("w", 3);
    for outcome in [success("kept"), failure("no")] {
        let task = client.new_task();
        client.lease(&task, "w", 600);
        client.act(&task, "complete", outcome).ok(200);
    }
    assert_eq!(server.terminate(), Some(0));
    let data = server.dir().path().join("data");
    move_finished(&data);
    server.restart();
    let mut client = server.client();
    let task = client.new_task();
    client.lease(&task, "w", 600);
    client.act(&task, "complete", success("fresh")).ok(200);
    let task = client.new_task();
    client.lease(&task, "w", 600);
    client.headers.push(("Idempotency-Key".into(), "k".into()));
    let queued = client.create(json!({"prompt": "p"}));
    assert!(!id(&queued).is_empty());
    assert_eq!(server.terminate(), Some(0));
    (server.dir(), data)
}

/// A round of the mover, which takes its time in a running server.
fn move_finished(data: &Path) {
    let clock = ManualClock::new(1_790_000_000_000);
    let store = Arc::new(Store::open(data).unwrap().0);
    let mut core = Core::open(store, system_random(), clock.now()).unwrap();
    let copied = core.query().copy_finished(100, 1_000).unwrap();
    let (reply, _) = oneshot::channel();
    core.step(vec![Command::Archived { copied, reply }], clock.now()).unwrap();
}

type Damage = fn(&WriteTransaction);

/// Changes a record as a person with a wrong tool would.
fn edit(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut record = serde_json::from_slice(bytes).unwrap();
    change(&mut record);
    serde_json::to_vec(&record).unwrap()
}

fn edit_hot(txn: &WriteTransaction, key: (u64, u64), change: impl FnOnce(&mut Value)) {
    let mut table = txn.open_table(HOT).unwrap();
    let bytes = edit(table.get(key).unwrap().expect("there").value(), change);
    table.insert(key, bytes.as_slice()).unwrap();
}

fn edit_archived(txn: &WriteTransaction, seq: u64, change: impl FnOnce(&mut Value)) {
    let mut table = txn.open_table(TASKS).unwrap();
    let bytes = edit(table.get(seq).unwrap().expect("there").value(), change);
    table.insert(seq, bytes.as_slice()).unwrap();
}

/// The key of the newest journal record, the last of all rows.
fn newest(txn: &WriteTransaction) -> (u64, u64) {
    txn.open_table(HOT).unwrap().last().unwrap().unwrap().0.value()
}

/// File, damage, and what must be said of it.
const DAMAGES: [(&str, Damage, &[&str]); 26] = [
    (
        "hot.redb",
        |txn| edit_hot(txn, newest(txn), |r| r["counters"]["tasks_by_status"][0] = json!(7)),
        &["the journal counts 7 queued tasks, there are 1", "statistics are wrong"],
    ),
    (
        "hot.redb",
        |txn| edit_hot(txn, newest(txn), |r| r["counters"]["last_lease"] = json!(3)),
        &["there is lease number 4, but the journal knows 3", "do not start the server"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(HOT).unwrap().remove((5, 1)).unwrap()),
        &["task 00000000-0005-", "has no prompt", "cannot be shown or carried out"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(HOT).unwrap().remove((5, 0)).unwrap()),
        &["part 1 of task number 5 is there, the task is not", "takes space"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(HOT).unwrap().insert((5, 9), b"{}".as_slice()).unwrap()),
        &["outcome 8 of task number 5 cannot be read", "part 9 of task 00000000-0005-"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(HOT).unwrap().insert((4, 0), b"{\"id\"".as_slice()).unwrap()),
        &["hot.redb: the record of task number 4 cannot be read", "check the disk"],
    ),
    (
        "hot.redb",
        |txn| edit_hot(txn, (4, 0), |r| r["lease"] = json!(null)),
        &["is leased without a lease", "may hang or be carried out twice"],
    ),
    (
        "hot.redb",
        |txn| edit_hot(txn, (4, 0), |r| r["status"] = json!("queued")),
        &["is queued but holds the lease 00000000-0004-"],
    ),
    (
        "hot.redb",
        |txn| edit_hot(txn, (4, 0), |r| r["lease"]["fence"] = json!(9)),
        &["with the fencing number 9, not 1"],
    ),
    (
        "hot.redb",
        |txn| edit_hot(txn, (4, 0), |r| r["attempts"] = json!(8)),
        &["is leased after 8 of", "which cannot be"],
    ),
    (
        "hot.redb",
        |txn| {
            let mut table = txn.open_table(HOT).unwrap();
            let other = table.get((4, 0)).unwrap().unwrap().value().to_vec();
            table.insert((5, 0), other.as_slice()).unwrap();
        },
        &["stands under the number 5", "lease number 4 of task", "is also that of another"],
    ),
    (
        "hot.redb",
        |txn| {
            let mut table = txn.open_table(HOT).unwrap();
            let rows = table.iter().unwrap().map(|row| row.unwrap().0.value());
            let mut keys: Vec<_> = rows.filter(|(_, part)| *part >= JOURNAL).collect();
            // Neither the oldest nor the newest.
            table.remove(keys.remove(1)).unwrap();
        },
        &["does not follow the one before", "are gone", "does not tell everything"],
    ),
    (
        "hot.redb",
        |txn| {
            let mut table = txn.open_table(WORKERS).unwrap();
            let bytes = table.get("w").unwrap().unwrap().value().to_vec();
            table.insert("x", bytes.as_slice()).unwrap();
        },
        &["the record of worker \"x\" is that of \"w\""],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(META).unwrap().insert("settings", b"[".as_slice()).unwrap()),
        &["the record of saved settings cannot be read"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(KEYS).unwrap().remove("k").unwrap()),
        &["the idempotency key of task number 5 leads to no task", "or created twice"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(KEYS_BY_TASK).unwrap().remove(5).unwrap()),
        &["an idempotency key leads to task number 5, which was not created under it"],
    ),
    (
        "hot.redb",
        |txn| drop(txn.open_table(KEYS).unwrap().insert("k", 4).unwrap()),
        &["the idempotency key of task number 5 leads to task number 4"],
    ),
    (
        "hot.redb",
        |txn| {
            txn.open_table(KEYS).unwrap().insert("k", 9).unwrap();
            let mut by_task = txn.open_table(KEYS_BY_TASK).unwrap();
            by_task.remove(5).unwrap();
            by_task.insert(9, (1 << 40, "k")).unwrap();
        },
        &["task number 9 is there, the task never was", "at which it was not created"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(BY_STATUS).unwrap().remove((3, 1)).unwrap()),
        &["is completed but not in the list of them", "the records themselves are whole"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(BY_STATUS).unwrap().insert((4, 99), ()).unwrap()),
        &["task number 99 stands in the list of failed ones but is not there"],
    ),
    (
        "archive.redb",
        |txn| txn.open_table(BY_AGE).unwrap().retain(|_, ()| false).unwrap(),
        &["is not in the list that retention reads"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(LEASES).unwrap().insert((2, 77), 1).unwrap()),
        &["lease number 77 stands in a list as one of task number 1, which has no such lease"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(OUTCOMES).unwrap().remove(1).unwrap()),
        &["outcome 1 of task 00000000-0001-", "is not in the list of artifacts"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(PARTS).unwrap().remove((2, 2)).unwrap()),
        &["the outcome of lease 00000000-0002-", "is missing"],
    ),
    (
        "archive.redb",
        |txn| edit_archived(txn, 1, |r| r["status"] = json!("queued")),
        &["is queued but stands in the archive", "which the outcome"],
    ),
    (
        "archive.redb",
        |txn| drop(txn.open_table(AUDIT).unwrap().remove(2).unwrap()),
        &["5 tasks were created, but the trail tells of 4", "does not tell everything"],
    ),
];

#[test]
fn every_damage_is_named_in_words_with_what_to_do_and_nothing_is_changed() {
    let (dir, data) = used();
    let healthy = examine(&data, &[]);
    assert_eq!(healthy.code, Some(0), "{}{}", healthy.stdout, healthy.stderr);
    for (n, (file, damage, said)) in DAMAGES.into_iter().enumerate() {
        let copy = dir.path().join(format!("copy-{n}"));
        std::fs::create_dir(&copy).unwrap();
        for name in ["hot.redb", "archive.redb"] {
            std::fs::copy(data.join(name), copy.join(name)).unwrap();
        }
        let database = Database::open(copy.join(file)).unwrap();
        let txn = database.begin_write().unwrap();
        damage(&txn);
        txn.commit().unwrap();
        drop(database);
        let before = contents(&copy);
        let ended = examine(&copy, &[]);
        assert_eq!(ended.code, Some(74), "damage {n}: {}{}", ended.stdout, ended.stderr);
        for words in said {
            assert!(ended.stdout.contains(words), "damage {n}: {words:?} in\n{}", ended.stdout);
        }
        assert!(ended.stdout.contains("nothing was changed"), "{}", ended.stdout);
        assert!(!ended.stderr.contains("panicked"), "damage {n}: {}", ended.stderr);
        assert_eq!(contents(&copy), before, "damage {n}");
    }
}

#[test]
fn a_healthy_directory_is_said_to_be_so_with_what_it_holds() {
    let (_dir, data) = used();
    let before = contents(&data);
    for more in [&[][..], &["--deep"]] {
        let ended = examine(&data, more);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        for words in [
            "1 queued, 1 leased, 0 running, 2 completed, 1 failed",
            "in hot.redb 3, in archive.redb 2, of these in both 0",
            "leases: 1 active, 3 ended; outcomes: 3; workers: 1; idempotency keys: 1",
            "healthy: everything holds",
        ] {
            assert!(ended.stdout.contains(words), "{words} in\n{}", ended.stdout);
        }
        assert!(!ended.stdout.contains("note"), "{}", ended.stdout);
    }
    assert_eq!(contents(&data), before);
}

#[test]
fn a_killed_servers_directory_is_healthy_and_stays_unrepaired() {
    let mut server = Server::start();
    server.client().new_task();
    server.kill9();
    let data = server.dir().path().join("data");
    let before = contents(&data);
    let ended = examine(&data, &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("hot.redb was not closed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("1 queued"), "{}", ended.stdout);
    assert_eq!(contents(&data), before, "not a byte is written");
}

#[test]
fn a_directory_in_use_missing_or_apart_is_said_to_be_so() {
    let server = Server::start();
    server.client().new_task();
    let data = server.dir().path().join("data");
    let used = examine(&data, &[]);
    assert_eq!(used.code, Some(74));
    assert!(used.stderr.contains("in use by another bloom-runtime"), "{}", used.stderr);
    server.client().new_task();

    let dir = tempfile::tempdir().unwrap();
    let none = examine(&dir.path().join("none"), &[]);
    assert_eq!(none.code, Some(74));
    assert!(none.stderr.contains("cannot use") && none.stderr.lines().count() == 1);
    assert!(!dir.path().join("none").exists(), "nothing is made");

    std::fs::copy(data.join("archive.redb"), dir.path().join("archive.redb")).unwrap();
    let alone = examine(dir.path(), &[]);
    assert_eq!(alone.code, Some(74));
    assert!(alone.stderr.contains("hot.redb is missing although"), "{}", alone.stderr);
}

#[test]
fn a_hot_file_from_an_older_backup_is_found_out() {
    let (dir, data) = used();
    let older = dir.path().join("older.redb");
    std::fs::copy(data.join("hot.redb"), &older).unwrap();
    // Work goes on and moves to the archive; then somebody restores one file of the two.
    let mut server = Setup::default().start_in(dir.clone());
    let mut client = server.client();
    let task = client.new_task();
    client.lease(&task, "w", 600);
    client.act(&task, "complete", success("lost")).ok(200);
    assert_eq!(server.terminate(), Some(0));
    move_finished(&data);
    std::fs::copy(&older, data.join("hot.redb")).unwrap();
    let ended = examine(&data, &[]);
    assert_eq!(ended.code, Some(74), "{}", ended.stdout);
    assert!(ended.stdout.contains("hot.redb is older than archive.redb"), "{}", ended.stdout);
    assert!(ended.stdout.contains("restore both files from one backup"), "{}", ended.stdout);
}

#[test]
fn a_server_starts_where_power_failed_while_the_first_one_created_its_files() {
    for (name, beside) in [("archive.redb", None), ("hot.redb", Some("archive.redb"))] {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if beside.is_some() {
            drop(Store::open(&data).unwrap());
            std::fs::remove_file(data.join(name)).unwrap();
        }
        // What redb leaves before it writes its mark: its length, or a header without the mark.
        let mut bytes = vec![0; 1_056_768];
        bytes[11..40].fill(7);
        std::fs::write(data.join(name), &bytes).unwrap();
        let mut server = Setup::default().start_in(dir.clone());
        server.client().new_task();
        assert_eq!(server.terminate(), Some(0));
        assert_eq!(examine(&data, &[]).code, Some(0));
    }
}

#[test]
fn a_file_of_zeros_that_is_longer_than_a_new_one_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(Store::open(&data).unwrap());
    let zeros = vec![0; 4 << 20];
    for name in ["hot.redb", "archive.redb"] {
        std::fs::write(data.join(name), &zeros).unwrap();
    }
    let refused = Setup::default().refuse_in(dir.path());
    assert_eq!(refused.code, Some(74), "{}", refused.stderr);
    assert!(refused.stderr.contains("is damaged"), "{}", refused.stderr);
    assert_eq!(std::fs::read(data.join("hot.redb")).unwrap(), zeros);
}
