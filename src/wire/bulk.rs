//! Requeueing and cancelling many tasks: which ones, and how many there were.
//!
//! Must stay true: a wish that names nothing is refused, since it would mean everything. Not here: how
//! it is done (`engine::bulk`).

use super::fields::{Fields, Invalid, Payload};
use crate::domain::{TaskId, TaskStatus, WorkerId};
use crate::engine::{Bulk, Selection};
use serde::Serialize;
use serde_json::Value;

const IDS_MAX: usize = 10_000;

/// `POST /llm-tasks/requeue` and `/llm-tasks/cancel`: which tasks, and whether they are only counted.
pub fn many(payload: &Payload) -> Result<(Selection, bool), Invalid> {
    let mut fields = Fields::required(payload)?;
    let selection = Selection {
        ids: ids(&mut fields),
        statuses: statuses(&mut fields),
        agent_slug: fields.nullable_text("agent_slug"),
        context_id: fields.nullable_text("context_id"),
        worker: fields.nullable_text("worker_id").map(WorkerId),
        text: None,
    };
    let dry_run = fields.optional_bool("dry_run", "dry_run").unwrap_or(false);
    if selection.is_empty() {
        fields.fail(
            "status",
            "At least one of ids, status, agent_slug, context_id, worker_id must say which tasks",
        );
    }
    fields.finish((selection, dry_run))
}

/// Ids that are none are ids of nothing.
fn ids(fields: &mut Fields<'_>) -> Option<Vec<TaskId>> {
    let ids = fields.optional_texts("ids", "ids")?;
    if ids.len() > IDS_MAX {
        fields.fail("ids", format!("Array must contain at most {IDS_MAX} element(s)"));
    }
    let mut ids: Vec<TaskId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn statuses(fields: &mut Fields<'_>) -> Option<Vec<TaskStatus>> {
    let words = TaskStatus::ALL.map(|status| (status.as_str(), status));
    match fields.raw("status") {
        None | Some(Value::Null) => None,
        Some(Value::Array(_)) => {
            let texts = fields.optional_texts("status", "status")?;
            let mut known = Vec::new();
            for text in texts {
                match TaskStatus::from_word(&text) {
                    Some(status) => known.push(status),
                    None => fields.fail_word("status", &words, &text),
                }
            }
            Some(known)
        }
        Some(_) => fields.word("status", false, &words).map(|status| vec![status]),
    }
}

/// What became of it.
pub fn changed_many(bulk: Bulk, dry_run: bool) -> impl Serialize {
    #[derive(Serialize)]
    struct Json {
        dry_run: bool,
        matched: usize,
        changed: usize,
        more: bool,
    }
    Json { dry_run, matched: bulk.matched, changed: bulk.changed, more: bulk.more }
}
