//! The real program on disks that fill up or fail: small filesystems of its own, really full.
//!
//! What must stay true: what was answered stays, what was refused is not there, reads go on, and it heals
//! by itself where it can. Not here: each operation failing in turn (`tests/proofs/faults`).

use crate::harness::{Server, Setup, TASKS, eventually, id, rows, run, success, under};
use crate::http::{Answer, Client};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Takes all the space that is left in a folder.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut file = File::create(&path).expect("there is space yet");
    let mut piece = vec![1u8; 1 << 16];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    path
}

fn create(client: &mut Client, prompt: &str) -> Answer {
    client.post(TASKS, json!({"context_id": "c", "agent_slug": "a", "prompt": prompt}))
}

/// Creates tasks until the disk is full; the ids that were answered.
fn create_until_refused(client: &mut Client) -> BTreeSet<String> {
    let prompt = "x".repeat(100_000);
    let mut answered = BTreeSet::new();
    for _ in 0..500 {
        let answer = create(client, &prompt);
        if answer.status == 201 {
            answered.insert(id(&answer.json()));
            continue;
        }
        answer.refused_somehow(507);
        assert_eq!(answer.json()["code"], "disk_full");
        assert!(answer.header("retry-after").is_some(), "{answer}");
        return answered;
    }
    panic!("50 MB fit on a disk of a few");
}

fn all(client: &mut Client) -> BTreeSet<String> {
    rows(&client.get(&format!("{TASKS}?limit=1000"))).iter().map(id).collect()
}

fn storage_state(client: &mut Client) -> Value {
    client.get("/api/runtime/health").ok(200)["storage_state"].clone()
}

#[track_caller]
fn goes_on(client: &mut Client) -> String {
    eventually("a write that succeeds", || {
        let answer = create(client, "after");
        (answer.status == 201).then(|| id(&answer.json()))
    })
}

#[test]
fn a_full_disk_refuses_writes_in_words_reads_go_on_and_freed_space_heals_it() {
    let server = Setup::default().small_disk(8).start();
    let mut client = server.client();
    assert_eq!(storage_state(&mut client), "ok");
    client.register("w", 4);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    client.act(&task, "heartbeat", json!({"lease_id": lease})).ok(200);

    let ballast = fill(&server.data_as_it_sees_it());
    let mut answered = create_until_refused(&mut client);
    answered.insert(task.clone());
    assert_eq!(storage_state(&mut client), "disk_full");
    assert_eq!(all(&mut client), answered, "what was answered, and nothing else");
    client.act(&task, "heartbeat", json!({"lease_id": lease})).ok(200);
    let done = client.act(&task, "complete", under(&lease, success(&"y".repeat(50_000))));
    done.refused_somehow(507);
    assert_eq!(client.task(&task)["status"], "running", "nothing of it is half there");

    std::fs::remove_file(ballast).expect("ours");
    answered.insert(goes_on(&mut client));
    client.act(&task, "complete", under(&lease, success("done"))).ok(200);
    assert_eq!(storage_state(&mut client), "ok");
    assert_eq!(all(&mut client), answered);
    let said = server.said();
    let count = |text: &str| said.matches(text).count();
    assert_eq!(count("writes are refused for now"), 1, "once, not once a try:\n{said}");
    assert_eq!(count("writes go on"), 1, "{said}");
}

