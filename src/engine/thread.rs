//! The writer's thread, its bounded channel, and the handle that everyone else holds.
//!
//! The thread takes everything that waits (no artificial delay: a lone command commits at once) and
//! sleeps until the next deadline otherwise. Must stay true: a full channel answers at once; after a
//! failed commit nothing more is written and the process is told to end. Not here: decisions (`core`).

use super::batch::Delivery;
use super::core::{Core, RandomIds};
use super::query::Query;
use super::{
    AgentLimits, Backlog, ByHand, Changed, ClaimAnswer, Command, Completed, ConfigChange,
    EngineError, Events, LeaseAnswer, LeaseView, NewLease, Reply, TaskLogs, TaskView, WorkerView,
};
use crate::clock::Clock;
use crate::domain::{
    self, Audit, HandBack, IdempotencyKey, LeaseClaim, LeaseId, ListedAgent, NewFile, NewTask,
    Registration, ReturnedFile, Sessions, TaskId, WorkerId,
};
use crate::store::{Compacted, Copied, DueTask, Store, StoreError};
use rustix::process::setpriority_process;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait for the writer.
const CHANNEL_SLOTS: usize = 4_096;
/// Commands that one commit may hold.
const BATCH_COMMANDS: usize = 512;
/// Of the scale from 0 to 19; enough to give way, little enough to keep up beside a full load.
const ASIDE_NICENESS: i32 = 5;
/// Bytes of prompts and outputs from which on a batch takes no more.
const BATCH_BYTES: usize = 16 << 20;

/// The handle: commands for the writer, reads beside it.
#[derive(Clone)]
pub struct Engine {
    commands: SyncSender<Command>,
    query: Query,
    events: Arc<Events>,
    logs: Arc<TaskLogs>,
    backlog: watch::Receiver<Backlog>,
    pushed: watch::Receiver<()>,
}

/// The running writer.
pub struct EngineThread {
    thread: JoinHandle<()>,
    /// Tells why the writer ended before it was asked to; closed without a word when it panicked.
    pub failed: oneshot::Receiver<StoreError>,
    answers: mpsc::UnboundedReceiver<Delivery>,
}

/// Rebuilds memory from the store and starts the writer.
pub fn start(
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    random: RandomIds,
    agent_limits: AgentLimits,
    pushes: bool,
) -> Result<(Engine, EngineThread), StoreError> {
    let mut core = Core::open_limited(store, random, clock.now(), agent_limits)?;
    if pushes {
        core.push();
    }
    // One wake-up of the runtime for all answers of a batch; bounded by the callers that wait.
    let (deliveries, answers) = mpsc::unbounded_channel();
    core.deliver_by(move |delivery| {
        if let Err(left) = deliveries.send(delivery) {
            left.0.hand_out();
        }
    });
    let (commands, inbox) = sync_channel(CHANNEL_SLOTS);
    let (tell, failed) = oneshot::channel();
    let engine = Engine {
        commands,
        query: core.query(),
        events: core.events.clone(),
        logs: core.logs.clone(),
        backlog: core.visible.backlog.subscribe(),
        pushed: core.visible.pushed.subscribe(),
    };
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || {
            if let Err(error) = run(core, &inbox, &*clock) {
                log::error!("writer stopped: {error}");
                // Whoever still asks is answered by the closed channel.
                let _ = tell.send(error);
            }
        })
        .map_err(|error| StoreError::Io(format!("cannot start the writer's thread: {error}")))?;
    Ok((engine, EngineThread { thread, failed, answers }))
}

