//! A seeded life of the real writer on recorded disks, and what it has answered until when.
//!
//! Must stay true: the same seed gives the same tape; a step's state counts as answered from the mark on
//! that its delivery left on the tape. Not here: what power loss leaves of the tape (`cuts`), what is asked
//! again (`again`).

mod again;
mod objects;

use crate::disk::{Disk, Entry, Image, Tape, Which};
use crate::power_loss::commands::{Answers, add_any};
use crate::power_loss::dice::Dice;
use crate::power_loss::keyed::Keyed;
use crate::power_loss::state::State;
use bloom_runtime::clock::{Clock, ManualClock};
use bloom_runtime::domain::{IdempotencyKey, LeaseId, NewTask, Outcome, TaskId, TaskStatus};
use bloom_runtime::engine::{Command, Core, Retention, TaskView};
use bloom_runtime::store::{Limits, Store, StoreError};
use redb::Database;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

const NOW: i64 = 1_790_000_000_000;
/// After so long every key is free.
const KEYS_ARE_OVER_MS: u64 = 86_400_001;

/// What was being done at a place of the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Creation,
    Work,
    /// The mover's first half: the archive's commit.
    Copy,
    /// Its second half: the removal from the hot file.
    LetGo,
    /// Retention's first half: the hot file's commit that uncounts tasks and notes which.
    Uncount,
    /// Its second half: the removal from the archive.
    Remove,
    Stop,
    Start,
    /// A start that compacts the hot file.
    StartCompacting,
    /// The archive's commit that notes what lies in S3.
    Store,
    /// The operator's compaction of both files.
    Compaction,
    /// From an older format, in many steps.
    Migration,
    /// The start after the process was killed, with its writes in the kernel's hands.
    AfterKill,
    /// The start on what a power loss has left, and some work behind it.
    AfterPowerLoss,
}

/// A batch: from its begin on its state may be on disk, from its answers on it must be.
pub struct Step {
    pub begun: usize,
    pub answered: usize,
    pub state: State,
    /// Completions that were answered, each with its one answer (P7).
    pub completed: Vec<(TaskId, LeaseId, Outcome)>,
    /// Hand-backs that were answered.
    pub released: Vec<(TaskId, LeaseId)>,
    /// What was created under which key.
    pub keyed: Vec<(IdempotencyKey, NewTask, TaskView)>,
    /// Keys from before are over.
    pub keys_are_over: bool,
    /// Fencing numbers that were given out.
    pub granted: Vec<(TaskId, u32)>,
    /// Tasks, by their sequence, that retention took away.
    pub removed: BTreeSet<u64>,
}

/// What happened, and what may be found where.
pub struct History {
    /// What lies on the disks where the tape begins.
    pub images: (Image, Image),
    pub tape: Vec<Entry>,
    pub phases: Vec<(usize, Phase)>,
    /// What may be found before the first step is answered.
    pub before: Vec<State>,
    /// Every content goes to S3.
    pub to_s3: bool,
    pub steps: Vec<Step>,
}

impl History {
    pub fn phase(&self, at: usize) -> Phase {
        let after = self.phases.partition_point(|(start, _)| *start < at.max(1));
        self.phases[after.saturating_sub(1)].1
    }

    /// The steps that are answered when power fails here.
    pub fn answered(&self, at: usize) -> &[Step] {
        &self.steps[..self.steps.partition_point(|step| step.answered <= at)]
    }

    /// The steps that this state shows, which was found when power failed here.
    pub fn shown(&self, at: usize, found: &State) -> &[Step] {
        let answered = self.answered(at);
        let in_flight = self.steps.get(answered.len()).filter(|step| step.state == *found);
        &self.steps[..answered.len() + usize::from(in_flight.is_some())]
    }

