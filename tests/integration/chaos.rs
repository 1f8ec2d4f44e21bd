//! Many tasks on many real workers while workers and the server are killed at random (P1, P5, P7, P10).
//!
//! What is killed follows from a seed, which is printed; when it is, from how many tasks have ended. Must
//! stay true: every task has ended once, with the one result that is its own, or is dead or failed with a
//! reason; no process is left behind; our keys are in no child's environment and in no log. A short form
//! runs with the other tests; `sh tests/proofs.sh chaos` is the full one. `BLOOM_CHAOS_TASKS`,
//! `BLOOM_CHAOS_WORKERS` and `BLOOM_CHAOS_SEED` say otherwise.

mod machine;

use crate::concurrency::{every_row, stats_add_up};
use crate::harness::{Server, Setup, TASKS, WORKERS, eventually, id, run};
use crate::http::Client;
use machine::Machine;
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KEY: &str = "key-of-the-fleet-0451";
const ANOTHER_SECRET: &str = "key-of-the-bridge-0451";
/// When nothing has ended for so long, the next blow falls without waiting.
const STALL: Duration = Duration::from_secs(3);
/// Nothing here takes that long on a machine that works at all.
const PATIENCE: Duration = Duration::from_secs(600);

fn chosen(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")))
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What befalls the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    KillWorker,
    StopWorker,
    /// It comes to again, perhaps after its leases have ended.
    FreezeWorker,
    KillServer,
}

/// A task as it was asked for.
struct Asked {
    id: String,
    /// Stands in the answer to this task and to no other.
    words: String,
    /// The codes with which it may fail.
    fails_with: &'static [&'static str],
}

/// Task `n`, of all kinds in turn.
fn ask(client: &mut Client, n: u64) -> Asked {
    let words = format!("Number {n} of many.");
    let (order, fails_with): (&str, &'static [&'static str]) = match n % 20 {
        1 | 5 | 9 | 13 => ("SLEEP 1", &[]),
        2 => ("SPAWN", &[]),
        3 => ("ESCAPE", &[]),
        4 => ("QUOTA", &[]),
        6 => ("EXIT 3", &["claude_error", "unparsable_output"]),
        7 => ("DIE", &["killed"]),
        8 => ("REFUSED 400", &["bad_prompt"]),
        10 => ("STUBBORN SLEEP 2", &[]),
        _ => ("", &[]),
    };
    let retry = json!({"on_error": true, "backoff_seconds": 1, "max_backoff_seconds": 1});
    let attempts = if fails_with.is_empty() { 10 } else { 3 };
    let created = client.create(json!({
        "prompt": format!("{words} {order}"), "max_attempts": attempts, "priority": n % 3,
        "context_id": format!("context-{}", n % 7), "policy": {"retry": retry},
    }));
    Asked { id: id(&created), words, fails_with }
}

/// The server, the machines, and what the server has said before it was killed.
struct Fleet {
    server: Server,
    machines: Vec<Machine>,
    said: String,
    dice: Dice,
}

impl Fleet {
    fn client(&self) -> Client {
        self.server.client().with_key(KEY)
    }

    fn strike(&mut self, blow: Blow) {
        let (url, mut client) = (self.server.url(), self.client());
        for machine in &mut self.machines {
            // A person who knows better ends the rest after a usage limit, which is a minute at least.
            client.post_nothing(&format!("{WORKERS}/{}/undrain", machine.name));
            machine.down_for = machine.down_for.saturating_sub(1);
            if machine.down_for == 0 {
                machine.signal(Signal::CONT);
                machine.start_if_down(&url);
            }
        }
        let one = self.dice.below(self.machines.len() as u64) as usize;
        let down_for = 1 + self.dice.below(3);
        let machine = &mut self.machines[one];
        match blow {
            Blow::KillServer => {
                self.server.kill9();
                self.said += &self.server.said();
                self.server.restart_on_same_port();
            }
            Blow::KillWorker => {
                machine.signal(Signal::KILL);
                machine.wait();
                machine.down_for = down_for;
            }
            Blow::StopWorker => {
                machine.signal(Signal::TERM);
                machine.down_for = down_for;
            }
            Blow::FreezeWorker => {
                machine.signal(Signal::STOP);
                machine.down_for = down_for;
            }
        }
    }