#[test]
fn on_a_full_disk_people_sign_in_to_look_and_a_session_that_was_ended_has_ended_for_good() {
    let setup = Setup::default().env("RUNTIME_API_KEY", "the-key-0001").small_disk(8);
    let server = setup.start();
    let mut client = server.client().with_key("the-key-0001");
    let ballast = fill(&server.data_as_it_sees_it());
    create_until_refused(&mut client);
    let answer = server.client().post("/api/session", json!({"key": "the-key-0001"}));
    answer.ok(200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut page = server.client();
    page.headers.push(("Cookie".into(), cookie));
    page.get("/api/runtime/stats").ok(200);
    let sign_out = |page: &mut Client| {
        page.send("DELETE", "/api/session", &[("Sec-Fetch-Site", "same-origin")], None)
    };
    assert_eq!(sign_out(&mut page).refused_somehow(507), "disk_full");
    page.get("/api/runtime/stats").refused(401, "Unauthorized");
    std::fs::remove_file(ballast).expect("ours");
    goes_on(&mut client);
    sign_out(&mut page).ok(200);
    let audit = client.get("/api/runtime/audit?action=signed_out").ok(200);
    assert_eq!(audit.as_array().unwrap().len(), 1, "asked again, it reaches the disk");
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let full = File::options().write(true).open("/dev/full").expect("Linux has one");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let setup = Setup::default().port(address.port());
    let mut child = setup.command(dir.path()).stderr(full).spawn().expect("the program starts");
    let mut client = Client::new(address);
    eventually("its first answer", || {
        client.try_send("GET", "/api/runtime/health", &[], None).ok()
    });
    let tasks: BTreeSet<_> = (0..50).map(|_| client.new_task()).collect();
    assert_eq!(all(&mut client), tasks);
    assert!(child.try_wait().expect("ours").is_none(), "it still runs");
    child.kill().expect("ours");
    child.wait().expect("ours");
}

/// An ext4 filesystem in a file, mounted; unmounted when dropped.
struct Ext4 {
    dir: Arc<tempfile::TempDir>,
}

impl Ext4 {
    fn new(mib: u32) -> Ext4 {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let disk = Ext4 { dir };
        let script = "dd if=/dev/zero of=image bs=1M count=$0 status=none && mkfs.ext4 -q image && \\
            mkdir data && mount -o loop,errors=remount-ro image data";
        disk.shell(script, &mib.to_string());
        disk
    }

    #[track_caller]
    fn shell(&self, script: &str, argument: &str) -> String {
        let mut command = Command::new("sh");
        command.current_dir(self.dir.path()).args(["-euc", script, argument]);
        let output = command.output().expect("a shell");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the kernel does after an error on the medium.
    fn becomes_read_only(&self) {
        let script = "name=$(basename \"$(findmnt -no SOURCE data)\"); \\
            echo test > /sys/fs/ext4/$name/trigger_fs_error";
        self.shell(script, "");
        let options = self.shell("findmnt -no FS-OPTIONS data", "");
        let is_read_only = |option| option == "ro" || option == "emergency_ro";
        assert!(options.split([',', '\n']).any(is_read_only), "{options}");
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.data()).status().ok();
    }
}

#[test]
#[ignore = "mounts filesystems, which needs root and loop devices; tests/run.sh runs it there"]
fn a_full_ext4_survives_kill_and_restart_while_it_is_full() {
    let disk = Ext4::new(16);
    let mut server = Setup::default().start_in(disk.dir.clone());
    let mut client = server.client();
    client.register("w", 4);
    let ballast = fill(&disk.data());
    let mut answered = create_until_refused(&mut client);
    server.kill9();
    server.restart();
    let mut client = server.client();
    assert_eq!(all(&mut client), answered, "after kill -9 on a full disk");
    let refused = create(&mut client, &"x".repeat(1 << 20));
    refused.refused_somehow(507);
    std::fs::remove_file(ballast).expect("ours");
    answered.insert(goes_on(&mut client));
    server.kill9();
    server.restart();
    assert_eq!(all(&mut server.client()), answered);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
#[ignore = "mounts filesystems, which needs root and loop devices; tests/run.sh runs it there"]
fn a_disk_that_the_kernel_made_read_only_is_read_on_and_a_start_on_it_says_so() {
    let disk = Ext4::new(32);
    let mut server: Server = Setup::default().start_in(disk.dir.clone());
    let mut client = server.client();
    client.register("w", 4);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    client.act(&task, "heartbeat", json!({"lease_id": lease})).ok(200);
    disk.becomes_read_only();
    let refused = create(&mut client, "too late");
    refused.refused_somehow(503);
    for _ in 0..5 {
        let refused = create(&mut client, "too late");
        refused.refused_somehow(503);
        assert_eq!(refused.json()["code"], "disk_read_only");
    }
    assert_eq!(storage_state(&mut client), "disk_read_only");
    assert_eq!(all(&mut client), BTreeSet::from([task.clone()]));
    client.act(&task, "heartbeat", json!({"lease_id": lease})).ok(200);
    assert_eq!(server.terminate(), Some(0), "{}", server.said());
    let data = disk.data().display().to_string();
    let ended = run(&["serve", "--port", "0", "--env-file", "/dev/null", "--data-dir", &data], &[]);
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
    assert!(ended.stderr.contains("Read-only file system"), "{}", ended.stderr);
}
