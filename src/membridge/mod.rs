//! The Membridge control plane: where it is, whether it answers, and every call to it.
//!
//! Calls are blocking and run on threads of their own, a few at a time, beside tokio's, so that
//! an upstream that hangs takes none of the threads that our own reads use (`docs/decisions/0014`). Must
//! stay true: nobody waits longer than `TOTAL`; a POST is sent once; the admin key goes to the origin
//! that it was entered for and nowhere else, and stands in no text of ours (P10). Not here: what the
//! answers mean (`wire::membridge`), the sync's rounds (`background::sync`).

mod call;
mod settings;
mod state;
mod trial;

pub use call::{Fault, FaultKind};
pub use settings::{Connection, masked};
pub use state::Link;
pub use trial::Tested;

use crate::clock::{Clock, Mono};
use crate::config::BaseUrl;
use crate::engine::Settings;
use crate::outgoing::Dialer;
use call::Request;
use serde_json::{Value, json};
use state::State;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

/// Calls at a time, each on a thread of its own, and those that may wait for their turn besides.
const CALLS_AT_ONCE: usize = 4;
const CALLERS_MAX: usize = 256;
/// Tests of the connection at a time: they need no key of ours, so they take no turn from the others.
const TESTS_MAX: usize = 4;
/// What one try may take, and what all tries of a call and its wait for a turn may take together.
const TRY_SECONDS: u64 = 10;
const TOTAL: Duration = Duration::from_secs(12);
/// The pause before the first retry; each further one is twice as long, give or take a fifth.
const BACKOFF_MS: u64 = 500;

/// The connection's settings, what is known of it, and the turns of those who call.
pub struct Membridge {
    /// What holds when nothing is saved.
    environment: Connection,
    dialer: Dialer,
    known: Mutex<Known>,
    heard: watch::Sender<Heard>,
    turns: Arc<Semaphore>,
    callers: Semaphore,
    tests: Arc<Semaphore>,
    /// Held while settings are being saved, so that what is stored last is what is in effect.
    pub saving: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
}

struct Known {
    saved: Settings,
    connection: Connection,
    /// Grows with each change of the connection: what a call to an earlier one finds is not noted.
    generation: u64,
    state: State,
    /// The last try that somebody asked for; the sync's rounds do not count.
    last_test: Option<i64>,
}

/// What the last answers tell of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Another one is another connection.
    pub generation: u64,
    pub link: Link,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Somebody,
    Sync,
}