fn run(mut core: Core, inbox: &Receiver<Command>, clock: &dyn Clock) -> Result<(), StoreError> {
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let first = match core.next_wake() {
            Some(due) => inbox.recv_timeout(due.from_now(clock.now().mono)),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut next = match first {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut stop = false;
        while let Some(command) = next {
            stop |= matches!(command, Command::Stop);
            bytes += command.bytes();
            batch.push(command);
            let full = batch.len() >= BATCH_COMMANDS || bytes >= BATCH_BYTES;
            next = if full || stop { None } else { inbox.try_recv().ok() };
        }
        core.step(batch, clock.now())?;
        if stop {
            return Ok(());
        }
    }
}

impl Command {
    /// How much text a command brings along, roughly.
    fn bytes(&self) -> usize {
        match self {
            Command::Create { new, .. } => new.spec.prompt.len(),
            Command::Complete { completed: Some(fields), .. } => {
                fields.output.as_ref().map_or(0, String::len)
            }
            _ => 0,
        }
    }
}

impl EngineThread {
    /// Hands out answers until the writer ends; to be run where the callers wait.
    pub fn hand_out_answers(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let (_, none) = mpsc::unbounded_channel();
        let mut answers = std::mem::replace(&mut self.answers, none);
        async move {
            while let Some(delivery) = answers.recv().await {
                delivery.hand_out();
            }
        }
    }

    /// Waits until the writer has ended and the files are closed.
    pub fn join(self) {
        // A panic of the writer has been told through `failed`.
        let _ = self.thread.join();
    }
}

impl Engine {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Busy,
            TrySendError::Disconnected(_) => EngineError::Stopping,
        })?;
        answer.await.unwrap_or(Err(EngineError::Stopping))
    }

    /// The new task; under a key that has made one already, that one as it was made.
    pub async fn create(
        &self,
        new: NewTask,
        key: Option<IdempotencyKey>,
    ) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::Create { new: Box::new(new), key, reply }).await
    }

    pub async fn lease(&self, task: TaskId, lease: NewLease) -> Result<LeaseAnswer, EngineError> {
        self.ask(|reply| Command::Lease { task, lease, reply }).await
    }

    /// Waits up to `wait_ms` milliseconds for a task; None when none came.
    pub async fn claim(
        &self,
        worker: WorkerId,
        ttl_seconds: Option<u32>,
        wait_ms: u64,
    ) -> Result<Option<ClaimAnswer>, EngineError> {
        self.ask(|reply| Command::Claim { worker, ttl_seconds, wait_ms, reply }).await
    }

    /// The same on behalf of a worker that is called with its tasks. An error when it is none of those.
    pub async fn claim_for(
        &self,
        worker: WorkerId,
        wait_ms: u64,
    ) -> Result<Option<ClaimAnswer>, EngineError> {
        self.ask(|reply| Command::ClaimFor { worker, wait_ms, reply }).await
    }

    /// Keeps the lease of a task that was pushed.
    pub async fn keep(&self, task: TaskId, lease: LeaseId) -> Result<LeaseView, EngineError> {
        self.ask(|reply| Command::Keep { task, lease, reply }).await
    }

    pub async fn heartbeat(
        &self,
        task: TaskId,
        claim: LeaseClaim,
    ) -> Result<LeaseView, EngineError> {
        self.ask(|reply| Command::Heartbeat { task, claim, reply }).await
    }

    /// `completed`: None when the fields are wrong, which is said after lease and state.
    pub async fn complete(
        &self,
        task: TaskId,
        claim: LeaseClaim,
        completed: Option<domain::Completed>,
    ) -> Result<Completed, EngineError> {
        let completed = completed.map(Box::new);
        self.ask(|reply| Command::Complete { task, claim, completed, reply }).await
    }

    /// Takes a file that has arrived from the holder of the lease.
    pub async fn add_file(
        &self,
        task: TaskId,
        claim: LeaseClaim,
        file: NewFile,
    ) -> Result<ReturnedFile, EngineError> {
        let file = Box::new(file);
        self.ask(|reply| Command::AddFile { task, claim, file, reply }).await
    }

    /// Takes a task back from its worker; `given` as in `complete`.
    pub async fn hand_back(
        &self,
        task: TaskId,
        claim: LeaseClaim,
        given: Option<HandBack>,
    ) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::HandBack { task, claim, given, reply }).await
    }

    pub async fn requeue(&self, task: TaskId) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::Requeue { task, reply }).await
    }

    pub async fn cancel(&self, task: TaskId) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::Cancel { task, reply }).await
    }

    /// Requeues or cancels the first of these tasks; those for which it is too late are left alone.
    pub async fn many_by_hand(
        &self,
        tasks: Vec<TaskId>,
        what: ByHand,
    ) -> Result<Changed, EngineError> {
        self.ask(|reply| Command::Many { tasks, what, reply }).await
    }

    /// The worker, and whether it is new.
    pub async fn register(
        &self,
        id: WorkerId,
        registration: Registration,
    ) -> Result<(WorkerView, bool), EngineError> {
        let registration = Box::new(registration);
        self.ask(|reply| Command::Register { id, registration, reply }).await
    }

    /// `on`: the worker takes no more tasks; off: it takes tasks again, whatever it rests from.
    pub async fn drain(&self, worker: WorkerId, on: bool) -> Result<WorkerView, EngineError> {
        self.ask(|reply| Command::Drain { worker, on, reply }).await
    }

    pub async fn remove_worker(&self, worker: WorkerId) -> Result<(), EngineError> {
        self.ask(|reply| Command::Remove { worker, reply }).await
    }

    pub async fn configure(&self, change: ConfigChange) -> Result<(), EngineError> {
        self.ask(|reply| Command::Configure { change, reply }).await
    }

    /// Keeps what is known of sessions; `ended` tells of one that was ended.
    pub async fn keep_sessions(
        &self,
        sessions: Sessions,
        ended: Option<Audit>,
    ) -> Result<(), EngineError> {
        self.ask(|reply| Command::KeepSessions { sessions, ended, reply }).await
    }

    /// Takes in Membridge's list of agents, each once; says for how many there was no room.
    pub async fn sync(&self, agents: Vec<ListedAgent>) -> Result<usize, EngineError> {
        self.ask(|reply| Command::Sync { agents, reply }).await
    }

    /// Lets the hot file go of what stands in the archive.
    pub async fn archived(&self, copied: Copied) -> Result<(), EngineError> {
        self.ask(|reply| Command::Archived { copied, reply }).await
    }

    /// Begins to remove tasks whose time is over; says which of them are to leave the archive now.
    pub async fn begin_removal(&self, due: Vec<DueTask>) -> Result<Arc<HashSet<u64>>, EngineError> {
        self.ask(|reply| Command::BeginRemoval { due, reply }).await
    }

    /// These have left the archive.
    pub async fn removed(&self, tasks: Arc<HashSet<u64>>) -> Result<(), EngineError> {
        self.ask(|reply| Command::Removed { tasks, reply }).await
    }

    /// Gives the hot file's free space back, if there is much; everybody who writes waits meanwhile.
    pub async fn compact_hot(&self) -> Result<Option<Compacted>, EngineError> {
        self.ask(|reply| Command::CompactHot { reply }).await
    }

    /// Reports a worker's sign of life; lost when the channel is full, the next one comes soon.
    pub fn heard_of(&self, worker: WorkerId) {
        let _ = self.commands.try_send(Command::HeardOf { worker });
    }

    /// Answers every waiting claim now; later ones do not wait.
    pub fn release_waiting(&self) {
        let _ = self.commands.try_send(Command::Release);
    }

    /// Ends the writer after everything that was asked before. Blocks while the channel is full.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// Reads on a thread that may block; the closure holds its snapshot for one page at most. After an
    /// I/O error it reads once more, from files opened anew.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Query) -> Result<T, EngineError> + Send + Sync + 'static,
    ) -> Result<T, EngineError> {
        self.read_on(read, |work| {
            drop(tokio::task::spawn_blocking(work));
            true
        })
        .await
    }

    async fn read_on<T: Send + 'static>(
        &self,
        read: impl Fn(&Query) -> Result<T, EngineError> + Send + Sync + 'static,
        begin: impl Fn(Box<dyn FnOnce() + Send>) -> bool,
    ) -> Result<T, EngineError> {
        let read = Arc::new(read);
        let once = || async {
            let (query, read) = (self.query.clone(), read.clone());
            let (tell, told) = oneshot::channel();
            // Who asked may be gone.
            let work = move || drop(tell.send(read(&query)));
            let cut_off = || Err(EngineError::Store("a read was cut off".into()));
            if !begin(Box::new(work)) {
                return cut_off();
            }
            told.await.unwrap_or_else(|_| cut_off())
        };
        match once().await {
            Err(EngineError::Store(why)) => {
                log::warn!("a read failed, the files are looked at: {why}");
                self.ask(|reply| Command::Mend { reply }).await?;
                once().await
            }
            other => other,
        }
    }

    /// The same for work in the background, on a thread of its own that gives way to those for whom
    /// somebody waits.
    pub async fn read_aside<T: Send + 'static>(
        &self,
        read: impl Fn(&Query) -> Result<T, EngineError> + Send + Sync + 'static,
    ) -> Result<T, EngineError> {
        self.read_on(read, |work| {
            let begin = move || {
                // Without it the work is done all the same.
                let _ = setpriority_process(None, ASIDE_NICENESS);
                work();
            };
            let thread = std::thread::Builder::new().name("aside".into());
            thread.spawn(begin).map(drop).is_ok()
        })
        .await
    }

    /// Reads that need no disk.
    pub fn query(&self) -> &Query {
        &self.query
    }

    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// What running tasks say of themselves.
    pub fn logs(&self) -> &Arc<TaskLogs> {
        &self.logs
    }

    /// Wakes when it changes who is called with tasks, or where.
    pub fn pushed(&self) -> watch::Receiver<()> {
        self.pushed.clone()
    }

    /// How much waits for the way to the archive; changes wake.
    pub fn backlog(&self) -> watch::Receiver<Backlog> {
        self.backlog.clone()
    }
}
