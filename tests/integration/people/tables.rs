//! What people see: tables that fit the terminal, plain text on a pipe, the server's JSON on demand.

use super::person::Person;
use crate::harness::{Server, TASKS, WORKERS, column, failure, id, under};
use serde_json::{Value, json};

const HOSTILE: &str = "evil \x1b[2J\x1b]0;title\x07 \u{9b}31m\u{202e}txt\r\n\tשלום 日本語 \0 end";

/// A server with a few of everything, most of it hostile.
fn furnished() -> (Server, String) {
    let server = Server::start();
    let mut client = server.client();
    // It is an argument, too, so there is no NUL in it.
    let worker = HOSTILE.replace('\0', "");
    client.post(WORKERS, json!({"name": worker, "capabilities": {"labels": [HOSTILE, "gpu"]}}));
    let long = format!("{HOSTILE}{}", " tomato".repeat(100_000));
    let task =
        id(&client.create(json!({"prompt": long, "agent_slug": HOSTILE, "context_id": HOSTILE})));
    let body = json!({"worker_id": worker, "ttl_seconds": 60});
    let lease = id(&client.act(&task, "lease", body).ok(201)["lease"]);
    let mut failed = failure(HOSTILE);
    failed["output"] = long.into();
    client.act(&task, "complete", under(&lease, failed)).ok(200);
    client.create(json!({"agent_slug": "reviewer", "prompt": "日".repeat(500)}));
    (server, task)
}

/// Every line that a terminal is shown, without the colours that are ours.
fn bare(seen: &str) -> Vec<String> {
    let mut bare = seen.to_owned();
    for code in ["0", "1", "2", "31", "32", "36"] {
        bare = bare.replace(&format!("\x1b[{code}m"), "");
    }
    bare.lines().map(str::to_owned).collect()
}

fn width(line: &str) -> usize {
    line.chars().map(|c| if ('\u{2e80}'..'\u{ffff}').contains(&c) { 2 } else { 1 }).sum()
}

#[test]
fn no_text_of_others_steers_a_terminal_and_tables_fit_it() {
    let (server, task) = furnished();
    let person = Person::at(&server).with("TERM", "xterm");
    let commands: [(&[&str], bool); 7] = [
        (&["tasks"], true),
        (&["workers"], true),
        (&["audit"], true),
        (&["stats"], true),
        (&["workers", &HOSTILE.replace('\0', "")], true),
        (&["task", &task], false),
        (&["tasks", "--json"], false),
    ];
    for (args, fits) in commands {
        for columns in [200, 80, 40] {
            for line in bare(&person.sees(args, columns)) {
                assert!(!line.contains(char::is_control), "{args:?}: {line:?}");
                assert!(!line.contains('\u{202e}'), "{args:?}: {line:?}");
                assert!(!fits || width(&line) <= columns.into(), "{args:?} on {columns}: {line:?}");
            }
        }
    }
    let seen = person.sees(&["task", &task], 80);
    assert!(seen.contains("שלום"), "letters from right to left are letters: {seen}");
    assert!(seen.contains("more characters") && seen.len() < 20_000, "{} bytes", seen.len());
}

#[test]
fn a_pipe_gets_aligned_text_without_tabs_and_escapes() {
    let (server, task) = furnished();
    let person = Person::at(&server).with("TERM", "xterm");
    for args in [&["tasks"][..], &["workers"], &["audit"], &["stats"], &["task", &task]] {
        let text = person.says(args);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{args:?}: {text:?}");
    }
    let text = person.says(&["tasks"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("ID "), "{text}");
    assert!(lines[2].starts_with(&task) && lines[2].contains(" failed "), "{text}");
    assert_eq!(lines[0].find("STATUS"), lines[2].find("failed"), "{text}");
}

#[test]
fn colour_is_for_terminals_and_for_who_wants_it() {
    let (server, _) = furnished();
    let person = Person::at(&server);
    let red = "\x1b[31mfailed\x1b[0m";
    let terminal = person.clone().with("TERM", "xterm");
    assert!(terminal.sees(&["tasks"], 120).contains(red));
    assert!(!terminal.clone().with("NO_COLOR", "1").sees(&["tasks"], 120).contains('\x1b'));
    assert!(!person.clone().with("TERM", "dumb").sees(&["tasks"], 120).contains('\x1b'));
    assert!(!terminal.says(&["tasks"]).contains('\x1b'));
}

#[test]
fn json_is_what_the_server_said() {
    let (server, task) = furnished();
    let (person, mut client) = (Person::at(&server), server.client());
    let mut same = |args: &[&str], path: &str| {
        let asked = client.get(path).text();
        assert_eq!(person.says(args), format!("{asked}\n"), "{args:?}");
    };
    same(&["tasks", "--json"], &format!("{TASKS}?limit=20"));
    same(&["tasks", "--json", "--status", "failed"], &format!("{TASKS}?status=failed"));
    same(
        &["tasks", "--json", "--status", "failed", "--status", "dead"],
        &format!("{TASKS}?status=failed"),
    );
    same(&["tasks", "--json", "--agent", "reviewer"], &format!("{TASKS}?status=queued"));
    same(&["workers", "--json"], WORKERS);
    same(&["stats", "--json"], "/api/runtime/stats");
    same(&["audit", "--json"], "/api/runtime/audit?limit=20");
    let all: Value = serde_json::from_str(&person.says(&["task", &task, "--json"])).unwrap();
    assert_eq!(all["status"], "failed");
    assert_eq!(all["result"], client.get(&format!("{TASKS}/{task}/result")).json());
    assert_eq!(all["waiting"], Value::Null);
}

#[test]
fn a_list_goes_on_over_pages_until_enough_match() {
    let server = Server::start();
    let mut client = server.client();
    let mut wanted = Vec::new();
    for n in 0..1_200 {
        let agent = if n % 400 == 0 { "rare" } else { "usual" };
        let task = client.create(json!({"agent_slug": agent, "context_id": format!("c{n}")}));
        if agent == "rare" {
            wanted.push(id(&task));
        }
    }
    wanted.reverse();
    let person = Person::at(&server);
    let ids = |args: &[&str]| {
        let json = person.says(args);
        column(&serde_json::from_str::<Vec<Value>>(&json).unwrap(), "id")
    };
    assert_eq!(ids(&["tasks", "--json", "--agent", "rare"]), wanted);
    assert_eq!(ids(&["tasks", "--json", "--agent", "rare", "--limit", "2"]), wanted[..2]);
    assert_eq!(ids(&["tasks", "--json", "--context", "c0"]), wanted[2..]);
    assert_eq!(ids(&["tasks", "--json", "--text", "RARE"]), wanted);
    assert_eq!(ids(&["tasks", "--json", "--worker", "a b&c", "--text", "%"]), [""; 0]);
    assert_eq!(ids(&["tasks", "--json", "--limit", "1100"]).len(), 1_100);
    assert_eq!(ids(&["audit", "--json", "--limit", "1100"]).len(), 1_100);
    let seen = person.sees(&["tasks"], 100);
    assert!(seen.contains("there are more"), "{seen}");
}

#[test]
fn an_empty_list_says_so_and_where_to_begin() {
    let server = Server::start();
    let person = Person::at(&server);
    let ended = person.run(&["tasks"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains("no task matches"), "{}", ended.stderr);
    assert!(person.run(&["workers"]).stderr.contains("bloom-runtime worker --server"));
    assert_eq!(person.says(&["tasks", "--json"]), "[]\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let (server, _) = furnished();
    let ended = Person::at(&server).run_without_reader(&["audit"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
