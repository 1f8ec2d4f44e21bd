//! Which command leads to which decision.
//!
//! Must stay true: each is answered once, through the batch. Not here: the decisions about tasks,
//! claims, workers and retention, which stand beside this file.

use super::Core;
use super::tasks::Beat;
use crate::domain::{self, EventKind, LeaseClaim};
use crate::engine::batch::Batch;
use crate::engine::waiting::Waiter;
use crate::engine::{Command, ConfigChange, EngineError};
use crate::store::Copied;

impl Core {
    pub(super) fn take(&mut self, batch: &mut Batch<'_>, command: Command) {
        match command {
            Command::Create { new, key, reply } => {
                let result = self.create(batch, *new, key);
                batch.answer(reply, result);
            }
            Command::Lease { task, lease, reply } => {
                let result = self.lease(batch, task, lease);
                batch.answer(reply, result);
            }
            Command::Claim { worker, ttl_seconds, wait_ms, reply } => {
                let waiter = Waiter { worker, ttl_seconds, reply };
                self.claim(batch, waiter, wait_ms);
            }
            Command::ClaimFor { worker, wait_ms, reply } => {
                self.claim_for(batch, Waiter { worker, ttl_seconds: None, reply }, wait_ms);
            }
            Command::Heartbeat { task, claim, reply } => {
                let result = self.heartbeat(batch, task, claim, Beat::OfWorker);
                batch.answer(reply, result);
            }
            Command::Keep { task, lease, reply } => {
                let result = self.heartbeat(batch, task, LeaseClaim::Named(lease), Beat::OfServer);
                batch.answer(reply, result);
            }
            Command::Complete { task, claim, completed, reply } => {
                let result = self.complete(batch, task, claim, completed.map(|fields| *fields));
                batch.answer(reply, result);
            }
            Command::AddFile { task, claim, file, reply } => {
                let result = self.add_file(batch, task, claim, *file);
                batch.answer(reply, result);
            }
            Command::HandBack { task, claim, given, reply } => {
                let result = self.hand_back(batch, task, claim, given);
                batch.answer(reply, result);
            }
            Command::Requeue { task, reply } => {
                let result = self.by_hand(batch, task, domain::requeue);
                batch.answer(reply, result);
            }
            Command::Cancel { task, reply } => {
                let result = self.by_hand(batch, task, domain::cancel);
                batch.answer(reply, result);
            }
            Command::Many { tasks, what, reply } => {
                let result = self.many_by_hand(batch, &tasks, what);
                batch.answer(reply, result);
            }
            Command::Register { id, registration, reply } => {
                let result = self.register(batch, id, *registration);
                batch.answer(reply, result);
            }
            Command::Drain { worker, on, reply } => {
                let result = self.drain(batch, &worker, on);
                batch.answer(reply, result);
            }
            Command::Remove { worker, reply } => {
                let result = self.remove(batch, &worker);
                batch.answer(reply, result);
            }
            Command::Configure { change, reply } => {
                self.configure(batch, change);
                batch.answer(reply, Ok(()));
            }
            Command::KeepSessions { sessions, ended, reply } => {
                batch.changes.sessions = Some(sessions);
                if let Some(audit) = ended {
                    self.tell(batch, EventKind::SignedOut, audit.entity_id.clone(), Some(audit));
                }
                batch.answer(reply, Ok(()));
            }
            Command::Sync { agents, reply } => {
                let left_out = self.sync(batch, &agents);
                batch.answer(reply, Ok(left_out));
            }
            Command::Archived { copied, reply } => {
                let result = self.archived(batch, copied);
                batch.answer(reply, result);
            }
            Command::BeginRemoval { due, reply } => {
                let result = self.begin_removal(batch, &due);
                batch.answer(reply, result);
            }
            Command::Removed { tasks, reply } => {
                Self::removed(batch, &tasks);
                batch.answer(reply, Ok(()));
            }
            Command::CompactHot { reply } => {
                batch.let_go_of_snapshots();
                let result = self.store.compact_hot().map_err(EngineError::from);
                batch.answer(reply, result);
            }
            Command::HeardOf { worker } => self.heard_of(batch, &worker),
            // Done before the batch.
            Command::Mend { reply } => batch.answer(reply, Ok(())),
            Command::Release => self.release(batch),
            Command::Stop => self.note_age(batch),
        }
    }

    fn configure(&mut self, batch: &mut Batch<'_>, change: ConfigChange) {
        if change.settings.is_some() {
            batch.changes.settings = change.settings;
        }
        self.tell(batch, change.kind, change.audit.entity_id.clone(), Some(change.audit));
    }

    /// Lets go of what stands in the archive, unless it has changed since it was copied.
    fn archived(&mut self, batch: &mut Batch<'_>, copied: Copied) -> Result<(), EngineError> {
        for task in copied.tasks {
            if batch.untouched(task.seq())?.as_ref() == Some(&task) {
                batch.changes.archived.push(task.seq());
                batch.left.push(task);
            }
        }
        self.journal_records = self.journal_records.saturating_sub(copied.journal.len());
        batch.changes.archived_journal = copied.journal;
        Ok(())
    }
}
