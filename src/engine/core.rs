//! The writer's decisions: a batch of commands in, one commit, answers out.
//!
//! `step` is all there is: what is due happens first, then the commands in their order, then waiting
//! claims are served, then one commit, then memory, then the answers, then events. It reads no clock
//! and starts no thread, so that the simulation runs it as the server does. Must stay true: P1–P8.
//! What is decided about tasks, claims and workers stands below (`core/`). Not here: the rules
//! (`domain`), the thread and its channel (`thread`).

mod bulk;
mod claims;
mod commands;
mod creation;
mod retention;
mod recovery;
mod schedule;
mod sync;
mod tasks;
mod workers;

use super::agents::{AgentLimits, Agents};
use super::batch::{Batch, Delivery};
use super::deadlines::Deadlines;
use super::later::Later;
use super::query::Query;
use super::ready::Ready;
use super::retention::ServedTime;
use super::visible::Visible;
use super::waiting::Waiting;
use super::workers::Workers;
use super::{Command, EngineError, Event, Events, TaskLogs};
use crate::clock::{Mono, Now};
use crate::domain::{Audit, AuditId, EventKind};
use crate::store::{AuditEntry, Counters, JournalRecord, Store, StoreError};
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
    pub(super) logs: Arc<TaskLogs>,
    random: RandomIds,
    counters: Counters,
    served: ServedTime,
    /// When the writer last looked at the time.
    looked: Now,
    /// Tasks whose removal from the archive has begun and is not known to be done.
    removing: Arc<HashSet<u64>>,
    ready: Ready,
    later: Later,
    agents: Agents,
    deadlines: Deadlines,
    workers: Workers,
    waiting: Waiting,
    journal_records: usize,
    /// The most idempotency keys that are held.
    pub(super) keys_max: u64,
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
        Core::open_limited(store, random, now, AgentLimits::default())
    }

    /// The same with limits for some agents.
    pub fn open_limited(
        store: Arc<Store>,
        random: RandomIds,
        now: Now,
        limits: AgentLimits,
    ) -> Result<Self, StoreError> {
        let hot = store.hot()?;
        let counters = hot.counters()?;
        let (journal_records, oldest_journal) = hot.journal()?;
        let mut core = Core {
            visible: Arc::new(Visible::new()),
            events: Arc::new(Events::new(counters.last_change)),
            logs: Arc::default(),
            random,
            counters,
            served: ServedTime::new(counters.age_ms, now.mono),
            looked: now,
            removing: Arc::new(hot.removing()?.tasks.into_iter().collect()),
            ready: Ready::default(),
            later: Later::default(),
            agents: Agents::new(limits.clone()),
            deadlines: Deadlines::default(),
            workers: Workers::new(ServedTime::new(counters.age_ms, now.mono)),
            waiting: Waiting::default(),
            journal_records,
            keys_max: creation::KEYS_MAX,
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
        core.learn_agents(&hot)?;
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
        index.agent_limits = limits;
        index.agents_active = core.agents.active().to_vec();
        index.removing = core.removing.clone();
        visible.backlog.send_replace(index.backlog(core.journal_records));
        drop(index);
        Ok(core)
    }

    /// From now on tasks are pushed to workers that wait to be called.
    pub fn push(&mut self) {
        self.workers.push();
        let mut index = self.visible.index();
        for id in self.workers.ids() {
            index.put_worker(id, self.workers.view(id));
        }
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
        let due = [self.deadlines.next(), self.workers.next_check(), self.next_later()];
        let due = due.into_iter().flatten().min();
        // What would be written waits for the end of a pause.
        let due = due.map(|due| due.max(self.paused_until().unwrap_or_default()));
        due.into_iter().chain(self.waiting.next()).min()
    }

    /// Does what is due and what is asked, and answers. A disk that fails is told of in the answers;
    /// after an error the store cannot even be read and the engine must not go on.
    pub fn step(&mut self, commands: Vec<Command>, now: Now) -> Result<(), StoreError> {
        self.looked = now;
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
        let mut pushed_changed = false;
        for id in &batch.touched_workers {
            pushed_changed |= index.put_worker(id, self.workers.view(id));
        }
        index.counters = self.counters;
        index.agents_active.copy_from_slice(self.agents.active());
        self.removing = batch.removing().clone();
        index.removing = self.removing.clone();
        if let Some(moved) = batch.changes.archived_journal.last() {
            index.oldest_journal = *moved;
        }
        let backlog = index.backlog(self.journal_records);
        drop(index);
        if pushed_changed {
            self.visible.pushed.send_replace(());
        }
        self.logs.tell(batch.changes.tasks.values().map(|task| (task.seq(), task.status)));
        self.visible.backlog.send_if_modified(|known| std::mem::replace(known, backlog) != backlog);
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
}
