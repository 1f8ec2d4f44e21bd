//! The writer's decisions: a batch of commands in, one commit, answers out.
//!
//! `step` is all there is: what is due happens first, then the commands in their order, then waiting
//! claims are served, then one commit, then memory, then the answers, then events. It reads no clock
//! and starts no thread, so that the simulation runs it as the server does. Must stay true: P1–P8.
//! What is decided about tasks, claims and workers stands below (`core/`). Not here: the rules
//! (`domain`), the thread and its channel (`thread`).

mod claims;
mod retention;
mod recovery;
mod tasks;
mod workers;

use super::batch::{Batch, Delivery};
use super::deadlines::Deadlines;
use super::query::Query;
use super::ready::Ready;
use super::retention::ServedTime;
use super::visible::Visible;
use super::waiting::{Waiter, Waiting};
use super::workers::Workers;
use super::{Command, ConfigChange, EngineError, Event, Events};
use crate::clock::{Mono, Now};
use crate::domain::{self, Audit, AuditId, Change, Entity, EventKind, Task, TaskStatus};
use crate::store::{AuditEntry, Copied, Counters, JournalRecord, Store, StoreError};
use recovery::Trouble;
use std::collections::HashSet;
use std::sync::Arc;

/// The most tasks that may be queued, leased or running.
pub const LIVE_TASKS_MAX: u64 = 1_000_000;

/// Where the random parts of ids come from.
pub type RandomIds = Box<dyn FnMut() -> u128 + Send>;

/// Random ids from the system, drawn 64 at a time.
pub fn system_random() -> RandomIds {
    let mut pool = [0u8; 1024];
    let mut used = pool.len();
    Box::new(move || {
        if used == pool.len() {
            getrandom::fill(&mut pool).expect("the system gives randomness");
            used = 0;
        }
        let bytes = pool[used..used + 16].try_into().expect("sixteen bytes");
        used += 16;
        u128::from_ne_bytes(bytes)
    })
}

/// The writer's state; everything in it follows from the hot file, save renewals and signs of life.
pub struct Core {
    store: Arc<Store>,
    pub(super) visible: Arc<Visible>,
    pub events: Arc<Events>,
    random: RandomIds,
    counters: Counters,
    served: ServedTime,
    /// Tasks whose removal from the archive has begun and is not known to be done.
    removing: Arc<HashSet<u64>>,
    ready: Ready,
    deadlines: Deadlines,
    workers: Workers,
    waiting: Waiting,
    journal_records: usize,
    released: bool,
    /// Since waiting claims were last served something may have made a match possible: a task is
    /// ready, a lease ended, a worker came back or offers more.
    may_match: bool,
    /// A read has failed, so that the files must be looked at.
    doubtful: bool,
    trouble: Option<Trouble>,
    deliver: Box<dyn FnMut(Delivery) + Send>,
}

impl Core {
    /// Rebuilds memory from the hot file's live tasks; every active lease gets its full time (P4).
    pub fn open(store: Arc<Store>, random: RandomIds, now: Now) -> Result<Self, StoreError> {
        let hot = store.hot()?;
        let counters = hot.counters()?;
        let (journal_records, oldest_journal) = hot.journal()?;
        let mut core = Core {
            visible: Arc::new(Visible::new()),
            events: Arc::new(Events::new(counters.last_change)),
            random,
            counters,
            served: ServedTime::new(counters.age_ms, now.mono),
            removing: Arc::new(hot.removing()?.tasks.into_iter().collect()),
            ready: Ready::default(),
            deadlines: Deadlines::default(),
            workers: Workers::default(),
            waiting: Waiting::default(),
            journal_records,
            released: false,
            may_match: false,
            doubtful: false,
            trouble: None,
            deliver: Box::new(Delivery::hand_out),
            store: store.clone(),
        };
        for stored in hot.workers()? {
            core.workers.put(stored, now.mono);
        }
        let visible = core.visible.clone();
        let mut index = visible.index();
        hot.for_each_task(|task| {
            index.put(&task);
            core.schedule(None, &task, now);
            if let Some(lease) = &task.lease {
                index.renew(task.seq(), core.deadlines.resume(task.seq(), lease, now));
            }
        })?;
        for id in core.workers.ids() {
            index.put_worker(id, core.workers.view(id));
        }
        index.counters = counters;
        index.oldest_journal = oldest_journal;
        index.served = core.served;
        index.removing = core.removing.clone();
        visible.backlog.send_replace(index.backlog(core.journal_records));
        drop(index);
        Ok(core)
    }

