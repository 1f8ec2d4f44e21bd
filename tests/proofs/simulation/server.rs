//! The real engine over the real store, on simulated disks and clocks: started, stepped, killed.
//!
//! Must stay true: time is what the world says; answers are read only after the step; a killed server
//! writes nothing more. Not here: what the answers should be (`model`).

use super::drive::Drive;
use super::facts::{self, Answer, Ask, Call};
use crate::disk::Disk;
use bloom_runtime::clock::{Mono, Now};
use bloom_runtime::domain::{Audit, EventKind, WorkerId};
use bloom_runtime::engine::{
    ClaimAnswer, Command, Completed, ConfigChange, Core, EngineError, LeaseAnswer, LeaseView,
    NewLease, Query, Reply, TaskView, WorkerView,
};
use bloom_runtime::store::{Copied, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// Both disks of a machine, which outlive its processes.
#[derive(Clone, Debug, Default)]
pub struct Disks {
    pub hot: Disk,
    pub archive: Disk,
}

/// A running process.
pub struct Server {
    pub store: Arc<Store>,
    pub core: Core,
    pub query: Query,
    pub hot: Drive,
    pub archive: Drive,
    /// What the mover has copied and not yet let go.
    pub copied: Option<Copied>,
    disks: Disks,
    /// The true time at which its monotonic clock showed `mono_base` milliseconds.
    started_us: u64,
    mono_base: u64,
    pending: BTreeMap<u64, Listener>,
    synced_at_delivery: Arc<AtomicU64>,
}

/// What a step did besides its answers.
pub struct Stepped {
    pub failed: Option<String>,
    pub answers: BTreeMap<u64, Answer>,
    /// Syncs of the hot disk: before the step, when the answers left, after the step.
    pub syncs: [u64; 3],
}

type Listener = Box<dyn FnMut() -> Option<Answer>>;

fn listen<T: 'static>(say: impl Fn(T) -> Answer + 'static) -> (Reply<T>, Listener) {
    let (reply, mut answer) = oneshot::channel::<Result<T, EngineError>>();
    let listener = move || match answer.try_recv() {
        Ok(Ok(told)) => Some(say(told)),
        Ok(Err(EngineError::Refused(why))) => Some(Answer::Refused(why)),
        Ok(Err(_)) | Err(TryRecvError::Closed) => Some(Answer::Unknown),
        Err(TryRecvError::Empty) => None,
    };
    (reply, Box::new(listener))
}

fn say_task(view: TaskView) -> Answer {
    Answer::Task(facts::task(&view.task), facts::spec(&view))
}

fn say_lease(told: LeaseAnswer) -> Answer {
    let task = told.lease.task_id.seq();
    Answer::Leased(task, facts::lease_view(&told.lease), facts::worker(&told.worker))
}

fn say_claim(told: Option<ClaimAnswer>) -> Answer {
    match told {
        Some(ClaimAnswer { task, lease }) => {
            let spec = facts::spec(&task);
            Answer::Claimed(facts::task(&task.task), spec, facts::lease_view(&lease))
        }
        None => Answer::NoTask,
    }
}

fn say_beat(lease: LeaseView) -> Answer {
    Answer::Beat(facts::lease_view(&lease))
}

fn say_done(told: Completed) -> Answer {
    Answer::Done(facts::done(&told.task.task, &told.outcome))
}

fn say_worker((view, is_new): (WorkerView, bool)) -> Answer {
    Answer::Registered(facts::worker(&view), is_new)
}

fn carried((): ()) -> Answer {
    Answer::Carried
}

