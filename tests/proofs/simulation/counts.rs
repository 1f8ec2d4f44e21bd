//! What a run has seen, to be printed, and to show that it saw everything that there is.

use super::model::Model;
use std::collections::BTreeSet;

/// Every kind of change, and every refusal but those that need a crowd (`limits`).
const ALL_KINDS: [&str; 39] = [
    "task_created",
    "task_leased",
    "task_running",
    "task_completed",
    "task_requeued",
    "task_cancelled",
    "lease_expired",
    "task_released",
    "worker_cooling: usage_limit",
    "worker_cooling: not_logged_in",
    "worker_cooling: provider_",
    "worker_ready",
    "worker_drained",
    "worker_undrained",
    "worker_registered",
    "worker_updated",
    "worker_removed",
    "worker_offline",
    "worker_online",
    "config_updated",
    "TaskNotFound",
    "WorkerNotFound",
    "LeaseLost",
    "NoLease",
    "LeaseEnded",
    "TaskCancelled",
    "NotQueued",
    "NotLeased",
    "CannotRequeue",
    "CannotCancel",
    "InvalidFields",
    "NoWorker(NotOnline)",
    "NoWorker(LabelMissing)",
    "NoWorker(AtCapacity)",
    "NoWorker(Draining)",
    "NoWorker(Cooling)",
    "NoWorker(AgentAtLimit)",
    "NoWorker(NotPushable)",
    "IdempotencyKeyReused",
];

/// What a run has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: u64,
    pub commands: u64,
    pub commits: u64,
    pub largest_batch: u64,
    pub starts: u64,
    pub broken_commits: u64,
    pub kept_after_break: u64,
    pub grants: u64,
    pub expired: u64,
    pub completed: u64,
    /// Of those, errors that were tried again.
    pub retried: u64,
    pub released: u64,
    pub rests: u64,
    pub refused: u64,
    pub moved: u64,
    pub seconds: u64,
    /// Every kind of change and of refusal that came up.
    pub kinds: BTreeSet<String>,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.commands += other.commands;
        self.commits += other.commits;
        self.largest_batch = self.largest_batch.max(other.largest_batch);
        self.starts += other.starts;
        self.broken_commits += other.broken_commits;
        self.kept_after_break += other.kept_after_break;
        self.grants += other.grants;
        self.expired += other.expired;
        self.completed += other.completed;
        self.retried += other.retried;
        self.released += other.released;
        self.rests += other.rests;
        self.refused += other.refused;
        self.moved += other.moved;
        self.seconds += other.seconds;
        self.kinds.extend(other.kinds.iter().cloned());
    }

    /// Takes in what the step has told.
    pub fn step(&mut self, model: &Model) {
        self.commits += u64::from(model.writes);
        for change in &model.told {
            if !self.kinds.contains(change.kind) {
                self.kinds.insert(change.kind.to_string());
            }
            match change.kind {
                "task_leased" => self.grants += 1,
                "lease_expired" => self.expired += 1,
                "task_completed" => {
                    self.completed += 1;
                    let detail = change.audit.as_ref().and_then(|line| line.detail.as_deref());
                    let again = detail.is_some_and(|detail| detail.contains("retry in"));
                    self.retried += u64::from(again);
                }
                "task_released" => self.released += 1,
                "worker_cooling" => {
                    self.rests += 1;
                    let detail = change.audit.as_ref().and_then(|line| line.detail.as_deref());
                    let code =
                        detail.and_then(|detail| detail.rsplit(' ').next()).unwrap_or_default();
                    self.kinds.insert(format!("worker_cooling: {code}"));
                }
                _ => {}
            }
        }
    }

    /// What never came up, in a run that was long enough to see everything.
    pub fn missing(&self) -> Vec<&'static str> {
        let seen = |kind: &str| self.kinds.iter().any(|known| known.starts_with(kind));
        ALL_KINDS.into_iter().filter(|kind| !seen(kind)).collect()
    }
}
