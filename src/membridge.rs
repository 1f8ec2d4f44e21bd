//! What is known of the Membridge control plane: where it is, whether it answers, and a test of it.
//!
//! Must stay true: the admin key goes to the configured address and nowhere else, redirects are never
//! followed, an answer has a size and a time (`ECOSYSTEM §5`); no text of ours holds the key (P10). Not
//! here: the proxy and the worker sync, which a later version brings.

use crate::clock::{Clock, WallMs};
use crate::config::{BaseUrl, Secret};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

const ANSWER_BYTES_MAX: u64 = 4 << 20;
const TIMEOUT_SECONDS: u64 = 10;
/// Tests that may wait for the control plane at once; each holds a thread.
const TESTS_MAX: usize = 4;
/// The words of the system that we replace for an upstream that cannot be reached.
const UNREACHABLE: &str = "fetch failed";

/// The connection's settings and what is known of it.
pub struct Membridge {
    state: Mutex<State>,
    tests: Semaphore,
    clock: Arc<dyn Clock>,
}

struct State {
    url: BaseUrl,
    key: Option<Secret>,
    consecutive_failures: u64,
    last_success: Option<WallMs>,
    last_error: Option<String>,
    last_try: Option<WallMs>,
    connected: bool,
}

/// What a test of the connection found.
pub enum Tested {
    Connected {
        health: Value,
    },
    /// `error` is the short word, `detail` what a person can act on, `failed` the half that failed.
    Failed {
        error: String,
        detail: String,
        failed: &'static str,
    },
}

/// Why a call brought nothing usable.
struct CallFault {
    error: String,
    detail: String,
    /// Whether it counts as a failure of the network or of the server.
    counts: bool,
}

impl Membridge {
    pub fn new(url: BaseUrl, key: Option<Secret>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            url,
            key,
            consecutive_failures: 0,
            last_success: None,
            last_error: None,
            last_try: None,
            connected: false,
        };
        Membridge { state: Mutex::new(state), tests: Semaphore::new(TESTS_MAX), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Uses this address and key from now on.
    pub fn point_to(&self, url: BaseUrl, key: Option<Secret>) {
        let mut state = self.state();
        state.url = url;
        state.key = key;
        state.connected = false;
    }

    /// The part of `GET /health` (`CONTRACT §3`).
    pub fn health(&self) -> Value {
        let state = self.state();
        json!({
            "consecutiveFailures": state.consecutive_failures,
            "lastSuccess": state.last_success,
            "lastError": state.last_error,
            "connected": state.connected,
        })
    }

    /// `GET /config`.
    pub fn config(&self) -> Value {
        let state = self.state();
        json!({
            "membridge_server_url": state.url.as_str(),
            "admin_key_masked": masked(state.key.as_ref().map_or("", Secret::expose)),
            "connected": state.connected,
            "last_test": state.last_try,
        })
    }

    /// Proves that the control plane answers and that it takes the key.
    pub async fn test(self: Arc<Self>) -> Tested {
        let Ok(_turn) = self.tests.try_acquire() else {
            return Tested::Failed {
                error: "busy".into(),
                detail: "Other tests of the connection are still waiting for an answer".into(),
                failed: "reachability",
            };
        };
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.test_blocking()).await.unwrap_or_else(|_| {
            let detail = "The test was cut off; the server's log says why".into();
            Tested::Failed { error: UNREACHABLE.into(), detail, failed: "reachability" }
        })
    }

    fn test_blocking(&self) -> Tested {
        let (url, key) = {
            let state = self.state();
            (state.url.clone(), state.key.clone())
        };
        let health = self.call(&url, "/health", None);
        self.note(&health);
        let health = match health {
            Ok(health) => health,
            Err(CallFault { error, detail, .. }) => {
                return Tested::Failed { error, detail, failed: "reachability" };
            }
        };
        let projects = self.call(&url, "/projects", key.as_ref());
        self.note(&projects);
        match projects {
            Ok(_) => Tested::Connected { health },
            Err(CallFault { error, detail, .. }) => Tested::Failed { error, detail, failed: "key" },
        }
    }