impl Membridge {
    pub fn new(
        environment: Connection,
        saved: Settings,
        clock: Arc<dyn Clock>,
        dialer: Dialer,
    ) -> Self {
        let connection = Connection::in_effect(&saved, &environment);
        let (generation, state, last_test) = (0, State::default(), None);
        Membridge {
            environment,
            dialer,
            known: Mutex::new(Known { saved, connection, generation, state, last_test }),
            heard: watch::Sender::new(Heard { generation, link: Link::Unknown }),
            turns: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            callers: Semaphore::new(CALLERS_MAX),
            tests: Arc::new(Semaphore::new(TESTS_MAX)),
            saving: tokio::sync::Mutex::default(),
            clock,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder panics")
    }

    /// The part of `GET /health` (`CONTRACT §3`).
    pub fn health(&self) -> Value {
        let known = self.known();
        json!({
            "consecutiveFailures": known.state.failures,
            "lastSuccess": known.state.last_success,
            "lastError": known.state.last_error,
            "connected": known.state.is_connected(),
        })
    }

    /// `GET /config`.
    pub fn config(&self) -> Value {
        let known = self.known();
        json!({
            "membridge_server_url": known.connection.url.as_str(),
            "admin_key_masked": masked(known.connection.key.as_ref()),
            "connected": known.state.is_connected(),
            "last_test": known.last_test,
        })
    }

    pub fn url(&self) -> BaseUrl {
        self.known().connection.url.clone()
    }

    pub fn last_error(&self) -> Option<String> {
        self.known().state.last_error.clone()
    }

    /// Changes wake.
    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// Whether a key is known that was entered for this address's origin.
    pub fn has_key_for(&self, url: &BaseUrl) -> bool {
        settings::changed(&self.known().saved, &self.environment, url, None).is_some()
    }

    /// The settings with this address, and this key or the known one of that origin; None when there is
    /// none.
    pub fn changed(&self, url: &BaseUrl, key: Option<String>) -> Option<Settings> {
        settings::changed(&self.known().saved, &self.environment, url, key)
    }

    pub fn is_saved(&self) -> bool {
        self.known().saved != Settings::default()
    }

    /// Uses these settings from now on, where they say nothing the environment's.
    pub fn use_settings(&self, saved: Settings) {
        let mut known = self.known();
        let connection = Connection::in_effect(&saved, &self.environment);
        known.saved = saved;
        if !connection.is_same(&known.connection) {
            known.connection = connection;
            known.generation += 1;
            known.state = State::default();
            let (generation, link) = (known.generation, Link::Unknown);
            self.heard.send_replace(Heard { generation, link });
        }
    }

    /// `GET path`, up to `tries` times. The bytes are JSON, as they came.
    pub async fn get(
        self: &Arc<Self>,
        path: String,
        tries: u32,
        whom: For,
    ) -> Result<Vec<u8>, Fault> {
        self.ask(Request { path, body: None, with_key: true }, tries, whom).await
    }

    /// `POST path`, once.
    pub async fn post(self: &Arc<Self>, path: String, body: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.ask(Request { path, body: Some(body), with_key: true }, 1, For::Somebody).await
    }

    async fn ask(
        self: &Arc<Self>,
        request: Request,
        tries: u32,
        whom: For,
    ) -> Result<Vec<u8>, Fault> {
        let _place = self.callers.try_acquire().map_err(|_| Fault::busy())?;
        if whom == For::Somebody {
            self.known().last_test = Some(self.clock.now().wall);
        }
        let ends = self.clock.now().mono.after_ms(TOTAL.as_millis() as u64);
        let asking = self.ask_until(&request, tries, ends);
        timeout(TOTAL, asking).await.unwrap_or_else(|_| Err(self.out_of_time()))
    }

    async fn ask_until(
        self: &Arc<Self>,
        request: &Request,
        tries: u32,
        ends: Mono,
    ) -> Result<Vec<u8>, Fault> {
        let mut last = None;
        for n in 0..tries {
            if n > 0 {
                sleep(backoff(n, getrandom::u32().unwrap_or_default())).await;
            }
            // Refused before the wait for a turn too: those who hold the turns may be hanging.
            if let Err(resting) = self.may_try() {
                return Err(last.unwrap_or(resting));
            }
            let turn = self.turns.clone().acquire_owned().await.expect("never closed");
            let now = self.clock.now().mono;
            let left = ends.from_now(now).as_secs().min(TRY_SECONDS);
            if left == 0 {
                break;
            }
            let begun = self.known().state.begin(now);
            if let Err(seconds) = begun {
                return Err(last.unwrap_or_else(|| self.resting(seconds)));
            }
            match self.try_on_thread(turn, request.clone(), left).await {
                Err(fault) if fault.may_pass() => last = Some(fault),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| self.out_of_time()))
    }

    /// One try on a thread of its own, which holds the turn until it has really ended, whoever still
    /// waits for it.
    async fn try_on_thread(
        self: &Arc<Self>,
        turn: impl Send + 'static,
        request: Request,
        seconds: u64,
    ) -> Result<Vec<u8>, Fault> {
        let (connection, generation) = {
            let known = self.known();
            (known.connection.clone(), known.generation)
        };
        let (tell, told) = oneshot::channel();
        let (this, keyed) = (self.clone(), request.is_keyed());
        let work = move || {
            let answer = call::once(&this.dialer, &connection, &request, seconds);
            this.note(generation, keyed, &answer);
            drop(turn);
            // Who asked may be gone.
            drop(tell.send(answer));
        };
        let thread = std::thread::Builder::new().name("membridge".into());
        thread.spawn(work).map_err(|_| Fault::busy())?;
        match told.await {
            Ok(answer) => answer,
            // minreq panics on some headers; the log has it.
            Err(_) => {
                let answer = Err(Fault::unreachable("its answer cannot be read".into()));
                self.note(generation, keyed, &answer);
                answer
            }
        }
    }

    fn note(&self, generation: u64, keyed: bool, answer: &Result<Vec<u8>, Fault>) {
        let now = self.clock.now();
        let mut known = self.known();
        if known.generation == generation {
            known.state.note(keyed, answer.as_ref().map(|_| ()), now);
            let heard = Heard { generation, link: known.state.link() };
            self.heard.send_if_modified(|before| std::mem::replace(before, heard) != heard);
        }
    }

    fn may_try(&self) -> Result<(), Fault> {
        let resting = self.known().state.rests_for(self.clock.now().mono);
        resting.map_or(Ok(()), |seconds| Err(self.resting(seconds)))
    }

    fn resting(&self, seconds: u64) -> Fault {
        let (url, failures) = {
            let known = self.known();
            (known.connection.url.clone(), known.state.failures)
        };
        let detail = format!(
            "Membridge at {url} failed {failures} times in a row; it is asked again in {seconds} s"
        );
        Fault::resting(seconds, detail)
    }

    fn out_of_time(&self) -> Fault {
        let seconds = TOTAL.as_secs();
        Fault::unreachable(format!("Membridge at {} gave no answer within {seconds} s", self.url()))
    }

    /// Proves that the control plane answers and that it takes the key, whatever was found before.
    pub async fn test(self: &Arc<Self>) -> Tested {
        let Ok(turn) = self.tests.clone().try_acquire_owned() else { return Tested::busy() };
        self.known().last_test = Some(self.clock.now().wall);
        let ends = self.clock.now().mono.after_ms(TOTAL.as_millis() as u64);
        let tested = timeout(TOTAL, self.test_until(Arc::new(turn), ends)).await;
        tested.unwrap_or_else(|_| Tested::failed(self.out_of_time(), trial::REACHABILITY))
    }

    async fn test_until(self: &Arc<Self>, turn: Arc<OwnedSemaphorePermit>, ends: Mono) -> Tested {
        let left = || ends.from_now(self.clock.now().mono).as_secs().clamp(1, TRY_SECONDS);
        let health = Request { path: "/health".into(), body: None, with_key: false };
        let health = match self.try_on_thread(turn.clone(), health, left()).await {
            Ok(health) => health,
            Err(fault) => return Tested::failed(fault, trial::REACHABILITY),
        };
        let projects = Request { path: "/projects".into(), body: None, with_key: true };
        match self.try_on_thread(turn, projects, left()).await {
            Ok(_) => Tested::connected_with(&health),
            Err(fault) => Tested::failed(fault, trial::KEY),
        }
    }
}

/// The pause before retry `n`, 1 for the first.
fn backoff(n: u32, chance: u32) -> Duration {
    let ms = BACKOFF_MS << (n - 1);
    let fifth = ms / 5;
    Duration::from_millis(ms - fifth + u64::from(chance) % (2 * fifth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_and_strays_by_a_fifth_at_most() {
        for (n, ms) in [(1, 500), (2, 1000), (3, 2000)] {
            for chance in [0, 1, 77, u32::MAX] {
                let pause = backoff(n, chance).as_millis() as u64;
                assert!((ms * 4 / 5..=ms * 6 / 5).contains(&pause), "{n}: {pause}");
            }
        }
        assert_ne!(backoff(1, 0), backoff(1, 100));
    }
}
