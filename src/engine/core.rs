//! The writer's decisions: a batch of commands in, one commit, answers out.
//!
//! `step` is all there is: what is due happens first, then the commands in their order, then waiting
//! claims are served, then one commit, then memory and events, then the answers. It reads no clock
//! and starts no thread, so that the simulation runs it as the server does. Must stay true: P1–P8.
//! Not here: the rules (`domain`), the thread and its channel (`thread`).

use super::batch::{Batch, Delivery};
use super::deadlines::Deadlines;
use super::ready::Ready;
use super::visible::Visible;
use super::waiting::{Waiter, Waiting};
use super::workers::Workers;
use super::{
    ClaimAnswer, Command, Completed, ConfigChange, EngineError, Event, Events, LeaseAnswer,
    LeaseView, NewLease, TaskView, WorkerChoice, WorkerView,
};
use crate::clock::{Mono, Now};
use crate::domain::{
    self, ArtifactId, Audit, AuditId, Change, Completion, Entity, EventKind, Heartbeat, LeaseClaim,
    LeaseId, NewTask, NoWorker, Refusal, Registration, ResultId, Task, TaskId, TaskStatus,
    WorkerId, WorkerStatus, context_key,
};
use crate::store::{AuditEntry, Copied, Counters, JournalRecord, Store, StoreError, StoredWorker};
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
    pub visible: Arc<Visible>,
    pub events: Arc<Events>,
    random: RandomIds,
    counters: Counters,
    ready: Ready,
    deadlines: Deadlines,
    workers: Workers,
    waiting: Waiting,
    journal_records: usize,
    released: bool,
    /// Since waiting claims were last served something may have made a match possible: a task is
    /// ready, a lease ended, a worker came back or offers more.
    may_match: bool,
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
            ready: Ready::default(),
            deadlines: Deadlines::default(),
            workers: Workers::default(),
            waiting: Waiting::default(),
            journal_records,
            released: false,
            may_match: false,
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
        visible.backlog.send_replace(index.backlog(core.journal_records));
        drop(index);
        Ok(core)
    }

    /// Lets answers leave by another way than this thread.
    pub fn deliver_by(&mut self, deliver: impl FnMut(Delivery) + Send + 'static) {
        self.deliver = Box::new(deliver);
    }

    /// When the next thing is due, if nobody asks for anything before.
    pub fn next_wake(&self) -> Option<Mono> {
        [self.deadlines.next(), self.waiting.next(), self.workers.next_check()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due and what is asked, and answers. After an error the file is doubtful and the
    /// engine must not go on.
    pub fn step(&mut self, commands: Vec<Command>, now: Now) -> Result<(), StoreError> {
        let store = self.store.clone();
        let mut batch = Batch::new(&store, now);
        let first_change = self.counters.last_change + 1;
        let mut failed = self.do_what_is_due(&mut batch).err();
        for command in commands {
            self.take(&mut batch, command);
        }
        if failed.is_none() {
            failed = self.serve_waiting(&mut batch).err();
        }
        if let Some(EngineError::Store(why)) = failed {
            (self.deliver)(batch.close(Err(EngineError::Store(why.clone()))));
            return Err(StoreError::Io(why));
        }
        if !batch.told.is_empty() {
            let changes = std::mem::take(&mut batch.told);
            batch.changes.journal =
                Some((first_change, JournalRecord { counters: self.counters, changes }));
        }
        if !batch.changes.is_empty()
            && let Err(error) = store.commit(&batch.changes)
        {
            (self.deliver)(batch.close(Err(EngineError::OutcomeUnknown(error.to_string()))));
            return Err(error);
        }
        self.show(&mut batch);
        (self.deliver)(batch.close(Ok(())));
        Ok(())
    }

    /// After the commit: memory for readers, then events (P6).
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
        if let Some(moved) = batch.changes.archived_journal.last() {
            index.oldest_journal = *moved;
        }
        let backlog = index.backlog(self.journal_records);
        drop(index);
        self.visible.backlog.send_if_modified(|known| std::mem::replace(known, backlog) != backlog);
        self.events.publish(std::mem::take(&mut batch.events));
    }

    fn do_what_is_due(&mut self, batch: &mut Batch<'_>) -> Result<(), EngineError> {
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
        while let Some(waiter) = self.waiting.take_due(now.mono) {
            batch.answer(waiter.reply, Ok(None));
        }
        Ok(())
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
            Command::Release => self.release(batch),
            Command::Stop => {}
        }
    }

    fn create(&mut self, batch: &mut Batch<'_>, new: NewTask) -> Result<TaskView, EngineError> {
        let live = [TaskStatus::Queued, TaskStatus::Leased, TaskStatus::Running];
        let live: u64 = live.iter().map(|s| self.counters.tasks_by_status[*s as usize]).sum();
        if live >= LIVE_TASKS_MAX {
            return Err(Refusal::QueueFull.into());
        }
        self.counters.last_task += 1;
        let id = TaskId::new(self.counters.last_task, (self.random)());
        let (change, spec) = domain::create(new, id, batch.now.wall);
        let view = TaskView { task: change.task.clone(), spec: spec.clone() };
        batch.changes.specs.insert(id.seq(), spec);
        self.apply(batch, None, change);
        Ok(view)
    }

    /// The record with its lease's last renewal, which the next write of it takes to the disk.
    fn renewed(&self, mut task: Task) -> Task {
        if let Some(renewal) = self.deadlines.renewal(task.seq()) {
            renewal.lay_over(&mut task);
        }
        task
    }

    fn lease(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        lease: NewLease,
    ) -> Result<LeaseAnswer, EngineError> {
        let task = self.renewed(batch.task(id)?);
        domain::require_queued(&task)?;
        let ttl_seconds = lease.ttl_seconds.ok_or(Refusal::InvalidFields)?;
        let context = context_key(&task.context_id);
        let worker = match &lease.worker {
            WorkerChoice::Automatic => domain::pick_worker(&task, self.workers.candidates(context)),
            WorkerChoice::Named(id) => match self.workers.candidate(id, context) {
                Some(candidate) => domain::gate(&candidate, &task.labels).map(|()| id),
                None => Err(NoWorker::Unknown),
            },
            WorkerChoice::Nobody => Err(NoWorker::Unknown),
        };
        let worker_id = worker.map_err(Refusal::NoWorker)?.clone();
        let worker = self.workers.view(&worker_id).expect("the gate saw it");
        let lease = self.grant(batch, &task, &worker_id, ttl_seconds)?.1;
        Ok(LeaseAnswer { lease, worker })
    }

    fn grant(
        &mut self,
        batch: &mut Batch<'_>,
        task: &Task,
        worker: &WorkerId,
        ttl_seconds: Option<u32>,
    ) -> Result<(Task, LeaseView), EngineError> {
        let lease_id = LeaseId::new(self.counters.last_lease + 1, (self.random)());
        let change = domain::grant(task, worker, lease_id, ttl_seconds, batch.now.wall)?;
        self.counters.last_lease += 1;
        let granted = change.task.clone();
        self.apply(batch, Some(task), change);
        let view = LeaseView::active(&granted).expect("granted just now");
        Ok((granted, view))
    }

    fn claim(&mut self, batch: &mut Batch<'_>, waiter: Waiter, wait_ms: u64) {
        let now = batch.now;
        if waiter.reply.is_closed() {
            return;
        }
        if self.workers.stored(&waiter.worker).is_none() {
            return batch.answer(waiter.reply, Err(Refusal::WorkerNotFound.into()));
        }
        self.heard_of(batch, &waiter.worker);
        match self.next_task_for(&waiter.worker) {
            Some(seq) => self.hand_out(batch, seq, waiter),
            None if wait_ms == 0 || self.released => batch.answer(waiter.reply, Ok(None)),
            None if self.waiting.is_full() => {
                batch.answer(waiter.reply, Err(Refusal::TooManyWaiting.into()));
            }
            None => self.waiting.push(waiter, now.mono.after_ms(wait_ms)),
        }
    }

    fn next_task_for(&self, worker: &WorkerId) -> Option<u64> {
        let candidate = self.workers.candidate(worker, 0)?;
        domain::gate(&candidate, &[]).ok()?;
        let labels = &candidate.worker.capabilities.labels;
        self.ready.pick(labels, self.workers.contexts(worker))
    }

    fn hand_out(&mut self, batch: &mut Batch<'_>, seq: u64, waiter: Waiter) {
        let result = self.try_hand_out(batch, seq, &waiter);
        batch.answer(waiter.reply, result.map(Some));
    }

    fn try_hand_out(
        &mut self,
        batch: &mut Batch<'_>,
        seq: u64,
        waiter: &Waiter,
    ) -> Result<ClaimAnswer, EngineError> {
        let task = batch.task_at(seq)?.ok_or(Refusal::TaskNotFound)?;
        let spec = batch.spec(&task)?;
        let (task, lease) = self.grant(batch, &task, &waiter.worker, waiter.ttl_seconds)?;
        Ok(ClaimAnswer { task: TaskView { task, spec }, lease })
    }

    /// Gives ready tasks to waiting claims until nobody who waits may take what is there. Serving
    /// only takes room away, so a task that nobody may take now is not looked at again.
    fn serve_waiting(&mut self, batch: &mut Batch<'_>) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.may_match) {
            return Ok(());
        }
        let mut left_over = HashSet::new();
        'again: while !self.waiting.is_empty() {
            for seq in self.ready.heads() {
                if left_over.contains(&seq) {
                    continue;
                }
                let task = batch.task_at(seq)?.ok_or(Refusal::TaskNotFound)?;
                let context = context_key(&task.context_id);
                let candidates =
                    self.waiting.workers().filter_map(|id| self.workers.candidate(id, context));
                let Ok(worker) = domain::pick_worker(&task, candidates) else {
                    left_over.insert(seq);
                    continue;
                };
                let worker = worker.clone();
                if let Some(waiter) = self.waiting.take_for(&worker) {
                    self.hand_out(batch, seq, waiter);
                }
                continue 'again;
            }
            break;
        }
        self.may_match = false;
        Ok(())
    }

    fn heartbeat(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
    ) -> Result<LeaseView, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let beat = domain::heartbeat(&task, claim, batch.now.wall)?;
        let lease = task.lease.as_ref().expect("a heartbeat that counts has a lease");
        let renewal = self.deadlines.set(task.seq(), lease, batch.now);
        batch.renewals.push((task.seq(), renewal));
        self.heard_of(batch, &lease.worker_id);
        let mut view = LeaseView::active(&task).expect("a heartbeat that counts has a lease");
        view.last_heartbeat = renewal.last_heartbeat;
        view.expires_at = renewal.expires_at;
        if let Heartbeat::Started(change) = beat {
            self.apply(batch, Some(&task), change);
        }
        Ok(view)
    }

    fn complete(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        completed: Option<domain::Completed>,
    ) -> Result<Completed, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let seq = self.counters.last_outcome + 1;
        let artifact_id = ArtifactId::new(seq, (self.random)());
        let result_id = ResultId::new(seq, (self.random)());
        let now = batch.now.wall;
        let spec = batch.spec(&task)?;
        match domain::complete(&task, claim, completed, artifact_id, result_id, now)? {
            Completion::Repeated { fence } => {
                let outcome = batch.outcome(&task, fence)?;
                let task = domain::as_completed(&task, &outcome);
                Ok(Completed { task: TaskView { task, spec }, outcome })
            }
            Completion::First(change, outcome) => {
                self.counters.last_outcome = seq;
                self.heard_of(batch, &outcome.worker_id);
                let fence = change.task.ended.last().map_or(0, |ended| ended.lease.fence);
                batch.changes.outcomes.insert((task.seq(), fence), (*outcome).clone());
                let view = TaskView { task: change.task.clone(), spec };
                self.apply(batch, Some(&task), change);
                Ok(Completed { task: view, outcome: *outcome })
            }
        }
    }

    /// Requeue and cancel: what a person does to a task.
    fn by_hand(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        decide: impl Fn(&Task, i64) -> Result<Change, Refusal>,
    ) -> Result<TaskView, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let change = decide(&task, batch.now.wall)?;
        let spec = batch.spec(&task)?;
        if !self.visible.index().holds_task(id.seq())
            && !batch.changes.tasks.contains_key(&id.seq())
        {
            // It comes back from the archive, so what belongs to it comes along.
            batch.changes.specs.insert(id.seq(), spec.clone());
            for ended in task.ended.iter().filter(|ended| ended.outcome.is_some()) {
                let outcome = batch.outcome(&task, ended.lease.fence)?;
                batch.changes.outcomes.insert((id.seq(), ended.lease.fence), outcome);
            }
        }
        let view = TaskView { task: change.task.clone(), spec };
        self.apply(batch, Some(&task), change);
        Ok(view)
    }

    fn register(
        &mut self,
        batch: &mut Batch<'_>,
        id: WorkerId,
        registration: Registration,
    ) -> Result<(WorkerView, bool), EngineError> {
        let known = self.workers.stored(&id).map(|stored| stored.worker.clone());
        if known.is_none() && self.workers.is_full() {
            return Err(Refusal::TooManyWorkers.into());
        }
        let seq = self.counters.last_change + 1;
        let worker =
            domain::register(known.as_ref(), id.clone(), registration, seq, batch.now.wall);
        if known.as_ref() != Some(&worker) {
            let kind = match known {
                None => EventKind::WorkerRegistered,
                Some(_) => EventKind::WorkerUpdated,
            };
            let detail = format!(
                "Worker {id} registered, status={}, max_concurrency={}",
                worker.status.as_str(),
                worker.capabilities.max_concurrency
            );
            self.tell_of_worker(batch, kind, &id, "api", detail);
            let stored = StoredWorker { worker, last_heartbeat: Some(batch.now.wall) };
            batch.changes.workers.insert(id.clone(), Some(stored.clone()));
            self.workers.put(stored, batch.now.mono);
            self.may_match = true;
        }
        self.heard_of(batch, &id);
        let view = self.workers.view(&id).expect("registered just now");
        Ok((view, known.is_none()))
    }

    fn remove(&mut self, batch: &mut Batch<'_>, id: &WorkerId) -> Result<(), EngineError> {
        if !self.workers.remove(id) {
            return Err(Refusal::WorkerNotFound.into());
        }
        batch.changes.workers.insert(id.clone(), None);
        let detail = format!("Worker {id} unregistered");
        self.tell_of_worker(batch, EventKind::WorkerRemoved, id, "admin", detail);
        Ok(())
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

    fn release(&mut self, batch: &mut Batch<'_>) {
        self.released = true;
        while let Some(waiter) = self.waiting.take_due(Mono(u64::MAX)) {
            batch.answer(waiter.reply, Ok(None));
        }
    }

    fn heard_of(&mut self, batch: &mut Batch<'_>, id: &WorkerId) {
        batch.touched_workers.insert(id.clone());
        if self.workers.heard_of(id, batch.now) {
            self.may_match = true;
            let detail = format!("Worker {id} is back");
            self.tell_of_worker(batch, EventKind::WorkerOnline, id, "runtime", detail);
        }
    }

    fn tell_of_worker(
        &mut self,
        batch: &mut Batch<'_>,
        kind: EventKind,
        id: &WorkerId,
        actor: &str,
        detail: String,
    ) {
        batch.touched_workers.insert(id.clone());
        let audit = Audit {
            entity: Entity::Worker,
            entity_id: id.to_string(),
            actor: actor.into(),
            detail,
        };
        self.tell(batch, kind, id.to_string(), Some(audit));
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

impl LeaseView {
    fn active(task: &Task) -> Option<LeaseView> {
        task.lease.as_ref().map(|lease| LeaseView::of(task, lease, domain::LeaseStatus::Active))
    }

    /// A lease of this task, as the wire shows it.
    pub fn of(task: &Task, lease: &domain::Lease, status: domain::LeaseStatus) -> LeaseView {
        LeaseView {
            id: lease.id,
            fence: lease.fence,
            task_id: task.id,
            worker_id: lease.worker_id.clone(),
            context_id: task.context_id.clone(),
            started_at: lease.started_at,
            expires_at: lease.expires_at,
            last_heartbeat: lease.last_heartbeat,
            ttl_seconds: lease.ttl_seconds,
            status,
        }
    }
}

impl WorkerView {
    pub fn is_online(&self) -> bool {
        self.status == WorkerStatus::Online
    }
}