    /// How many tasks will not change any more.
    fn ended(&self) -> u64 {
        let stats = self.client().get("/api/runtime/stats").ok(200);
        let count = |status: &&str| stats["tasks"]["by_status"][*status].as_u64().unwrap_or(0);
        ["completed", "failed", "dead", "cancelled"].iter().map(count).sum()
    }

    /// Waits until so many tasks have ended, or nothing ends any more.
    fn wait_for(&self, enough: u64, deadline: Instant) -> u64 {
        let (mut seen, mut since) = (self.ended(), Instant::now());
        while seen < enough && since.elapsed() < STALL {
            assert!(Instant::now() < deadline, "only {seen} of {enough} tasks have ended");
            std::thread::sleep(Duration::from_millis(20));
            let now = self.ended();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        seen
    }
}

/// Blows in an order that the dice say, about a fifth as many as tasks.
fn blows(dice: &mut Dice, tasks: u64) -> Vec<Blow> {
    let kinds = [
        (Blow::KillWorker, 10),
        (Blow::StopWorker, 20),
        (Blow::FreezeWorker, 20),
        (Blow::KillServer, 30),
    ];
    let many = |(blow, every): (Blow, u64)| vec![blow; (tasks / every).max(2) as usize];
    let mut blows: Vec<Blow> = kinds.into_iter().flat_map(many).collect();
    for place in (1..blows.len()).rev() {
        blows.swap(place, dice.below(place as u64 + 1) as usize);
    }
    blows
}

#[test]
fn every_task_ends_once_whatever_is_killed_and_nothing_is_left_behind_p1_p5_p7_p10() {
    let seed = chosen("BLOOM_CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one("chaos"));
    let tasks = chosen("BLOOM_CHAOS_TASKS").unwrap_or(60);
    let workers = chosen("BLOOM_CHAOS_WORKERS").unwrap_or(4);
    println!("chaos: {tasks} tasks on {workers} workers, BLOOM_CHAOS_SEED={seed}");
    let began = Instant::now();
    let server = Setup::default().env("RUNTIME_API_KEY", KEY).start();
    let machines = (0..workers).map(Machine::new).collect();
    let mut fleet = Fleet { server, machines, said: String::new(), dice: Dice(seed) };
    let mut client = fleet.client();
    let asked: Vec<Asked> = (0..tasks).map(|n| ask(&mut client, n)).collect();
    let url = fleet.server.url();
    fleet.machines.iter_mut().for_each(|machine| machine.start(&url));

    let (blows, deadline) = (blows(&mut fleet.dice, tasks), began + PATIENCE);
    let all = blows.len() as u64;
    for (n, blow) in (1..).zip(&blows) {
        fleet.wait_for(n * tasks / (all + 1), deadline);
        fleet.strike(*blow);
    }
    while fleet.wait_for(tasks, deadline) < tasks {
        // Whoever is down comes back now.
        fleet.machines.iter_mut().for_each(|machine| machine.down_for = 0);
        fleet.strike(Blow::StopWorker);
    }

    let counts = check_tasks(&mut fleet.client(), &asked);
    stats_add_up(&mut fleet.client());
    for machine in &mut fleet.machines {
        machine.wait_for_a_clean_end(&url);
    }
    check_that_nothing_is_left(&fleet.machines);
    assert_eq!(fleet.server.terminate(), Some(0));
    fleet.said += &fleet.server.said();
    check_secrets(&fleet);
    let data = fleet.server.dir().path().join("data");
    let examined = run(&["doctor", "--data-dir", &data.to_string_lossy()], &[]);
    assert_eq!(examined.code, Some(0), "{}{}", examined.stdout, examined.stderr);
    let by = |kind| blows.iter().filter(|blow| **blow == kind).count();
    println!(
        "chaos: {} workers killed, {} stopped, {} frozen, {} servers killed; {counts:?}; took {} s",
        by(Blow::KillWorker),
        by(Blow::StopWorker),
        by(Blow::FreezeWorker),
        by(Blow::KillServer),
        began.elapsed().as_secs()
    );
}

/// Each has ended once; how many in which way.
fn check_tasks(client: &mut Client, asked: &[Asked]) -> BTreeMap<String, usize> {
    let mut completions: BTreeMap<String, usize> = BTreeMap::new();
    for entry in every_row(client, "/api/runtime/audit") {
        if entry["action"] == "task_completed" {
            *completions.entry(entry["entity_id"].to_string()).or_default() += 1;
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for Asked { id, words, fails_with } in asked {
        let task = client.task(id);
        let attempts = client.get(&format!("{TASKS}/{id}/attempts")).ok(200);
        let attempts = attempts.as_array().expect("an array");
        let with = |outcome: &str| attempts.iter().filter(|a| a["outcome"] == outcome).count();
        let story = format!("{task}\n{attempts:?}");
        let (succeeded, failed) = (with("success"), with("error"));
        let last = attempts.last().unwrap_or_else(|| panic!("never tried: {story}"));
        assert_eq!(attempts.iter().filter(|a| a["outcome"].is_null()).count(), 0, "{story}");
        let told = completions.get(&task["id"].to_string()).copied().unwrap_or(0);
        assert_eq!(told, succeeded + failed, "P6, P7: {story}");
        match task["status"].as_str().expect("a status") {
            "completed" => {
                assert_eq!((succeeded, &last["outcome"]), (1, &json!("success")), "P7: {story}");
                assert!(fails_with.is_empty(), "it cannot succeed: {story}");
                let result = client.get(&format!("{TASKS}/{id}/result")).ok(200);
                let output = result["output"].as_str().expect("a text");
                assert!(output.starts_with(words.as_str()), "another task's answer: {result}");
            }
            "failed" => {
                assert_eq!((succeeded, &last["outcome"]), (0, &json!("error")), "P7: {story}");
                let code = last["code"].as_str().unwrap_or("none");
                assert!(fails_with.contains(&code), "failed without reason, {code}: {story}");
            }
            "dead" => {
                assert_eq!((succeeded, &last["outcome"]), (0, &json!("expired")), "{story}");
                assert_eq!(task["attempts"], task["max_attempts"], "{story}");
            }
            other => panic!("{other}: {story}"),
        }
        *counts.entry(task["status"].as_str().expect("a status").into()).or_default() += 1;
        for attempt in attempts {
            let outcome = attempt["outcome"].as_str().unwrap_or_default();
            *counts.entry(format!("attempts {outcome}")).or_default() += 1;
        }
    }
    counts
}

/// No process that a worker of this fleet has started, and no scratch folder.
fn check_that_nothing_is_left(machines: &[Machine]) {
    for machine in machines {
        let marks: Vec<String> =
            machine.pids.iter().map(|pid| format!("BLOOM_RUN=bloom-run-{pid}-")).collect();
        let left = || -> Vec<PathBuf> {
            let processes = std::fs::read_dir("/proc").expect("linux").flatten();
            let is_marked = |path: &PathBuf| {
                let environment = std::fs::read(path.join("environ")).unwrap_or_default();
                let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                variables.into_iter().any(|it| marks.iter().any(|mark| it.starts_with(mark)))
            };
            processes.map(|process| process.path()).filter(is_marked).collect()
        };
        // What was killed just now may still be on its way out.
        eventually("every process has ended", || left().is_empty().then_some(()));
        let folders = std::fs::read_dir(machine.home.path()).expect("its home").flatten();
        let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
        let scratch: Vec<String> = names.filter(|name| name.starts_with("bloom-run-")).collect();
        assert_eq!(scratch, [""; 0], "{} left its folders", machine.name);
    }
}

/// P10: our keys are where they belong and nowhere else.
fn check_secrets(fleet: &Fleet) {
    let without_secrets = |what: &str, text: &str| {
        let line = text.lines().find(|line| line.contains(KEY) || line.contains(ANOTHER_SECRET));
        assert_eq!(line, None, "P10: {what}");
    };
    without_secrets("the server's log", &fleet.said);
    for machine in &fleet.machines {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        without_secrets("a worker's log", &read(&machine.path("worker.log")));
        let environments = read(&machine.path("environments"));
        assert!(environments.contains("BLOOM_RUN="), "{} did nothing", machine.name);
        without_secrets("a child's environment", &environments);
    }
}
