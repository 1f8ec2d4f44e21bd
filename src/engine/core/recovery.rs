//! What the writer does when the disk fails it.
//!
//! The files are opened anew, which tells whether the failed commit is there: then it is answered as done,
//! otherwise as not done, memory goes back to what the disk holds, and nothing is written for a pause that
//! grows. Meanwhile reads, renewals and waiting go on (P4, P8). Must stay true: nobody is told yes before
//! the disk has it (P1); what was in doubt is said to be so. The store is written in two phases, and
//! opening an unclean file writes and syncs the header that decides between them, so a commit that is seen
//! after that is on disk. Not here: how a file is opened (`store`).

use super::tasks::Beat;
use super::{Command, Core};
use crate::clock::{Mono, Now};
use crate::domain::{self, Heartbeat, LeaseClaim, TaskId};
use crate::engine::batch::Batch;
use crate::engine::waiting::Waiter;
use crate::engine::{EngineError, LeaseView, NotWritten};
use crate::store::StoreError;

/// How long nothing is written after a failure, and after many in a row.
const PAUSE_FIRST_MS: u64 = 1_000;
const PAUSE_MOST_MS: u64 = 8_000;

/// A disk that takes no writes.
pub struct Trouble {
    until: Mono,
    pause_ms: u64,
    why: NotWritten,
}

impl Trouble {
    fn refusal(&self) -> EngineError {
        EngineError::NotWritten { why: self.why, retry_seconds: self.pause_ms.div_ceil(1_000) }
    }
}

impl NotWritten {
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Full => NotWritten::DiskFull,
            StoreError::ReadOnly => NotWritten::ReadOnly,
            _ => NotWritten::Failing,
        }
    }
}

impl Core {
    /// Opens anew what cannot be used any more. After an error the process must end.
    pub(super) fn mend(&mut self, now: Now) -> Result<(), StoreError> {
        self.doubtful = false;
        if !self.store.mend()? {
            return Ok(());
        }
        if self.store.hot()?.counters()? != self.counters {
            return Err(StoreError::Io("it holds less than it did before an error".into()));
        }
        log::info!("store: opened anew after an error");
        if !self.store.is_writable() {
            self.pause(now.mono, &StoreError::ReadOnly);
        }
        Ok(())
    }

    /// Until when nothing is written.
    pub(super) fn paused_until(&self) -> Option<Mono> {
        self.trouble.as_ref().map(|trouble| trouble.until)
    }

    pub(super) fn is_paused(&self, now: Mono) -> bool {
        self.paused_until().is_some_and(|until| now < until)
    }

    fn pause(&mut self, now: Mono, error: &StoreError) {
        let pause_ms = match &self.trouble {
            None => {
                log::error!("writes are refused for now, reads go on: {error}");
                PAUSE_FIRST_MS
            }
            Some(before) => (before.pause_ms * 2).min(PAUSE_MOST_MS),
        };
        let why = NotWritten::of(error);
        self.trouble = Some(Trouble { until: now.after_ms(pause_ms), pause_ms, why });
        self.visible.set_trouble(Some(why));
    }