    /// Reads beside this writer.
    pub fn query(&self) -> Query {
        Query::new(self.store.clone(), self.visible.clone())
    }

    /// Lets answers leave by another way than this thread.
    pub fn deliver_by(&mut self, deliver: impl FnMut(Delivery) + Send + 'static) {
        self.deliver = Box::new(deliver);
    }

    /// When the next thing is due, if nobody asks for anything before.
    pub fn next_wake(&self) -> Option<Mono> {
        let due = [self.deadlines.next(), self.workers.next_check()].into_iter().flatten().min();
        // What would be written waits for the end of a pause.
        let due = due.map(|due| due.max(self.paused_until().unwrap_or_default()));
        due.into_iter().chain(self.waiting.next()).min()
    }

    /// Does what is due and what is asked, and answers. A disk that fails is told of in the answers;
    /// after an error the store cannot even be read and the engine must not go on.
    pub fn step(&mut self, commands: Vec<Command>, now: Now) -> Result<(), StoreError> {
        let asked = commands.iter().any(|command| matches!(command, Command::Mend { .. }));
        let ends_pause = self.trouble.is_some() && !self.is_paused(now.mono);
        if self.doubtful || asked || (ends_pause && !self.store.is_writable()) {
            self.mend(now)?;
        }
        if self.is_paused(now.mono) {
            self.step_without_disk(commands, now);
            return Ok(());
        }
        let store = self.store.clone();
        let mut batch = Batch::new(&store, now, self.removing.clone());
        let first_change = self.counters.last_change + 1;
        let decided = self.decide(&mut batch, commands);
        let written = decided.and_then(|()| self.write(&mut batch, first_change));
        if let Err(error) = written {
            return self.recover(batch, error);
        }
        self.deadlines.settle();
        self.show(&mut batch);
        self.answer(batch, Ok(()));
        Ok(())
    }

    /// The answers, then the events: a thousand listeners would otherwise be served before the one
    /// who waits for an answer. Both after the commit (P1, P6).
    fn answer(&mut self, mut batch: Batch<'_>, answer: Result<(), EngineError>) {
        let events = std::mem::take(&mut batch.events);
        (self.deliver)(batch.close(answer));
        self.events.publish(events);
    }

    /// What is due, the commands in their order, then the waiting claims.
    fn decide(&mut self, batch: &mut Batch<'_>, commands: Vec<Command>) -> Result<(), StoreError> {
        self.do_what_is_due(batch)?;
        for command in commands {
            self.take(batch, command);
        }
        self.serve_waiting(batch)?;
        self.doubtful = batch.read_failed;
        Ok(())
    }

    /// One durable commit, if there is anything to write (P1, P8).
    fn write(&mut self, batch: &mut Batch<'_>, first_change: u64) -> Result<(), StoreError> {
        if !batch.told.is_empty() {
            let changes = std::mem::take(&mut batch.told);
            self.counters.age_ms = self.served.age_ms(batch.now.mono);
            batch.changes.journal =
                Some((first_change, JournalRecord { counters: self.counters, changes }));
        }
        if batch.changes.is_empty() {
            return Ok(());
        }
        self.store.commit(&batch.changes)?;
        self.recovered();
        Ok(())
    }

    /// After the commit: memory for readers (P6).
    fn show(&mut self, batch: &mut Batch<'_>) {
        self.journal_records += usize::from(batch.changes.journal.is_some());
        let mut index = self.visible.index();
        for task in &batch.left {
            index.take_out(task);
        }
        for task in batch.changes.tasks.values() {
            index.put(task);
        }
        for (task, renewal) in batch.renewals.drain(..) {
            if self.deadlines.holds(task) {
                index.renew(task, renewal);
            }
        }
        for id in &batch.touched_workers {
            index.put_worker(id, self.workers.view(id));
        }
        index.counters = self.counters;
        self.removing = batch.removing().clone();
        index.removing = self.removing.clone();
        if let Some(moved) = batch.changes.archived_journal.last() {
            index.oldest_journal = *moved;
        }
        let backlog = index.backlog(self.journal_records);
        drop(index);
        self.visible.backlog.send_if_modified(|known| std::mem::replace(known, backlog) != backlog);
    }

