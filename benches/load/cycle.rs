//! What is asked of the server for one task, one request after the other.

use crate::wire::{Connection, lease_id, record_id};

#[derive(Clone, Copy, PartialEq)]
pub enum Cycle {
    /// create, lease, heartbeat, complete
    Four,
    /// create, lease, complete: the cycle of the prototype's figures
    Three,
    /// The task stays queued.
    Create,
    Get,
    List,
    Stats,
    /// An answer that touches no store: what HTTP alone costs.
    Health,
}

/// About as long as a short prompt and its answer.
const PROMPT: &str = "Write two sentences about a garden in November, one of them about frost. \
    Keep to plain words and end with the colour of the sky.";

/// The worker that the nth connection leases for.
pub fn worker(n: usize) -> String {
    format!("load-{n}")
}

impl Cycle {
    /// Runs it once; `n` names its context or chooses one of the `known` tasks.
    pub async fn run(self, connection: &mut Connection, worker: &str, n: usize, known: &[String]) {
        match self {
            Cycle::Get => {
                let task = &known[n % known.len()];
                connection.get(format_args!("/api/runtime/llm-tasks/{task}"));
            }
            Cycle::List => connection.get(format_args!("/api/runtime/llm-tasks?limit=50")),
            Cycle::Stats => connection.get(format_args!("/api/runtime/stats")),
            Cycle::Health => connection.get(format_args!("/api/runtime/health")),
            Cycle::Create | Cycle::Three | Cycle::Four => {
                return self.run_task(connection, worker, n).await;
            }
        }
        connection.exchange().await;
    }

    async fn run_task(self, connection: &mut Connection, worker: &str, n: usize) {
        connection.post(
            format_args!("/api/runtime/llm-tasks"),
            format_args!(
                "{{\"context_id\":\"ctx-{n}\",\"agent_slug\":\"writer\",\"prompt\":\"{PROMPT}\"}}"
            ),
        );
        let created = connection.exchange().await;
        if self == Cycle::Create {
            return;
        }
        let task = record_id(created);
        connection.post(
            format_args!("/api/runtime/llm-tasks/{task}/lease"),
            format_args!("{{\"worker_id\":\"{worker}\",\"ttl_seconds\":600}}"),
        );
        let lease = lease_id(connection.exchange().await);
        if self == Cycle::Four {
            connection.post(
                format_args!("/api/runtime/llm-tasks/{task}/heartbeat"),
                format_args!("{{\"lease_id\":\"{lease}\"}}"),
            );
            connection.exchange().await;
        }
        connection.post(
            format_args!("/api/runtime/llm-tasks/{task}/complete"),
            format_args!(
                "{{\"lease_id\":\"{lease}\",\"status\":\"success\",\"output\":\"{PROMPT}\",\
                 \"metrics\":{{\"duration_ms\":12}}}}"
            ),
        );
        connection.exchange().await;
    }
}
