//! What retention would remove now, as JSON.
//!
//! Not here: what is due (`engine::retention`).

use crate::engine::{AuditOutlook, OUTLOOK_MOST, Outlook};
use serde::Serialize;
use std::collections::BTreeMap;

type ByStatus<T> = BTreeMap<&'static str, T>;

pub fn retention(outlook: &Outlook) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Audit {
        days: Option<u64>,
        due: usize,
        oldest_at: Option<i64>,
        removed: u64,
    }
    #[derive(Serialize)]
    struct Answer {
        days: Option<ByStatus<Option<u64>>>,
        due: ByStatus<usize>,
        oldest_at: ByStatus<Option<i64>>,
        audit: Audit,
        more: bool,
        next_due_ms: Option<u64>,
    }
    let tasks = outlook.tasks.iter();
    let days: ByStatus<_> = tasks.clone().map(|of| (of.status.as_str(), of.days)).collect();
    let AuditOutlook { days: audit_days, due, oldest_at, removed } = outlook.audit;
    Answer {
        days: days.values().any(Option::is_some).then_some(days),
        due: tasks.clone().map(|of| (of.status.as_str(), of.due)).collect(),
        oldest_at: tasks.clone().map(|of| (of.status.as_str(), of.oldest_at)).collect(),
        audit: Audit { days: audit_days, due, oldest_at, removed },
        more: tasks.map(|of| of.due).chain([due]).any(|due| due >= OUTLOOK_MOST),
        next_due_ms: outlook.next_due_ms,
    }
}
