//! Takes artifacts to S3, and objects away from there whose tasks are gone.
//!
//! Must stay true: the archive notes where a content lies only after S3 has given it back with its size and
//! its SHA-256; a crash repeats an upload of the same bytes under the same key. An object that fails alone
//! does not stop the others. While nothing waits it waits for a change, and costs nothing (P8); what it
//! holds in memory is bounded (P9). Not here: S3 (`artifacts`), what waits (`store::objects`).

use crate::artifacts::{Content, Fault, FaultKind, Objects, Place, Source};
use crate::clock::{Clock, Mono};
use crate::domain::StoredObject;
use crate::engine::{
    Engine, EngineError, Folder, Query, RandomIds, Upload, UploadSource, WaitingUpload,
    hexadecimal, system_random,
};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

/// Uploads under way, and those that are noted in one commit.
const AT_ONCE: usize = 4;
const NOTED_AT_ONCE: usize = 32;
/// Kibibytes of outputs that are held for uploads under way; the next one is read besides.
const HELD_KIB: usize = 4 << 10;
/// The pause after a failure; each further one is twice as long, give or take a fifth.
const PAUSE_MS: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 300_000;
/// Objects that are put aside alone; with more of them it is everyone's fault.
const ASIDE_MAX: usize = 1_000;

/// The duty, and what it remembers of failures.
pub struct Uploads {
    engine: Engine,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    random: Mutex<RandomIds>,
    held: Arc<Semaphore>,
    /// By the artifact's sequence: when it is tried again, and how often it has failed.
    aside: HashMap<u64, (Mono, u32)>,
    failures: u32,
    /// What was last said of a failure.
    said: Option<FaultKind>,
}

/// What became of the artifact with this sequence.
type Done = (u64, Result<StoredObject, Fault>);

/// What became of some uploads.
#[derive(Default)]
struct Round {
    stored: Vec<(u64, StoredObject)>,
    failed: Vec<(u64, Fault)>,
}

/// Runs until the server stops; an upload under way is begun again after the next start.
pub async fn run(
    engine: Engine,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut uploads = Uploads::new(engine, objects, clock);
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = uploads.keep_going() => {}
    }
}

impl Uploads {
    pub fn new(engine: Engine, objects: Arc<Objects>, clock: Arc<dyn Clock>) -> Uploads {
        Uploads {
            engine,
            objects,
            clock,
            random: Mutex::new(system_random()),
            held: Arc::new(Semaphore::new(HELD_KIB)),
            aside: HashMap::new(),
            failures: 0,
            said: None,
        }
    }