    fn do_what_is_due(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let now = batch.now;
        while let Some(seq) = self.deadlines.due(now.mono) {
            let task = batch.task_at(seq)?.map(|task| self.renewed(task));
            let change =
                task.and_then(|task| domain::expire(&task, now.wall).map(|change| (task, change)));
            match change {
                Some((task, change)) => self.apply(batch, Some(&task), change),
                None => self.deadlines.clear(seq),
            }
        }
        while let Some(id) = self.workers.fallen_silent(now.mono) {
            let detail = format!("Worker {id} gave no sign of life for 60s");
            self.tell_of_worker(batch, EventKind::WorkerOffline, &id, "reaper", detail);
        }
        self.end_waiting(batch);
        Ok(())
    }

    /// Answers the claims that have waited long enough.
    fn end_waiting(&mut self, batch: &mut Batch<'_>) {
        while let Some(waiter) = self.waiting.take_due(batch.now.mono) {
            batch.answer(waiter.reply, Ok(None));
        }
    }

    fn take(&mut self, batch: &mut Batch<'_>, command: Command) {
        match command {
            Command::Create { new, reply } => {
                let result = self.create(batch, *new);
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
            Command::Heartbeat { task, claim, reply } => {
                let result = self.heartbeat(batch, task, claim);
                batch.answer(reply, result);
            }
            Command::Complete { task, claim, completed, reply } => {
                let result = self.complete(batch, task, claim, completed.map(|fields| *fields));
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
            Command::Register { id, registration, reply } => {
                let result = self.register(batch, id, *registration);
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
        let audit = Audit {
            entity: Entity::Config,
            entity_id: "singleton".into(),
            actor: "admin".into(),
            detail: change.detail,
        };
        self.tell(batch, change.kind, "singleton".into(), Some(audit));
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

    /// Gives a change its place in the journal and in the stream of events.
    fn tell(&mut self, batch: &mut Batch<'_>, kind: EventKind, id: String, audit: Option<Audit>) {
        self.counters.last_change += 1;
        let seq = self.counters.last_change;
        batch.told.push(audit.map(|audit| AuditEntry {
            id: AuditId::new(seq, (self.random)()),
            timestamp: batch.now.wall,
            action: kind.as_str().into(),
            entity_type: audit.entity.as_str().into(),
            entity_id: audit.entity_id,
            actor: audit.actor,
            detail: audit.detail,
        }));
        batch.events.push(Event { seq, kind: kind.as_str(), id });
    }

    /// Takes a decided change into the batch, the counts and the schedule.
    fn apply(&mut self, batch: &mut Batch<'_>, old: Option<&Task>, change: Change) {
        let Change { task, kind, audit } = change;
        if let Some(old) = old {
            self.counters.tasks_by_status[old.status as usize] -= 1;
        }
        self.counters.tasks_by_status[task.status as usize] += 1;
        self.tell(batch, kind, task.id.to_string(), audit);
        self.may_match = true;
        self.schedule(old, &task, batch.now);
        for holder in old.into_iter().chain([&task]).filter_map(|task| task.lease.as_ref()) {
            batch.touched_workers.insert(holder.worker_id.clone());
        }
        batch.changes.archived.retain(|seq| *seq != task.seq());
        batch.left.retain(|left| left.seq() != task.seq());
        batch.changes.tasks.insert(task.seq(), task);
    }

    /// Keeps ready queue, deadlines and load in step with a task's record.
    fn schedule(&mut self, old: Option<&Task>, new: &Task, now: Now) {
        if let Some(old) = old {
            if old.status == TaskStatus::Queued {
                self.ready.remove(old);
            }
            self.workers.count(old, false);
        }
        if new.status == TaskStatus::Queued {
            self.ready.insert(new);
        }
        self.workers.count(new, true);
        match &new.lease {
            Some(lease) => {
                self.deadlines.set(new.seq(), lease, now);
            }
            None => self.deadlines.clear(new.seq()),
        }
    }
}