    /// The states that may be found when power fails here: that of the last answered step, or that of
    /// the one in flight.
    pub fn allowed(&self, at: usize) -> Vec<State> {
        let answered = self.answered(at);
        let mut allowed = match answered.last() {
            Some(last) => vec![last.state.clone()],
            None => self.before.clone(),
        };
        let in_flight = self.steps.get(answered.len()).filter(|step| step.begun < at);
        allowed.extend(in_flight.map(|step| step.state.clone()));
        allowed
    }
}

/// The running writer with its disks, and what the outside knows.
pub struct Driver {
    pub dice: Dice,
    tape: Tape,
    disks: (Disk, Disk),
    clock: ManualClock,
    core: Option<Core>,
    store: Option<Arc<Store>>,
    delivered: Arc<AtomicUsize>,
    lives: u64,
    pub history: History,
    tasks: Vec<TaskId>,
    held: Vec<(TaskId, LeaseId)>,
    completed: BTreeMap<LeaseId, (TaskId, Outcome)>,
    released: BTreeMap<LeaseId, TaskId>,
    fences: BTreeMap<TaskId, u32>,
    keyed: Keyed,
    to_s3: bool,
}

impl Driver {
    /// A driver of what these disks hold, which may be one of these states.
    pub fn new(seed: u64, hot: Image, archive: Image, before: Vec<State>) -> Driver {
        let tape = Tape::default();
        let images = (hot.clone(), archive.clone());
        let disks = (
            Disk::holding(hot).record(&tape, Which::Hot),
            Disk::holding(archive).record(&tape, Which::Archive),
        );
        let history = History {
            images,
            tape: Vec::new(),
            phases: Vec::new(),
            before,
            to_s3: false,
            steps: Vec::new(),
        };
        Driver {
            dice: Dice::new(seed),
            tape,
            disks,
            clock: ManualClock::new(NOW),
            core: None,
            store: None,
            delivered: Arc::default(),
            lives: seed,
            history,
            tasks: Vec::new(),
            held: Vec::new(),
            completed: BTreeMap::new(),
            released: BTreeMap::new(),
            fences: BTreeMap::new(),
            keyed: Keyed::default(),
            to_s3: false,
        }
    }

    /// Takes over what another driver's outside knew when these steps were answered.
    pub fn knowing(mut self, steps: &[Step]) -> Driver {
        for step in steps {
            for (task, lease, outcome) in &step.completed {
                self.completed.insert(*lease, (*task, outcome.clone()));
            }
            self.released.extend(step.released.iter().map(|(task, lease)| (*lease, *task)));
            self.fences.extend(step.granted.iter().copied());
            if step.keys_are_over {
                self.keyed.clear();
            }
            for (key, new, view) in &step.keyed {
                self.keyed.insert(key.clone(), new.clone(), view.clone());
            }
            self.forget(&step.removed);
        }
        self
    }

    /// Its files come from a time before there were keys.
    pub fn without_keys(mut self) -> Driver {
        self.keyed.clear();
        self
    }

    fn forget(&mut self, removed: &BTreeSet<u64>) {
        let stays = |task: &TaskId| !removed.contains(&task.seq());
        self.tasks.retain(stays);
        self.held.retain(|(task, _)| stays(task));
        self.completed.retain(|_, (task, _)| stays(task));
        self.released.retain(|_, task| stays(task));
        self.keyed.forget(stays);
    }

    pub fn into_history(self) -> History {
        let Driver { core, store, disks, tape, to_s3, mut history, .. } = self;
        disks.0.stop_recording();
        disks.1.stop_recording();
        drop((core, store));
        history.tape = tape.played();
        history.to_s3 = to_s3;
        history
    }

    /// Tasks that are over, by what the readers are told.
    pub fn finished(&mut self) -> u64 {
        let counts = self.core().query().stats().tasks_by_status;
        let finished = TaskStatus::ALL.into_iter().filter(|status| status.is_finished());
        finished.map(|status| counts[status as usize]).sum()
    }

    /// What is written on both disks.
    pub fn images(&self) -> (Image, Image) {
        (self.disks.0.written(), self.disks.1.written())
    }

