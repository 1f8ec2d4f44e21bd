//! Everything that a store holds, as lines that can be compared, whichever file it lies in.
//!
//! Must stay true: it reads what is stored and nothing that memory adds, so that it is the same before a
//! power loss and after it. Not here: whether it is right (the examination, the workload's ledger).

use crate::power_loss::commands::{KEYS, key};
use bloom_runtime::domain::{LeaseEnd, Task};
use bloom_runtime::store::{JournalKey, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEY_LINE: &str = "key ";

/// Tasks with all that belongs to them, keys, workers, settings, counters, the audit trail: one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(Arc<Vec<String>>);

fn json(record: &impl serde::Serialize) -> String {
    serde_json::to_string(record).expect("every record is JSON")
}

impl State {
    pub fn of(store: &Store) -> Result<State, StoreError> {
        let hot = store.hot()?;
        let removing = hot.removing()?.tasks.into_iter().collect();
        let archive = store.archive(Arc::new(removing))?;
        let mut tasks: BTreeMap<u64, Task> = BTreeMap::new();
        for seq in archive.tasks_below(None, u64::MAX, usize::MAX, |_| false)? {
            tasks.extend(archive.task(seq)?.map(|task| (seq, task)));
        }
        hot.for_each_task(|task| drop(tasks.insert(task.seq(), task)))?;
        let mut lines = Vec::new();
        for (seq, task) in tasks {
            lines.push(json(&task));
            let spec = hot.spec(seq)?.map_or_else(|| archive.spec(seq), |spec| Ok(Some(spec)))?;
            lines.push(json(&spec));
            for ended in task.ended.iter().filter(|ended| ended.end == LeaseEnd::Completed) {
                let fence = ended.lease.fence;
                let outcome = match hot.outcome(seq, fence)? {
                    Some(outcome) => Some(outcome),
                    None => archive.outcome(seq, fence)?,
                };
                lines.push(json(&outcome));
            }
            for file in &task.files {
                let found = hot.file(seq, file.seq)?;
                let found = found.map_or_else(|| archive.file(seq, file.seq), |f| Ok(Some(f)))?;
                lines.push(json(&found));
            }
        }
        for n in 0..KEYS {
            let keyed = hot.keyed_task(&key(n))?;
            lines.extend(keyed.map(|keyed| format!("{KEY_LINE}{n}: {keyed:?}")));
        }
        lines.extend(hot.workers()?.iter().map(json));
        lines.push(json(&hot.settings()?));
        lines.push(json(&hot.counters()?));
        let mut trail = BTreeMap::new();
        for entry in archive.audit_below(u64::MAX, usize::MAX)? {
            trail.insert(entry.id, entry);
        }
        for entry in hot.audit(JournalKey::default(), u64::MAX, usize::MAX)?.0 {
            trail.insert(entry.id, entry);
        }
        lines.extend(trail.values().map(json));
        Ok(State(Arc::new(lines)))
    }

    /// A content in the archive that neither lies in S3 nor waits for it.
    pub fn forgotten(store: &Store) -> Result<Option<String>, StoreError> {
        let archive = store.archive(Arc::default())?;
        let waiting = archive.waiting_uploads(0, usize::MAX)?;
        let waits = |artifact: u64| waiting.iter().any(|row| row.artifact == artifact);
        for seq in archive.tasks_below(None, u64::MAX, usize::MAX, |_| false)? {
            let Some(task) = archive.task(seq)? else { continue };
            for ended in &task.ended {
                let Some(outcome) = archive.outcome(seq, ended.lease.fence)? else { continue };
                let is_here = outcome.artifact_content().is_some();
                if is_here && outcome.stored.is_none() && !waits(outcome.artifact_id.seq()) {
                    return Ok(Some(format!("{outcome:?}")));
                }
            }
            for file in &task.files {
                let found = archive.file(seq, file.seq)?;
                if found.is_none_or(|found| found.stored.is_none()) && !waits(file.seq) {
                    return Ok(Some(format!("{file:?} of {}", task.id)));
                }
            }
        }
        Ok(None)
    }

    /// The same before there were keys.
    pub fn without_keys(&self) -> State {
        let lines = self.0.iter().filter(|line| !line.starts_with(KEY_LINE));
        State(Arc::new(lines.cloned().collect()))
    }

    /// Whether anything tells of this.
    pub fn tells_of(&self, text: &str) -> bool {
        self.0.iter().any(|line| line.contains(text))
    }

    /// The lines that only one of them has.
    pub fn difference(&self, other: &State) -> String {
        let only = |a: &State, b: &State, sign: char| {
            let lines = a.0.iter().filter(|line| !b.0.contains(line));
            lines.map(|line| format!("{sign} {line:.400}\n")).collect::<String>()
        };
        only(self, other, '-') + &only(other, self, '+')
    }
}
