//! A server, a check or a worker, from its configuration to its stop.
//!
//! Must stay true: nothing is answered before the store is open; a stop finishes what runs, then
//! commits, then closes the files; each failure is one line with the way out and its own exit code.
//! Not here: what each part does.

mod doors;
mod health;
mod objects;
mod reload;
mod signals;

use crate::api::{App, SignIns};
use crate::background::push::{self, Pusher};
use crate::background::{compaction, connection, mover, probes, retention, strays, sync, uploads};
use crate::cli::{ServeFlags, WorkerFlags};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, BELIEVED_BY, Believed, Config};
use crate::engine::{self, Engine, EngineThread, Settings};
use crate::membridge::{Connection, Membridge};
use crate::membridge_agent::Agents;
use crate::outgoing::{Dialer, Trust};
use crate::store::{Opened, Store, StoreError};
use crate::tls::Identity;
use crate::worker::{self, Stop};
use crate::{exit, logging, server};
use doors::{Doors, Keeper};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::Signals;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Time for reads that are still under way when everything else has ended.
const READS_GRACE: Duration = Duration::from_secs(2);

/// One line for the person who starts us; a stderr that cannot be written stops nothing.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "bloom-runtime: {line}");
}

/// `bloom-runtime serve`: runs until SIGTERM or SIGINT. Returns the exit code.
pub fn serve(flags: &ServeFlags) -> u8 {
    exit_code(try_serve(flags))
}

/// `bloom-runtime check`: says what `serve` would do with this configuration.
pub fn check(flags: &ServeFlags) -> u8 {
    match Config::from_process(flags) {
        Ok(config) => exit_code(describe(&config)),
        Err(error) => {
            say(error);
            exit::CONFIG
        }
    }
}

fn describe(config: &Config) -> Result<(), Failure> {
    let mut out = io::stdout();
    let to_https = config
        .tls
        .http_port
        .map(|port| format!("http://{} leads to https", SocketAddr::new(config.host, port)));
    let lines =
        description(config, &SystemClock::new())?.into_iter().chain(to_https).chain(config.notes());
    for line in lines.chain(["configuration is usable".to_owned()]) {
        // A reader that is gone has read enough.
        let _ = writeln!(out, "{line}");
    }
    Ok(())
}

pub use health::health;

/// `bloom-runtime worker`: runs until SIGTERM or SIGINT.
pub fn work(flags: &WorkerFlags) -> u8 {
    exit_code(try_work(flags))
}

fn exit_code(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(Failure { line, code }) => {
            say(line);
            code
        }
    }
}

/// Why the server ended before it was asked to.
struct Failure {
    line: String,
    code: u8,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure { line: error.to_string(), code: exit::STORE }
    }
}

fn unusable(error: impl Display) -> Failure {
    Failure { line: error.to_string(), code: exit::CONFIG }
}

fn internal(line: String) -> Failure {
    Failure { line, code: exit::INTERNAL }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // One thread: as fast as two for small requests, for a sixth less CPU (DESIGN §5).
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| internal(format!("cannot start: {error}")))
}

fn try_work(flags: &WorkerFlags) -> Result<(), Failure> {
    let config = config::WorkerConfig::from_process(flags).map_err(unusable)?;
    if flags.check {
        say("configuration is usable");
        return Ok(());
    }
    logging::start(config.log_level);
    let stop = Arc::new(Stop::new());
    let (asked, runtime) = (stop.clone(), runtime()?);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut signals = Signals::listen();
            signals.next().await;
            asked.set();
            signals.next().await;
            asked.set_at_once();
        });
    });
    let environment = worker::child_environment(config::environment_for_children());
    let sessions = config.state_dir.as_deref().map(|folder| {
        worker::Sessions::new(folder, &environment).map_err(|fault| {
            unusable(format!("no sessions can be kept in {}: {fault}", folder.display()))
        })
    });
    let worker = worker::WorkerConfig {
        server: config.server.as_str().to_owned(),
        dialer: dialer(&config.believed).map_err(unusable)?,
        api_key: config.runtime_api_key.as_ref().map(|key| key.expose().to_owned()),
        name: config.name,
        max_concurrency: config.max_concurrency,
        claude: config.claude,
        labels: config.labels,
        agents: config.agents,
        root: config.root,
        sessions: sessions.transpose()?,
        grace: config.grace,
        lease_seconds: config.lease_seconds,
        environment,
    };
    worker::run(worker, Arc::new(SystemClock::new()), stop).map_err(unusable)
}

/// The way to a server whose certificate is believed as was said.
fn dialer(believed: &Believed) -> Result<Dialer, String> {
    let trust = Trust::new(believed.ca.as_deref(), believed.pin, BELIEVED_BY)?;
    Ok(Dialer::new(trust))
}