    pub fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("open")
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("open")
    }

    fn enter(&mut self, phase: Phase) {
        self.history.phases.push((self.tape.len(), phase));
    }

    /// Opens the store and rebuilds the writer's memory, as a start does.
    pub fn start(&mut self, phase: Phase, limits: Limits) -> Result<(), StoreError> {
        self.enter(phase);
        let begun = self.tape.len();
        let disks = self.disks.clone();
        let (store, _) = Store::open_backends_within(disks.0, disks.1, limits)?;
        let store = Arc::new(store);
        if self.to_s3 {
            store.keep_objects(objects::RULES);
        }
        let opened = self.tape.len();
        let state = State::of(&store)?;
        // Any sequence does, as long as it is another one in every life.
        self.lives += 1;
        let mut ids = Dice::new(self.lives.wrapping_mul(0x0123_4567_89ab_cdef));
        let random = Box::new(move || u128::from(ids.next()) << 64 | u128::from(ids.next()));
        let mut core = Core::open(store.clone(), random, self.clock.now())?;
        let (tape, delivered) = (self.tape.clone(), self.delivered.clone());
        core.deliver_by(move |delivery| {
            tape.mark();
            delivered.store(tape.len(), Ordering::SeqCst);
            delivery.hand_out();
        });
        (self.core, self.store) = (Some(core), Some(store));
        self.push(begun, opened, state);
        Ok(())
    }

    /// An orderly end: the files are closed.
    pub fn stop(&mut self) {
        self.enter(Phase::Stop);
        (self.core, self.store) = (None, None);
    }

    /// Kills the process: what it has written is there, nothing is closed.
    pub fn kill(&mut self) {
        let images = self.images();
        self.disks.0.stop_recording();
        self.disks.1.stop_recording();
        (self.core, self.store) = (None, None);
        self.disks = (
            Disk::holding(images.0).record(&self.tape, Which::Hot),
            Disk::holding(images.1).record(&self.tape, Which::Archive),
        );
    }

    fn step(&mut self, batch: Vec<Command>) {
        let (begun, now) = (self.tape.len(), self.clock.now());
        self.core().step(batch, now).expect("the disk works");
        let state = State::of(self.store()).expect("the disk works");
        let answered = self.delivered.load(Ordering::SeqCst);
        self.push(begun, answered, state);
    }

    fn push(&mut self, begun: usize, answered: usize, state: State) {
        self.history.steps.push(Step {
            begun,
            answered,
            state,
            completed: Vec::new(),
            released: Vec::new(),
            keyed: Vec::new(),
            keys_are_over: false,
            granted: Vec::new(),
            removed: BTreeSet::new(),
        });
    }

    /// Works on the closed files as an operator's command does; what they hold stays the same.
    pub fn work_on_files(&mut self, phase: Phase, work: impl FnOnce(&mut Database, &mut Database)) {
        self.enter(phase);
        let open = |disk: &Disk| Database::builder().create_with_backend(disk.clone());
        let mut archive = open(&self.disks.1).expect("it is whole");
        work(&mut open(&self.disks.0).expect("it is whole"), &mut archive);
    }

    fn last(&mut self) -> &mut Step {
        self.history.steps.last_mut().expect("stepped")
    }

    /// A round of the mover; between its halves other things may happen.
    pub fn move_finished(&mut self, between: impl FnOnce(&mut Self)) {
        self.enter(Phase::Copy);
        let at_once = 1 + self.dice.roll(8);
        let query = self.core().query();
        let copied = query.copy_finished(at_once, 1 + at_once * 4).expect("the disk works");
        between(self);
        self.enter(Phase::LetGo);
        let (reply, _) = oneshot::channel();
        self.step(vec![Command::Archived { copied, reply }]);
    }

    /// A step of retention.
    pub fn remove_finished(&mut self) {
        self.enter(Phase::Uncount);
        let (now, most) = (self.clock.now().mono, 1 + self.dice.roll(4));
        let query = self.core().query();
        let due = query.due(&Retention::days(0), now, most).expect("the disk works");
        let (reply, mut answer) = oneshot::channel();
        self.step(vec![Command::BeginRemoval { due, reply }]);
        let tasks = answer.try_recv().expect("answered").expect("always possible");
        self.last().removed = tasks.iter().copied().collect();
        self.forget(&tasks.iter().copied().collect());
        self.enter(Phase::Remove);
        query.remove_archived(&tasks).expect("the disk works");
        self.step(vec![Command::Removed { tasks, reply: oneshot::channel().0 }]);
    }

    /// A batch of some commands, and what was answered.
    pub fn work(&mut self) {
        self.enter(Phase::Work);
        let passed = [5, 1_000, 400_000][self.dice.roll(8).saturating_sub(5)];
        self.clock.pass_ms(passed);
        let mut batch = Vec::new();
        let mut answers = Answers::default();
        for _ in 0..1 + self.dice.roll(4) {
            add_any(&mut self.dice, &self.tasks, &self.held, &mut batch, &mut answers);
        }
        let keys_are_over = self.dice.one_in(12);
        if keys_are_over {
            self.clock.pass_ms(KEYS_ARE_OVER_MS);
            self.keyed.clear();
        }
        self.step(batch);
        self.last().keys_are_over = keys_are_over;
        self.note(answers);
    }

    fn note(&mut self, mut answers: Answers) {
        for (new, key, mut created) in answers.created {
            let answer = created.try_recv().expect("answered");
            key.iter().for_each(|key| self.keyed.hold_against(key, &new, &answer));
            let Ok(view) = answer else { continue };
            self.tasks.push(view.task.id);
            self.must_tell_of(&view.task.id);
            if let Some(key) = key {
                self.keyed.insert(key.clone(), new.clone(), view.clone());
                self.last().keyed.push((key, new, view));
            }
        }
        let mut leases = Vec::new();
        for mut leased in answers.leased {
            leases.extend(leased.try_recv().ok().and_then(Result::ok).map(|answer| answer.lease));
        }
        for claimed in &mut answers.claimed {
            let answer = claimed.try_recv().ok().and_then(Result::ok).flatten();
            leases.extend(answer.map(|answer| answer.lease));
        }
        for lease in leases {
            let known = self.fences.insert(lease.task_id, lease.fence);
            assert!(
                known.is_none_or(|known| known < lease.fence),
                "{lease:?} after {known:?} (P3)"
            );
            self.held.push((lease.task_id, lease.id));
            self.last().granted.push((lease.task_id, lease.fence));
            self.must_tell_of(&lease.id);
        }
        for (lease, mut answer) in answers.completed {
            let Ok(Ok(done)) = answer.try_recv() else { continue };
            let task = done.task.task.id;
            let known = self.completed.insert(lease, (task, done.outcome.clone()));
            let is_same = |(_, known)| objects::is_same(&known, &done.outcome);
            assert!(known.is_none_or(is_same), "{lease} (P7)");
            self.must_tell_of(&done.outcome.artifact_id);
            self.last().completed.push((task, lease, done.outcome));
        }
        for mut added in answers.added {
            let Ok(Ok(file)) = added.try_recv() else { continue };
            self.must_tell_of(&file.artifact_id);
        }
        for (lease, mut answer) in answers.released {
            let Ok(Ok(view)) = answer.try_recv() else { continue };
            let task = view.task.id;
            if self.released.insert(lease, task).is_none() {
                self.last().released.push((task, lease));
                self.must_tell_of(&lease);
            }
        }
        if self.held.len() > 12 {
            self.held.remove(0);
        }
    }

    /// What was answered stands in the store, or the states that follow prove nothing.
    fn must_tell_of(&mut self, id: &impl Debug) {
        let text = format!("{id:?}");
        assert!(self.last().state.tells_of(&text), "{text} was answered and is not there");
    }
}