    /// Something was written.
    pub(super) fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            log::info!("writes go on");
            self.visible.set_trouble(None);
        }
    }

    /// Finds out what has become of a batch that could not be decided or written, and answers it.
    pub(super) fn recover(
        &mut self,
        mut batch: Batch<'_>,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let now = batch.now;
        batch.let_go_of_snapshots();
        let found = self.store.mend().and_then(|_| self.store.hot()?.holds(&batch.changes));
        let is_there = match found {
            Ok(is_there) => is_there,
            Err(lost) => {
                (self.deliver)(batch.close(Err(EngineError::OutcomeUnknown(error.to_string()))));
                return Err(lost);
            }
        };
        self.doubtful = false;
        let is_writable = self.store.is_writable();
        let error = if is_writable { error } else { StoreError::ReadOnly };
        self.pause(now.mono, &error);
        let answer = if is_there {
            self.deadlines.settle();
            self.show(&mut batch);
            match is_writable {
                true => Ok(()),
                // It is seen, but nothing says that it would be after a power loss.
                false => Err(EngineError::OutcomeUnknown(error.to_string())),
            }
        } else {
            if let Err(lost) = self.go_back(now) {
                (self.deliver)(batch.close(Err(EngineError::OutcomeUnknown(lost.to_string()))));
                return Err(lost);
            }
            // Nobody may hear of what has not happened.
            batch.events.clear();
            Err(self.refusal())
        };
        self.answer(batch, answer);
        Ok(())
    }

    fn refusal(&self) -> EngineError {
        self.trouble.as_ref().expect("asked in trouble only").refusal()
    }

    /// Brings the writer's memory back to the last commit; what readers see has not left it. Renewals
    /// and signs of life that were answered stay.
    fn go_back(&mut self, now: Now) -> Result<(), StoreError> {
        let hot = self.store.hot()?;
        self.deadlines.undo();
        let visible = self.visible.clone();
        let index = visible.index();
        self.counters = index.counters;
        self.journal_records = hot.journal()?.0;
        self.workers.go_back(hot.workers()?, now.mono, |id| {
            index.worker(id).is_some_and(|view| view.is_online())
        });
        drop(index);
        self.ready = Default::default();
        self.later = Default::default();
        self.agents = self.agents.emptied();
        self.learn_agents(&hot)?;
        hot.for_each_task(|task| {
            self.enqueue(&task, now);
            self.workers.count(&task, true);
            self.agents.count(&task, true);
        })?;
        self.may_match = true;
        Ok(())
    }

    /// A step that writes nothing: renewals and waiting go on, everything else is refused.
    pub(super) fn step_without_disk(&mut self, commands: Vec<Command>, now: Now) {
        let store = self.store.clone();
        let mut batch = Batch::new(&store, now, self.removing.clone());
        self.end_waiting(&mut batch);
        for command in commands {
            self.take_without_disk(&mut batch, command);
        }
        self.deadlines.settle();
        self.show(&mut batch);
        self.answer(batch, Ok(()));
    }

    fn take_without_disk(&mut self, batch: &mut Batch<'_>, command: Command) {
        let refusal = self.refusal();
        match command {
            Command::Heartbeat { task, claim, reply } => {
                let result = self.renew(batch, task, claim, Beat::OfWorker);
                batch.answer(reply, result);
            }
            Command::Keep { task, lease, reply } => {
                let result = self.renew(batch, task, LeaseClaim::Named(lease), Beat::OfServer);
                batch.answer(reply, result);
            }
            Command::ClaimFor { worker, wait_ms, reply } => {
                if self.next_task_for(&worker).is_some() {
                    return batch.answer(reply, Err(refusal));
                }
                self.claim_for(batch, Waiter { worker, ttl_seconds: None, reply }, wait_ms);
            }
            Command::Claim { worker, ttl_seconds, wait_ms, reply } => {
                let waiter = Waiter { worker, ttl_seconds, reply };
                if self.next_task_for(&waiter.worker).is_some() {
                    return batch.answer(waiter.reply, Err(refusal));
                }
                self.claim(batch, waiter, wait_ms);
            }
            Command::HeardOf { worker } => self.heard_of(batch, &worker),
            Command::Removed { tasks, reply } => {
                Self::removed(batch, &tasks);
                batch.answer(reply, Ok(()));
            }
            Command::Release => self.release(batch),
            Command::Stop => {}
            Command::Mend { reply } => batch.answer(reply, Ok(())),
            Command::CompactHot { reply } => batch.answer(reply, Err(refusal)),
            Command::BeginRemoval { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Create { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Lease { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::AddFile { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Complete { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::HandBack { reply, .. }
            | Command::Requeue { reply, .. }
            | Command::Cancel { reply, .. } => {
                batch.answer(reply, Err(refusal));
            }
            Command::Many { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Register { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Sync { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Drain { reply, .. } => batch.answer(reply, Err(refusal)),
            Command::Remove { reply, .. }
            | Command::Configure { reply, .. }
            | Command::KeepSessions { reply, .. }
            | Command::Archived { reply, .. } => batch.answer(reply, Err(refusal)),
        }
    }

    /// A heartbeat that only extends its lease; the first one, which is a change, is refused.
    fn renew(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        beat: Beat,
    ) -> Result<LeaseView, EngineError> {
        let task = batch.task(id)?;
        match domain::heartbeat(&task, claim, batch.now.wall)? {
            Heartbeat::Extended => self.heartbeat(batch, id, claim, beat),
            Heartbeat::Started(_) => Err(self.refusal()),
        }
    }
}
