//! What the overview and the activity show: figures of the last hour, filters of the audit trail.

use crate::harness::{Server, TASKS, WORKERS, id, success};
use crate::http::Client;
use serde_json::{Value, json};

const STATS: &str = "/api/runtime/stats";

fn create(client: &mut Client, prompt: &str) -> Value {
    client.post(TASKS, json!({"context_id": "c", "agent_slug": "a", "prompt": prompt})).ok(201)
}

fn sum(counts: &Value) -> u64 {
    let counts = counts.as_array().unwrap();
    assert_eq!(counts.len(), 60);
    counts.iter().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn the_statistics_tell_the_age_of_the_queue_the_last_hour_and_who_rests() {
    let server = Server::start();
    let mut client = server.client();
    let idle = client.get(STATS).ok(200);
    assert_eq!(idle["oldest_queued_at"], Value::Null);
    assert_eq!((sum(&idle["last_hour"]["completed"]), sum(&idle["last_hour"]["failed"])), (0, 0));
    assert_eq!(idle["last_hour"]["minute"].as_i64().unwrap() % 60_000, 0);
    client.post(WORKERS, json!({"name": "w", "capabilities": {"max_concurrency": 4}})).ok(201);
    client.post(WORKERS, json!({"name": "v"})).ok(201);
    let tasks: Vec<_> = (0..4).map(|n| create(&mut client, &format!("{n}"))).collect();
    for (n, task) in tasks[..3].iter().enumerate() {
        let path = format!("{TASKS}/{}", id(task));
        client.post(&format!("{path}/lease"), json!({"worker_id": "w"})).ok(201);
        let body = match n {
            0 => json!({"status": "error", "error_message": "no", "metrics": {"duration_ms": 1}}),
            _ => success("x"),
        };
        client.post(&format!("{path}/complete"), body).ok(200);
    }
    client.post_nothing("/api/runtime/workers/v/drain").ok(200);
    let stats = client.get(STATS).ok(200);
    assert_eq!(stats["oldest_queued_at"], tasks[3]["created_at"]);
    let hour = &stats["last_hour"];
    assert_eq!((sum(&hour["completed"]), sum(&hour["failed"])), (2, 1), "{stats}");
    let workers = json!({"total": 2, "online": 2, "cooling": 0, "draining": 1});
    assert_eq!(stats["workers"], workers);
}

#[test]
fn the_audit_trail_is_filtered_by_what_it_is_about_what_was_done_by_whom_and_by_text() {
    let server = Server::start();
    let mut client = server.client();
    client.post(WORKERS, json!({"name": "Rpi4b"})).ok(201);
    let tasks: Vec<_> = (0..5).map(|n| create(&mut client, &format!("{n}"))).collect();
    let task = id(&tasks[1]).to_owned();
    client.post_nothing(&format!("{TASKS}/{task}/cancel")).ok(200);
    let mut listed = |query: &str| {
        let rows = client.get(&format!("/api/runtime/audit?{query}")).ok(200);
        let rows = rows.as_array().unwrap().clone();
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&format!("entity_id={task}")), ["task_cancelled", "task_created"]);
    assert_eq!(listed(&format!("entity_id={task}&action=task_created")), ["task_created"]);
    assert_eq!(listed("action=task_created").len(), 5);
    assert_eq!(listed("q=rPI4"), ["worker_registered"]);
    assert_eq!(listed("actor=admin"), ["task_cancelled"]);
    assert_eq!(listed("actor=nobody"), [""; 0]);
    assert_eq!(listed("action=&entity_id=").len(), 7, "what is empty is no filter");

    let mut path = "/api/runtime/audit?action=task_created&limit=2".to_owned();
    let mut found = 0;
    for _ in 0..4 {
        let page = client.get(&path);
        found += page.ok(200).as_array().unwrap().len();
        let Some(link) = page.header("link") else { break };
        assert!(link.contains("action=task_created"), "{link}");
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(found, 5);
}