    async fn keep_going(&mut self) {
        let mut changes = self.engine.query().objects_changed();
        loop {
            changes.mark_unchanged();
            let fault = self.run_once().await.err();
            self.count().await;
            let pause = match fault {
                Some(fault) => {
                    self.tell(&fault);
                    let pause = self.backoff(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    // What is new fares no better, but is counted.
                    self.wait(pause, &mut changes).await;
                    continue;
                }
                None => {
                    self.failures = 0;
                    self.next_aside()
                }
            };
            let changed = changes.changed();
            let closed = match pause {
                None => {
                    self.heal();
                    changed.await.is_err()
                }
                Some(pause) => timeout(pause, changed).await.is_ok_and(|changed| changed.is_err()),
            };
            if closed {
                return;
            }
        }
    }

    /// Works off what waits, but for what was put aside alone.
    ///
    /// # Errors
    /// A fault that is everyone's; what is left waits.
    pub async fn run_once(&mut self) -> Result<(), Fault> {
        let mut after = 0;
        loop {
            let rows = self.read(move |query| query.waiting_uploads(after, NOTED_AT_ONCE)).await?;
            let Some(last) = rows.last() else { break };
            let is_first = std::mem::replace(&mut after, last.artifact) == 0;
            let now = self.clock.now().mono;
            let is_due = |row: &WaitingUpload| {
                self.aside.get(&row.artifact).is_none_or(|(due, _)| *due <= now)
            };
            let due: Vec<_> = rows.into_iter().filter(is_due).collect();
            let round = self.upload(due, is_first).await;
            self.note(round).await?;
        }
        self.delete_what_waits().await
    }

    /// Uploads some at a time, until all are done or a fault is everyone's.
    async fn upload(&self, rows: Vec<WaitingUpload>, is_first: bool) -> Round {
        let (mut round, mut under_way) = (Round::default(), JoinSet::new());
        let mut oldest = is_first;
        for row in rows {
            if under_way.len() >= AT_ONCE {
                round.take(under_way.join_next().await);
            }
            if round.failed.iter().any(|(_, fault)| fault.is_everyones()) {
                break;
            }
            let prepared = match self.read(move |query| prepare(query, row)).await {
                Ok(Some(prepared)) => prepared,
                // Retention was faster.
                Ok(None) => continue,
                Err(fault) => {
                    round.failed.push((row.artifact, fault));
                    break;
                }
            };
            let (key, since, content) = prepared;
            if std::mem::take(&mut oldest) {
                self.objects.progress.oldest(since);
            }
            let kib = match content.source {
                Source::Memory(_) => (content.bytes as usize).div_ceil(1024).clamp(1, HELD_KIB),
                Source::File(_) => 1,
            };
            let share = self.held.clone().acquire_many_owned(kib as u32).await;
            let share = share.expect("it is never closed");
            let objects = self.objects.clone();
            under_way.spawn(async move {
                let stored = put_and_verify(&objects, key, content).await;
                drop(share);
                (row.artifact, stored)
            });
        }
        while let Some(done) = under_way.join_next().await {
            round.take(Some(done));
        }
        round
    }

    /// Notes what was stored, and puts aside what failed alone.
    async fn note(&mut self, Round { stored, failed }: Round) -> Result<(), Fault> {
        let some_succeeded = !stored.is_empty();
        if some_succeeded {
            for (artifact, _) in &stored {
                self.aside.remove(artifact);
            }
            self.read(move |query| query.mark_stored(&stored)).await?;
            self.failures = 0;
            self.objects.progress.succeeded(self.clock.now().wall);
            self.count().await;
        }
        let mut worst = None;
        for (artifact, fault) in failed {
            if fault.is_everyones() {
                return Err(fault);
            }
            let tries = self.aside.get(&artifact).map_or(0, |(_, tries)| tries + 1);
            let pause = self.backoff(tries).as_millis() as u64;
            self.aside.insert(artifact, (self.clock.now().mono.after_ms(pause), tries));
            worst = Some(fault);
        }
        match worst {
            Some(fault) if !some_succeeded || self.aside.len() > ASIDE_MAX => {
                // Nothing went through: that is not for one object's sake.
                self.aside.clear();
                Err(fault)
            }
            Some(fault) => {
                self.tell(&fault);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn delete_what_waits(&mut self) -> Result<(), Fault> {
        loop {
            let rows = self.read(|query| query.waiting_deletions(NOTED_AT_ONCE)).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for (bucket, key) in &rows {
                self.objects.s3.delete(Place { bucket, key }).await?;
            }
            self.read(move |query| query.mark_deleted(&rows)).await?;
            self.objects.progress.succeeded(self.clock.now().wall);
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Query) -> Result<T, EngineError> + Send + Sync + 'static,
    ) -> Result<T, Fault> {
        let read = self.engine.read_aside(read).await;
        read.map_err(|error| Fault::new(FaultKind::Local, error.to_string()))
    }

    async fn count(&self) {
        // A count that cannot be had stays as it was.
        if let Ok(waiting) = self.read(|query| query.objects_waiting()).await {
            self.objects.progress.waits(waiting);
        }
    }

    /// Waits for so long; what comes meanwhile is counted.
    async fn wait(&self, pause: Duration, changes: &mut watch::Receiver<()>) {
        let counting = async {
            while changes.changed().await.is_ok() {
                self.count().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = counting => {}
        }
    }

    /// How long until the next one that was put aside.
    fn next_aside(&self) -> Option<Duration> {
        let now = self.clock.now().mono;
        self.aside.values().map(|(due, _)| due.from_now(now)).min()
    }

    fn backoff(&self, failures: u32) -> Duration {
        let pause = PAUSE_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
        let fifth = pause / 5;
        let more = (self.random.lock().expect("no holder panics"))() as u64 % (2 * fifth + 1);
        Duration::from_millis(pause - fifth + more)
    }

    /// One line when it begins to fail, and when it fails in another way.
    fn tell(&mut self, fault: &Fault) {
        let is_ours = fault.kind == FaultKind::Local;
        let connected = (!is_ours).then_some(!fault.is_everyones());
        self.objects.progress.failed(fault.words.clone(), connected);
        if self.said.replace(fault.kind) != Some(fault.kind) {
            let known = self.objects.progress.known();
            log::warn!("s3: {fault}; what waits is kept and tried again: {}", known.waiting);
        }
    }

    fn heal(&mut self) {
        self.objects.progress.healed();
        if self.said.take().is_some() {
            log::info!("s3 works again, nothing waits for it");
        }
    }
}

impl Round {
    fn take(&mut self, done: Option<Result<Done, JoinError>>) {
        match done {
            Some(Ok((artifact, Ok(object)))) => self.stored.push((artifact, object)),
            Some(Ok((artifact, Err(fault)))) => self.failed.push((artifact, fault)),
            // A panic is in the log; it is tried again like everything that is not noted.
            Some(Err(_)) | None => {}
        }
    }
}

/// Key and time of an artifact with its content, and what that is.
type Prepared = (String, i64, Content);

/// Runs where it may take its time: an output is read and hashed.
fn prepare(query: &Query, row: WaitingUpload) -> Result<Option<Prepared>, EngineError> {
    let Some(upload) = query.upload(row)? else { return Ok(None) };
    let Upload { key, content_type, since, source } = upload;
    let content = match source {
        UploadSource::Text(text) => Content {
            bytes: text.len() as u64,
            sha256: hexadecimal(&Sha256::digest(text.as_bytes())),
            source: Source::Memory(text.into()),
            content_type,
        },
        UploadSource::File { on_disk, bytes, sha256 } => {
            let folder: Option<Arc<Folder>> = query.files();
            let Some(folder) = folder else { return Ok(None) };
            let source = Source::File(folder.path(&on_disk));
            Content { bytes, sha256, source, content_type }
        }
    };
    Ok(Some((key, since, content)))
}

/// Puts an object, and reads it back.
async fn put_and_verify(
    objects: &Objects,
    key: String,
    content: Content,
) -> Result<StoredObject, Fault> {
    let place = Place { bucket: &objects.bucket, key: &key };
    objects.s3.put(place, &content).await?;
    let mut back = objects.s3.get(place, None).await?;
    let (mut bytes, mut digest) = (0, Sha256::new());
    while let Some(piece) = back.next().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        digest.update(&piece);
    }
    if bytes != content.bytes || hexadecimal(&digest.finalize()) != content.sha256 {
        let words = "S3 gives an object back that is not what was put there";
        return Err(Fault::new(FaultKind::Object, words));
    }
    let Content { bytes, sha256, .. } = content;
    Ok(StoredObject { bucket: objects.bucket.clone(), key, bytes, sha256 })
}
