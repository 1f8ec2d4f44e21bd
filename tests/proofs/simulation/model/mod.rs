//! The reference: the rules of DESIGN §3 and the contract once more, as plainly as they can be said.
//!
//! It has no files, no snapshots, no index but the tasks by number, and looks at everything that lives
//! whenever it wants to know something. It calls no function of `domain` or `engine`. Wall time is
//! only ever copied into what is shown (P4). Must stay true: for the same asks at the same time it
//! says exactly what the engine must answer, tell and keep. Not here: files and crashes, of which it
//! knows only what a restart forgets.

pub mod again;
mod called;
mod moving;
mod tasks;
mod workers;

use super::facts::{
    Answer, Ask, Call, LeaseFacts, NewTaskFacts, OutcomeFacts, RestFacts, TaskFacts,
};
use again::{Age, Waits};
use bloom_runtime::clock::Now;
use bloom_runtime::domain::{LeaseClaim, LeaseEnd, NewTask, Refusal, TaskStatus, WorkerStatus};
use bloom_runtime::engine::Settings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A task with everything that is true of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub facts: TaskFacts,
    pub spec: NewTaskFacts,
    /// When its lease ends, on the server's monotonic clock.
    pub due: u64,
    /// The last sign of life that was written down, and not only remembered.
    pub heard_on_disk: i64,
    /// What it waits for besides a worker while it is queued.
    pub waits: Waits,
    /// Its grants when it was last put into the queue by create or by a person.
    pub fresh_at: u32,
    pub outcomes: Vec<OutcomeFacts>,
    pub in_hot: bool,
    /// Its copy in the archive, as old as it may be.
    pub archived: Option<TaskFacts>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub seq: u64,
    pub said: WorkerStatus,
    pub claude_cli: bool,
    pub max_concurrency: u32,
    pub labels: Vec<String>,
    pub registered: i64,
    pub heard: Option<i64>,
    pub heard_on_disk: Option<i64>,
    pub silent_at: u64,
    pub alive: bool,
    pub draining: bool,
    pub rest: Option<Rest>,
    /// Where it can be called with tasks, if it says so.
    pub url: String,
    pub program: Option<String>,
    /// It asks for tasks itself, so that it is not called.
    pub claims: bool,
    pub provider_failures: u32,
}

/// A wish that was carried out under a key, and its answer.
#[derive(Clone, Debug)]
pub struct Made {
    pub wish: Rc<NewTask>,
    pub answer: Answer,
    pub age_ms: u64,
}

/// A rest, and when it is over on the server's monotonic clock.
#[derive(Clone, Debug)]
pub struct Rest {
    pub due: u64,
    pub facts: RestFacts,
}

#[derive(Clone, Debug)]
pub struct Wait {
    pub call: u64,
    pub worker: String,
    pub ttl_seconds: Option<u32>,
    pub until: u64,
}

/// One change as it is told: its event, and its line in the audit trail if it leaves one.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub seq: u64,
    pub kind: &'static str,
    pub id: String,
    pub audit: Option<Line>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub at: i64,
    pub entity: &'static str,
    pub id: String,
    pub actor: String,
    pub detail: Option<String>,
}

/// What the mover has copied and not yet let go.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub tasks: Vec<TaskFacts>,
    pub records: usize,
    pub changes: usize,
}

/// Everything that is true.
#[derive(Clone, Debug)]
pub struct Model {
    pub live: BTreeMap<u64, Row>,
    /// Shared with the copies of the model that a doubtful commit needs.
    pub finished: BTreeMap<u64, Rc<Row>>,
    /// The finished ones that the hot file still holds.
    pub unmoved: BTreeSet<u64>,
    pub workers: BTreeMap<String, Member>,
    /// In order of arrival.
    pub waiting: Vec<Wait>,
    pub released: bool,
    pub last_task: u64,
    pub last_lease: u64,
    pub last_outcome: u64,
    pub last_change: u64,
    pub settings: Settings,
    pub counts: [u64; 7],
    /// Changes in each journal record of the hot file, oldest first.
    pub journal: VecDeque<usize>,
    pub copy: Copy,
    /// How many tasks of an agent may be leased at a time.
    pub limits: Vec<(String, u32)>,
    /// Whether the server calls workers with tasks at all.
    pub pushes: bool,
    /// What was made under which key, at which age of the store.
    pub keys: BTreeMap<String, Made>,
    age: Age,
    now: Now,
    /// Of the last step: what was told, which tasks changed, whether anything was to be written.
    pub told: Vec<Change>,
    pub touched: BTreeSet<u64>,
    pub writes: bool,
}