fn try_serve(flags: &ServeFlags) -> Result<(), Failure> {
    let config = Config::from_process(flags).map_err(unusable)?;
    logging::start(config.log_level);
    raise_open_files();
    // The ports first: when one is taken, no file is touched. Who connects now waits for the store.
    let mut doors = Doors::open(&config)?;
    let (store, opened) = Store::open(&config.data_dir)?;
    doors.make_certificate(&config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (engine, mut writer) = engine::start(
        Arc::new(store),
        clock.clone(),
        engine::system_random(),
        config.agent_limits.as_slice().into(),
        config.public_url.is_some(),
    )?;
    let runtime = runtime()?;
    let running = run(flags, &config, &opened, &engine, clock, doors, &mut writer);
    let result = runtime.block_on(running);
    runtime.shutdown_timeout(READS_GRACE);
    engine.stop();
    drop(engine);
    writer.join();
    if result.is_ok() {
        say("stopped, everything is on disk");
    }
    result
}

/// Listens and serves until a signal or the writer's failure.
async fn run(
    flags: &ServeFlags,
    config: &Config,
    opened: &Opened,
    engine: &Engine,
    clock: Arc<dyn Clock>,
    doors: Doors,
    writer: &mut EngineThread,
) -> Result<(), Failure> {
    let identity = doors.identity.clone();
    let listening = doors.listening()?;
    let settings = engine.query().settings().map_err(|error| internal(error.to_string()))?;
    let trust = Trust::new(config.tls.outgoing_ca.as_deref(), None, "OUTGOING_CA");
    let dialer = Dialer::new(trust.map_err(|fault| unusable(format!("OUTGOING_CA: {fault}")))?);
    let membridge = Arc::new(membridge(config, settings, clock.clone(), dialer.clone()));
    let (tell_stop, stopping) = watch::channel(false);
    let random = engine::system_random()() as u64;
    let mut app = App::new(
        config,
        engine.clone(),
        membridge.clone(),
        clock.clone(),
        random,
        stopping.clone(),
    );
    tokio::spawn(writer.hand_out_answers());
    let sign_ins = SignIns::open(config, engine).await;
    app.sign_ins = sign_ins.map_err(|error| internal(error.to_string()))?;
    let objects = objects::open(config, engine, dialer.clone(), clock.clone());
    app.objects = objects.clone();
    let agents = Arc::new(Agents::new(config.membridge_agent_key.as_ref(), dialer));
    let pushing = config.public_url.clone().map(|url| {
        let key = config.membridge_agent_key.clone();
        push::start(Pusher::new(engine.clone(), agents.clone(), clock.clone(), url, key))
    });
    let (grant, pushing) = pushing.unzip();
    app.pusher = grant;

    for line in description(config, &*clock)?.into_iter().skip(1).chain(config.notes()) {
        say(line);
    }
    say(contents(engine, opened));
    for kept in &opened.kept {
        say(format!(
            "the data files were migrated to a new format; as it was before: {}",
            kept.display()
        ));
    }
    if opened.given_back_bytes > 0 {
        say(format!("compaction gave back {:.1} MiB", mib(opened.given_back_bytes)));
    }
    let keeper = identity.clone().map(Keeper::new);
    listening.lines().iter().for_each(say);
    let url = listening.url_from_here();
    let (app, places) = (Arc::new(app), server::places());
    tokio::spawn(reload::run(flags.clone(), config.clone(), app.clone()));
    let mut serving = JoinSet::new();
    for (listener, door) in listening.doors {
        let (app, clock, stopping) = (app.clone(), clock.clone(), stopping.clone());
        serving.spawn(server::serve(listener, door, places.clone(), app, clock, stopping));
    }
    let local_worker =
        flags.worker.then(|| start_worker(flags, config, url, identity.clone(), clock.clone()));
    let mut duties = duties(config, engine, agents, &membridge, clock.clone(), &stopping);
    if let Some(objects) = objects {
        let uploading = uploads::run(engine.clone(), objects, clock.clone(), stopping.clone());
        duties.spawn(uploading);
    }
    if let Some(keeper) = keeper {
        duties.spawn(keeper.run(clock, stopping.clone()));
    }
    let mut signals = Signals::listen();
    let failed = tokio::select! {
        () = signals.next() => None,
        failed = &mut writer.failed => Some(failed),
    };
    say("stopping: no new connections, what runs gets 10 s");
    // What agents do is left to them; their callbacks count after the next start.
    pushing.iter().for_each(tokio::task::JoinHandle::abort);
    engine.release_waiting();
    if let Some((stop, thread)) = local_worker {
        // The worker first, while there is still a server that takes its results.
        stop.set();
        let mut ended = tokio::task::spawn_blocking(move || thread.join());
        tokio::select! {
            _ = &mut ended => {}
            () = signals.next() => {
                stop.set_at_once();
                let _ = ended.await;
            }
        }
    }
    tell_stop.send_replace(true);
    // They end by themselves once they are told; a panic in them is in the log.
    while serving.join_next().await.is_some() {}
    while duties.join_next().await.is_some() {}
    match failed {
        None => Ok(()),
        Some(Ok(error)) => Err(error.into()),
        Some(Err(_)) => Err(internal("the writer ended unexpectedly; the log says why".into())),
    }
}

/// What goes on beside the requests, until it is told to stop.
fn duties(
    config: &Config,
    engine: &Engine,
    agents: Arc<Agents>,
    membridge: &Arc<Membridge>,
    clock: Arc<dyn Clock>,
    stopping: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let (engine, stopping) = (|| engine.clone(), || stopping.clone());
    let mut duties = JoinSet::new();
    let rest = Duration::from_secs(config.archive_after_seconds.into());
    duties.spawn(mover::run(engine(), rest, stopping()));
    duties.spawn(strays::remove(engine()));
    let keeping = &config.keeping;
    duties.spawn(retention::run(engine(), clock.clone(), keeping.retention(), stopping()));
    duties.spawn(compaction::run(engine(), clock, keeping.compact_idle_seconds, stopping()));
    duties.spawn(probes::run(engine(), agents, stopping()));
    duties.spawn(connection::run(engine(), membridge.clone(), stopping()));
    duties.spawn(sync::run(engine(), membridge.clone(), config.membridge_sync_seconds, stopping()));
    duties
}

/// Saved settings win over the environment's; each key belongs to its own address.
fn membridge(config: &Config, saved: Settings, clock: Arc<dyn Clock>, dialer: Dialer) -> Membridge {
    let (url, key) = (config.membridge_server_url.clone(), config.membridge_admin_key.clone());
    let environment = Connection { url, key };
    let used = Connection::in_effect(&saved, &environment);
    if saved.membridge_server_url.is_some() {
        say("Membridge: saved settings are used, they win over MEMBRIDGE_SERVER_URL and its key");
    }
    match (&used.key, &environment.key) {
        (Some(_), _) => {}
        (None, None) => {
            say("MEMBRIDGE_ADMIN_KEY is not set: Membridge will answer nothing but its health")
        }
        (None, Some(_)) => say(
            "MEMBRIDGE_ADMIN_KEY is not used: it belongs to MEMBRIDGE_SERVER_URL, and another address is \
             saved; save its key with it (POST /api/runtime/config)",
        ),
    }
    Membridge::new(environment, saved, clock, dialer)
}

/// What the server does, from its configuration alone; the address first.
fn description(config: &Config, clock: &dyn Clock) -> Result<Vec<String>, Failure> {
    let authentication = match config.runtime_api_key {
        Some(_) => "authentication: on, X-Runtime-API-Key is required",
        None => "authentication: off",
    };
    let scheme = if config.tls.own.is_some() { "https" } else { "http" };
    let mut lines = vec![
        format!("address: {scheme}://{}", config.listen_address()),
        format!("version {}", env!("CARGO_PKG_VERSION")),
        format!("data directory: {}", config.data_dir.display()),
        authentication.to_owned(),
    ];
    lines.extend(doors::description(config, clock)?);
    Ok(lines)
}

fn contents(engine: &Engine, opened: &Opened) -> String {
    let stats = engine.query().stats();
    let [queued, leased, running, finished @ ..] = stats.tasks_by_status;
    format!(
        "store: {:.1} MiB live and {:.1} MiB archive; tasks: {queued} queued, {} in work, {} finished; workers: {}",
        mib(opened.hot_bytes),
        mib(opened.archive_bytes),
        leased + running,
        finished.iter().sum::<u64>(),
        stats.workers_total
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn start_worker(
    flags: &ServeFlags,
    config: &Config,
    server: String,
    identity: Option<Arc<Identity>>,
    clock: Arc<dyn Clock>,
) -> (Arc<Stop>, JoinHandle<()>) {
    let worker = worker::WorkerConfig {
        server,
        dialer: Dialer::new(Trust::own(identity)),
        api_key: config.runtime_api_key.as_ref().map(|key| key.expose().to_owned()),
        name: flags.worker_name.clone().unwrap_or_else(|| "local".into()),
        max_concurrency: flags.max_concurrency.unwrap_or(1),
        claude: flags.claude.clone().unwrap_or_else(|| PathBuf::from("claude")),
        labels: Vec::new(),
        agents: config.agents.clone(),
        root: None,
        sessions: None,
        grace: worker::DEFAULT_GRACE,
        lease_seconds: worker::DEFAULT_LEASE_SECONDS,
        environment: worker::child_environment(config::environment_for_children()),
    };
    let stop = Arc::new(Stop::new());
    let asked = stop.clone();
    let thread = std::thread::spawn(move || {
        if let Err(error) = worker::run(worker, clock, asked) {
            say(format!("the worker cannot run: {error}"));
        }
    });
    (stop, thread)
}

/// Every connection costs a file descriptor, and the usual soft limit is 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        log::warn!("the limit of open files stays at {:?}", limit.current);
    }
}