/// The engine's command for an ask, and the ear of its caller.
fn command(ask: Ask) -> (Command, Option<Listener>) {
    fn with<T: 'static>(
        say: impl Fn(T) -> Answer + 'static,
        make: impl FnOnce(Reply<T>) -> Command,
    ) -> (Command, Option<Listener>) {
        let (reply, listener) = listen(say);
        (make(reply), Some(listener))
    }
    match ask {
        Ask::Create { new, key } => {
            with(say_task, |reply| Command::Create { new: Box::new(new), key, reply })
        }
        Ask::Lease { task, worker, ttl_seconds } => {
            let lease = NewLease { worker, ttl_seconds };
            with(say_lease, |reply| Command::Lease { task, lease, reply })
        }
        Ask::Claim { worker, ttl_seconds, wait_ms } => {
            let worker = WorkerId(worker);
            with(say_claim, |reply| Command::Claim { worker, ttl_seconds, wait_ms, reply })
        }
        Ask::ClaimFor { worker, wait_ms } => {
            let worker = WorkerId(worker);
            with(say_claim, |reply| Command::ClaimFor { worker, wait_ms, reply })
        }
        Ask::Keep { task, lease } => with(say_beat, |reply| Command::Keep { task, lease, reply }),
        Ask::Heartbeat { task, claim } => {
            with(say_beat, |reply| Command::Heartbeat { task, claim, reply })
        }
        Ask::Complete { task, claim, fields } => {
            let completed = fields.map(Box::new);
            with(say_done, |reply| Command::Complete { task, claim, completed, reply })
        }
        Ask::HandBack { task, claim, given } => {
            with(say_task, |reply| Command::HandBack { task, claim, given, reply })
        }
        Ask::Requeue(task) => with(say_task, |reply| Command::Requeue { task, reply }),
        Ask::Cancel(task) => with(say_task, |reply| Command::Cancel { task, reply }),
        Ask::Many { tasks, what } => {
            with(Answer::Many, |reply| Command::Many { tasks, what, reply })
        }
        Ask::Register { worker, registration } => {
            let (id, registration) = (WorkerId(worker), Box::new(registration));
            with(say_worker, |reply| Command::Register { id, registration, reply })
        }
        Ask::Drain { worker, on } => {
            let worker = WorkerId(worker);
            with(
                |view| Answer::Worker(facts::worker(&view)),
                |reply| Command::Drain { worker, on, reply },
            )
        }
        Ask::Remove(worker) => {
            let worker = WorkerId(worker);
            with(carried, |reply| Command::Remove { worker, reply })
        }
        Ask::HeardOf(worker) => (Command::HeardOf { worker: WorkerId(worker) }, None),
        Ask::Configure { settings, detail } => {
            let audit = Audit::of_config("admin", detail);
            let change = ConfigChange { settings, kind: EventKind::ConfigUpdated, audit };
            with(carried, |reply| Command::Configure { change, reply })
        }
        Ask::Archived(copied) => with(carried, |reply| Command::Archived { copied, reply }),
        Ask::Release => (Command::Release, None),
        Ask::Stop => (Command::Stop, None),
    }
}

impl Server {
    /// Starts a process on these disks. Its monotonic clock begins wherever it likes.
    pub fn start(
        disks: &Disks,
        now_us: u64,
        mono_base: u64,
        wall: i64,
        (limits, pushes): (&[(String, u32)], bool),
    ) -> Result<Server, String> {
        let (hot, archive) = (Drive::open(&disks.hot), Drive::open(&disks.archive));
        let store = Store::open_backends(hot.clone(), archive.clone());
        let store = Arc::new(store.map_err(|error| format!("does not open: {error}"))?);
        let now = Now { mono: Mono(mono_base), wall };
        let random = Box::new(|| facts::SALT);
        let mut core = Core::open_limited(store.clone(), random, now, limits.into())
            .map_err(|error| format!("does not rebuild: {error}"))?;
        if pushes {
            core.push();
        }
        let synced_at_delivery = Arc::new(AtomicU64::new(0));
        let (seen, disk) = (synced_at_delivery.clone(), disks.hot.clone());
        core.deliver_by(move |delivery| {
            seen.store(disk.syncs(), Ordering::SeqCst);
            delivery.hand_out();
        });
        Ok(Server {
            query: core.query(),
            store,
            core,
            hot,
            archive,
            copied: None,
            disks: disks.clone(),
            started_us: now_us,
            mono_base,
            pending: BTreeMap::new(),
            synced_at_delivery,
        })
    }

    /// What the server's clocks show; readings are rounded down.
    pub fn now(&self, now_us: u64, wall: i64) -> Now {
        Now { mono: Mono(self.mono_base + (now_us - self.started_us) / 1000), wall }
    }

    /// The true time at which the server wakes by itself.
    pub fn wakes_at(&self) -> Option<u64> {
        let due = self.core.next_wake()?;
        Some(self.started_us + due.0.saturating_sub(self.mono_base) * 1000)
    }

    /// Carries out what has arrived.
    pub fn step(&mut self, calls: Vec<Call>, now: Now) -> Stepped {
        let before = self.disks.hot.syncs();
        let mut commands = Vec::with_capacity(calls.len());
        for call in calls {
            let (command, listener) = command(call.ask);
            // Dropping the listener is how a caller goes away.
            if let Some(listener) = listener.filter(|_| !call.gone) {
                self.pending.insert(call.id, listener);
            }
            commands.push(command);
        }
        let failed = self.core.step(commands, now).err().map(|error| error.to_string());
        let delivered = self.synced_at_delivery.load(Ordering::SeqCst);
        let syncs = [before, delivered, self.disks.hot.syncs()];
        let mut answers = BTreeMap::new();
        self.pending.retain(|id, listener| match listener() {
            Some(answer) => {
                answers.insert(*id, answer);
                false
            }
            None => true,
        });
        Stepped { failed, answers, syncs }
    }

    /// The caller of this request goes away.
    pub fn hang_up(&mut self, call: u64) {
        self.pending.remove(&call);
    }

    /// One of its drives has failed, so that it will not answer another step.
    pub fn has_lost_a_drive(&self) -> bool {
        self.hot.is_dead() || self.archive.is_dead()
    }

    /// Calls that nobody has answered yet.
    pub fn unanswered(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    /// Kill -9: what is in memory is gone and nothing more is written.
    pub fn kill(self) {
        self.hot.fail_after(0);
        self.archive.fail_after(0);
    }
}