type Told = Result<Answer, Refusal>;

fn is_live(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Queued | TaskStatus::Leased | TaskStatus::Running)
}

impl Model {
    pub fn new(pushes: bool) -> Self {
        Model {
            live: BTreeMap::new(),
            finished: BTreeMap::new(),
            unmoved: BTreeSet::new(),
            workers: BTreeMap::new(),
            waiting: Vec::new(),
            released: false,
            last_task: 0,
            last_lease: 0,
            last_outcome: 0,
            last_change: 0,
            settings: Settings::default(),
            counts: [0; 7],
            journal: VecDeque::new(),
            copy: Copy::default(),
            limits: Vec::new(),
            pushes,
            keys: BTreeMap::new(),
            age: Age::default(),
            now: Now { mono: bloom_runtime::clock::Mono(0), wall: 0 },
            told: Vec::new(),
            touched: BTreeSet::new(),
            writes: false,
        }
    }

    pub fn row(&self, number: u64) -> Option<&Row> {
        self.live.get(&number).or_else(|| self.finished.get(&number).map(|row| &**row))
    }

    /// What the hot file holds.
    pub fn hot_rows(&self) -> impl Iterator<Item = (&u64, &Row)> {
        let unmoved = self.unmoved.iter().map(|number| (number, &*self.finished[number]));
        self.live.iter().chain(unmoved)
    }

    pub fn rows(&self) -> impl Iterator<Item = (&u64, &Row)> {
        self.live.iter().chain(self.finished.iter().map(|(number, row)| (number, &**row)))
    }

    /// What is due, then the calls in their order, then those who wait. The answers by call.
    pub fn step(&mut self, now: Now, calls: &[Call]) -> BTreeMap<u64, Answer> {
        self.now = now;
        self.told.clear();
        self.touched.clear();
        self.writes = false;
        let mut answers = BTreeMap::new();
        self.end_overdue_leases();
        self.notice_times();
        self.end_rests();
        self.notice_silence();
        let mono = now.mono.0;
        for wait in self.waiting.extract_if(.., |wait| wait.until <= mono) {
            answers.insert(wait.call, Answer::NoTask);
        }
        for call in calls {
            if let Some(answer) = self.take(call, &mut answers) {
                answers.insert(call.id, answer);
            }
        }
        self.serve_those_who_wait(&mut answers);
        if !self.told.is_empty() {
            self.journal.push_back(self.told.len());
            self.write_age();
            self.writes = true;
        }
        answers
    }

    fn take(&mut self, call: &Call, answers: &mut BTreeMap<u64, Answer>) -> Option<Answer> {
        let told = match &call.ask {
            Ask::Create { new, key } => self.create_once(new, key.as_ref()),
            Ask::Lease { task, worker, ttl_seconds } => self.lease(*task, worker, *ttl_seconds),
            Ask::Claim { worker, ttl_seconds, wait_ms } => {
                return self.claim(call, worker, *ttl_seconds, *wait_ms, answers);
            }
            Ask::ClaimFor { worker, wait_ms } => return self.claim_for(call, worker, *wait_ms),
            Ask::Heartbeat { task, claim } => self.heartbeat(*task, *claim, true),
            Ask::Keep { task, lease } => self.heartbeat(*task, LeaseClaim::Named(*lease), false),
            Ask::Complete { task, claim, fields } => self.complete(*task, *claim, fields.as_ref()),
            Ask::HandBack { task, claim, given } => self.hand_back(*task, *claim, given.as_ref()),
            Ask::Requeue(task) => self.requeue(*task),
            Ask::Cancel(task) => self.cancel(*task),
            Ask::Many { tasks, what } => Ok(self.many(tasks, *what)),
            Ask::Register { worker, registration } => self.register(worker, registration),
            Ask::Drain { worker, on } => self.drain(worker, *on),
            Ask::Remove(worker) => self.remove(worker),
            Ask::HeardOf(worker) => {
                self.heard_of(worker);
                return None;
            }
            Ask::Configure { settings, detail } => {
                if let Some(settings) = settings {
                    self.settings = settings.clone();
                }
                let singleton = || "singleton".to_string();
                let detail = Some(detail.clone());
                let line = self.line("runtime_config", singleton(), "admin", detail);
                self.tell("config_updated", singleton(), Some(line));
                Ok(Answer::Carried)
            }
            Ask::Archived(_) => {
                self.let_go();
                Ok(Answer::Carried)
            }
            Ask::Release => {
                self.released = true;
                for wait in self.waiting.drain(..) {
                    answers.insert(wait.call, Answer::NoTask);
                }
                return None;
            }
            Ask::Stop => {
                self.stop();
                return None;
            }
        };
        Some(told.unwrap_or_else(Answer::Refused))
    }

