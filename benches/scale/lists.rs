//! Every list and count that the API has, with each filter, at its head and deep in the past.

use crate::figures::Latencies;
use crate::wire::Connection;
use std::net::SocketAddr;

/// What is asked for again and again: its name in the table and its path.
pub struct Page {
    pub name: String,
    pub path: String,
}

/// The pages, for a store whose newest task has about this sequence.
pub fn pages(tasks: u64, rows: usize) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut page = |name: String, path: String| {
        pages.push(Page { name, path: format!("/api/runtime/{path}") });
    };
    let deep = tasks / 2;
    let statuses = ["", "queued", "leased", "running", "completed", "failed", "dead", "cancelled"];
    for status in statuses {
        let name = if status.is_empty() { "tasks".into() } else { format!("tasks {status}") };
        let path = format!("llm-tasks?status={status}&limit={rows}");
        page(format!("{name}, deep"), format!("{path}&cursor={deep:x}"));
        page(name, path);
    }
    for status in ["", "active", "expired", "released"] {
        let name = if status.is_empty() { "leases".into() } else { format!("leases {status}") };
        let path = format!("leases?status={status}&limit={rows}");
        page(format!("{name}, deep"), format!("{path}&cursor={deep:x}"));
        page(name, path);
    }
    for list in ["artifacts", "audit"] {
        page(list.into(), format!("{list}?limit={rows}"));
        page(format!("{list}, deep"), format!("{list}?limit={rows}&cursor={deep:x}"));
    }
    page("runs".into(), format!("runs?limit={rows}"));
    page("workers".into(), format!("workers?limit={rows}"));
    pages
}

/// How long each of `rounds` requests took, and how large the answer was.
pub async fn measure(server: SocketAddr, path: &str, rounds: usize) -> (Latencies, usize) {
    let mut connection = Connection::new(server).await;
    let mut bytes = 0;
    // The first ones fill the caches.
    for _ in 0..3 {
        connection.get(format_args!("{path}"));
        bytes = connection.exchange().await.len();
    }
    connection.times = Latencies::default();
    for _ in 0..rounds {
        connection.get(format_args!("{path}"));
        connection.exchange().await;
    }
    (connection.times, bytes)
}
