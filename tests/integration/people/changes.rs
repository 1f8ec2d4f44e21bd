//! Cancelling and requeueing, by id or all that match after a count; draining; what a task page tells.

use super::person::Person;
use crate::harness::{Server, TASKS, id, rows};
use serde_json::json;

#[test]
fn ids_are_changed_one_by_one_and_each_refusal_is_told() {
    let server = Server::start();
    let mut client = server.client();
    let (one, two) = (client.new_task(), client.new_task());
    let person = Person::at(&server);
    let ended = person.run(&["cancel", &one, "nope", &two]);
    assert_eq!(ended.code, Some(65), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("task {one} is cancelled\ntask {two} is cancelled\n"));
    assert!(ended.stderr.contains("task nope: Task not found"), "{}", ended.stderr);
    assert_eq!(person.says(&["requeue", &one]), format!("task {one} is back in the queue\n"));
    assert_eq!(client.task(&one)["status"], "queued");
    let ended = person.run(&["requeue", &one]);
    assert_eq!(ended.code, Some(65));
    assert!(ended.stderr.contains("Cannot requeue task with status 'queued'"), "{}", ended.stderr);
}

/// A server with three tasks of a reviewer and one of a writer.
fn four() -> Server {
    let server = Server::start();
    let mut client = server.client();
    for agent in ["reviewer", "reviewer", "writer", "reviewer"] {
        client.create(json!({"agent_slug": agent}));
    }
    server
}

fn queued(server: &Server) -> usize {
    rows(&server.client().get(&format!("{TASKS}?status=queued"))).len()
}

#[test]
fn many_are_counted_first_and_changed_only_when_somebody_agreed() {
    let server = four();
    let person = Person::at(&server);
    let counted = person.says(&["cancel", "--agent", "reviewer", "--dry-run"]);
    assert_eq!(counted, "3 tasks would be cancelled\n");
    let said = person.fails(64, &["cancel", "--agent", "reviewer"]);
    assert!(said.contains("3 tasks would be cancelled; say --yes"), "{said}");
    assert_eq!(queued(&server), 4);
    let done = person.says(&["cancel", "--agent", "reviewer", "--status", "queued", "--yes"]);
    assert_eq!(done, "3 tasks are cancelled\n");
    assert_eq!(queued(&server), 1);
    let done =
        person.says(&["requeue", "--status", "cancelled", "--status", "dead", "--yes", "--json"]);
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!((done["matched"].as_u64(), done["changed"].as_u64()), (Some(3), Some(3)));
    assert_eq!(queued(&server), 4);
    assert_eq!(person.says(&["cancel", "--context", "none"]), "no task is cancelled\n");
    let task = id(&server.client().create(json!({})));
    assert_eq!(person.says(&["cancel", &task, "--dry-run"]), "1 task would be cancelled\n");
    assert_eq!(queued(&server), 5);
}

#[test]
fn a_person_at_a_terminal_is_asked() {
    let server = four();
    let person = Person::at(&server);
    for (typed, left) in [("\r", 4), ("no\r", 4), ("y\r", 1)] {
        let mut asked = person.start_on_terminal(&["cancel", "--agent", "reviewer"], 80);
        asked.wait_until_shown("Cancel 3 tasks? [y/N] ");
        asked.types(typed);
        let ended = asked.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        assert_eq!(queued(&server), left, "{typed:?}: {}", ended.stdout);
        assert_eq!(ended.stdout.contains("nothing was changed"), left == 4, "{}", ended.stdout);
    }
}

#[test]
fn a_worker_is_drained_and_given_tasks_again() {
    let server = Server::start();
    let mut client = server.client();
    client.register("rpi4b", 2);
    let task = client.new_task();
    client.lease(&task, "rpi4b", 60);
    let person = Person::at(&server);
    assert_eq!(person.says(&["drain", "rpi4b"]), "rpi4b gets no more tasks; it runs 1 task\n");
    let list = person.says(&["workers"]);
    assert!(list.contains("draining") && list.contains("1/2"), "{list}");
    let page = person.says(&["workers", "rpi4b"]);
    assert!(page.contains("draining") && page.contains(&task), "{page}");
    assert_eq!(person.says(&["undrain", "rpi4b"]), "rpi4b gets tasks again; it runs 1 task\n");
    assert!(person.says(&["workers"]).contains("online"));
    let said = person.fails(65, &["drain", "nobody"]);
    assert!(said.contains("Worker not found"), "{said}");
}

#[test]
fn a_task_tells_what_it_waits_for_and_what_was_tried() {
    let server = Server::start();
    let person = Person::at(&server);
    let later = person.says(&["submit", "p", "--not-before", "2h", "--retry", "--label", "gpu"]);
    let later = later.trim_end();
    let page = person.says(&["task", later]);
    assert!(page.contains("Its author asked for a later moment (in 1h)"), "{page}");
    assert!(page.contains("errors are tried again") && page.contains("Not before"), "{page}");

    let mut client = server.client();
    client.register("rpi4b", 1);
    let page = person.says(&["task", later]);
    assert!(page.contains("rpi4b: ") && page.contains("gpu"), "{page}");
    let tried = client.new_task();
    let lease = client.lease(&tried, "rpi4b", 60);
    let body = json!({"lease_id": lease, "code": "usage_limit", "error_message": "limit\x1b[2J",
                      "retry_after_seconds": 600});
    client.act(&tried, "release", body).ok(200);
    let page = person.says(&["task", &tried]);
    assert!(page.contains("released") && page.contains(r"usage_limit: limit\u{1b}[2J"), "{page}");
    let workers = person.says(&["workers"]);
    assert!(workers.contains("cooling 9m"), "{workers}");
    let json: serde_json::Value =
        serde_json::from_str(&person.says(&["task", &tried, "--json"])).unwrap();
    assert_eq!(json["attempt_list"][0]["outcome"], "released");
    assert_eq!(json["waiting"]["waiting"], true);
    assert_eq!(json["result"], serde_json::Value::Null);
}