    fn note(&self, called: &Result<Value, CallFault>) {
        let now = self.clock.now().wall;
        let mut state = self.state();
        state.last_try = Some(now);
        match called {
            Ok(_) => {
                state.consecutive_failures = 0;
                state.last_success = Some(now);
                state.last_error = None;
                state.connected = true;
            }
            Err(fault) => {
                state.consecutive_failures =
                    if fault.counts { state.consecutive_failures + 1 } else { 0 };
                state.last_error = Some(fault.error.clone());
                state.connected = false;
            }
        }
    }

    fn call(&self, url: &BaseUrl, path: &str, key: Option<&Secret>) -> Result<Value, CallFault> {
        let url = url.as_str();
        let fault = |error: String, detail: String, counts| CallFault { error, detail, counts };
        let mut request = minreq::get(format!("{url}{path}"))
            .with_follow_redirects(false)
            .with_timeout(TIMEOUT_SECONDS)
            .with_header("Content-Type", "application/json")
            .with_header("Connection", "close");
        if let Some(key) = key {
            request = request.with_header("X-MEMBRIDGE-ADMIN", key.expose());
        }
        let response = request.send_lazy().map_err(|cause| {
            let detail = format!("Membridge cannot be reached at {url}: {}", in_words(&cause));
            fault(UNREACHABLE.into(), detail, true)
        })?;
        let status = response.status_code;
        if !(200..300).contains(&status) {
            let detail = match status {
                401 | 403 => "Membridge answers, but refuses the admin key".into(),
                300..=399 => {
                    "Membridge sends us elsewhere, which is never followed; give its own address"
                        .into()
                }
                _ => format!("Membridge answers {path} with status {status}"),
            };
            return Err(fault(format!("Membridge returned {status}"), detail, status >= 500));
        }
        let mut body = Vec::new();
        let read = response.take(ANSWER_BYTES_MAX).read_to_end(&mut body);
        if read.is_err() {
            let detail = format!("Membridge at {url} broke off its answer to {path}");
            return Err(fault(UNREACHABLE.into(), detail, true));
        }
        serde_json::from_slice(&body).map_err(|_| {
            let detail = format!("What answers at {url} is not Membridge: {path} is no JSON");
            fault("Membridge returned no valid JSON".into(), detail, false)
        })
    }
}

/// minreq's own words for a few of its errors would puzzle a person.
fn in_words(cause: &minreq::Error) -> String {
    match cause {
        minreq::Error::IoError(cause) => cause.to_string(),
        minreq::Error::AddressNotFound => "the host name has no address".into(),
        minreq::Error::HttpsFeatureNotEnabled => "https is not in this version yet".into(),
        _ => "what answers does not speak HTTP as Membridge does".into(),
    }
}

impl Tested {
    pub fn connected(&self) -> bool {
        matches!(self, Tested::Connected { .. })
    }

    /// What the audit trail tells of a good connection.
    pub fn summary(&self) -> String {
        match self {
            Tested::Connected { health } => health.to_string().chars().take(500).collect(),
            Tested::Failed { error, .. } => error.clone(),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Tested::Connected { health } => json!({ "connected": true, "health": health }),
            Tested::Failed { error, detail, failed } => {
                json!({ "connected": false, "error": error, "detail": detail, "failed": failed })
            }
        }
    }
}

/// As much of a key as tells it from another (`CONTRACT §3`).
fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    match chars.len() {
        0 => String::new(),
        1..=8 => "****".into(),
        n => chars[..4].iter().chain(&['*'; 4]).chain(&chars[n - 4..]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_by_its_ends_at_most() {
        for (key, shown) in [
            ("", ""),
            ("12345678", "****"),
            ("123456789", "1234****6789"),
            ("abcdefghijklmnop", "abcd****mnop"),
        ] {
            assert_eq!(masked(key), shown);
        }
    }
}