    /// The caller of this waiting claim has gone: nothing may be handed to it.
    pub fn hang_up(&mut self, call: u64) {
        self.waiting.retain(|wait| wait.call != call);
    }

    /// What a restart forgets and grants: nobody waits, every lease and every worker starts afresh.
    pub fn restart(&mut self, now: Now, limits: &[(String, u32)]) {
        self.now = now;
        self.limits = limits.to_vec();
        self.resume_waits(now);
        self.waiting.clear();
        self.released = false;
        self.copy = Copy::default();
        for row in self.live.values_mut() {
            let Some(lease) = &mut row.facts.lease else { continue };
            lease.heard = row.heard_on_disk;
            lease.expires = shown_end(now.wall, lease.ttl_seconds);
            row.facts.updated = lease.heard;
            row.due = after(now.mono.0, u64::from(lease.ttl_seconds) * 1000);
        }
        for member in self.workers.values_mut() {
            member.heard = member.heard_on_disk;
            member.silent_at = after(now.mono.0, workers::SILENCE_MS);
            member.alive = true;
        }
    }

    fn tell(&mut self, kind: &'static str, id: String, audit: Option<Line>) {
        self.last_change += 1;
        self.told.push(Change { seq: self.last_change, kind, id, audit });
    }

    fn line(&self, entity: &'static str, id: String, actor: &str, detail: Option<String>) -> Line {
        Line { at: self.now.wall, entity, id, actor: actor.to_string(), detail }
    }

    /// Ends the lease of a live task and leaves the task in this status.
    fn end_lease(&mut self, number: u64, end: LeaseEnd, outcome: Option<u64>, status: TaskStatus) {
        let ended = self.now.wall;
        let facts = &mut self.live.get_mut(&number).expect("it lives").facts;
        if let Some(lease) = facts.lease.take() {
            let (code, note) = (None, None);
            facts.past.push(super::facts::PastFacts { lease, ended, end, outcome, code, note });
            // A task remembers its last hundred leases.
            while facts.past.len() > 100 {
                facts.past.remove(0);
            }
        }
        self.put_into(number, status);
    }

    /// Why the lease that has just ended did so.
    fn give_reason(&mut self, number: u64, code: Option<String>, note: Option<String>) {
        let row = match self.live.get_mut(&number) {
            Some(row) => row,
            None => Rc::make_mut(self.finished.get_mut(&number).expect("somewhere it is")),
        };
        let past = row.facts.past.last_mut().expect("it has just ended");
        (past.code, past.note) = (code, note);
    }

    /// Changes a task's status, and the place where it is kept with it.
    fn put_into(&mut self, number: u64, status: TaskStatus) {
        let row = match self.live.remove(&number) {
            Some(row) => Some(row),
            None => self.finished.remove(&number).map(Rc::unwrap_or_clone),
        };
        let mut row = row.expect("somewhere it is");
        self.counts[row.facts.status as usize] -= 1;
        self.counts[status as usize] += 1;
        row.facts.status = status;
        row.facts.updated = self.now.wall;
        row.in_hot = true;
        row.waits = Waits::of(&row.facts, self.age(), self.now.wall);
        self.touched.insert(number);
        if is_live(status) {
            self.unmoved.remove(&number);
            self.live.insert(number, row);
        } else {
            self.unmoved.insert(number);
            self.finished.insert(number, Rc::new(row));
        }
    }
}

/// The first tick of which it is certain that so many milliseconds have passed since this one.
fn after(mono: u64, ms: u64) -> u64 {
    mono + ms + 1
}

fn shown_end(wall: i64, ttl_seconds: u32) -> i64 {
    wall.saturating_add(i64::from(ttl_seconds) * 1000)
}

fn grant_facts(number: u64, fence: u32, worker: &str, ttl_seconds: u32, wall: i64) -> LeaseFacts {
    LeaseFacts {
        number,
        fence,
        worker: worker.to_string(),
        ttl_seconds,
        started: wall,
        heard: wall,
        expires: shown_end(wall, ttl_seconds),
    }
}
