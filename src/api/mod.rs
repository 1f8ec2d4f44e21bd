//! The way of a request: who calls, may it, which route, its body, then one handler of three lines.
//!
//! Must stay true: the order of checks is the contract's (§1): key, rate bucket, 401, HTTPS redirect,
//! route, body, then the engine's own order. One log line a request, without body or key. Not here:
//! sockets (`server`), rules (`domain`), JSON shapes (`wire`).

mod artifacts;
mod caller;
mod config;
mod dispatch;
mod events;
mod host;
mod lists;
mod membridge;
mod objects;
mod session;
mod task_log;
mod tasks;
mod workers;

use crate::artifacts::Objects;
use crate::clock::Clock;
use crate::config::{Config, FileLimits, Network, Secret};
use crate::engine::{ByHand, ClaimAnswer, Engine, Retention};
use crate::http::answer::{Answer, AnswerBudget, TEXT, bytes, with_header};
use crate::http::body::{
    BODY_BYTES_MAX, Budget, OPEN_BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX, Use, payload, receive,
};
use crate::http::client_address::Scheme;
use crate::http::error::ApiError;
use crate::http::form::parse_form;
use crate::http::log_allowance::{Line, LogAllowance};
use crate::http::rate_limit::{Class, RateLimiter, Verdict};
use crate::http::routes::{Endpoint, Route, Routed, is_api, route};
use crate::http::ui::Ui;
use crate::membridge::Membridge;
use crate::wire::Payload;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};
use hyper::{Method, Request, StatusCode};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, mpsc, watch};

pub use caller::{Caller, Way};
pub use host::own_names;
use session::Shown;
pub use session::SignIns;

const API_KEY: &str = "x-runtime-api-key";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What supervisors and monitors ask for.
const HEALTH: &str = "/api/runtime/health";
/// The longest path that a log line shows.
const LOGGED_PATH_CHARS: usize = 200;

/// Pages that are read at the same time; the others wait their turn.
const PAGES_AT_ONCE: usize = 2;

/// Files that workers return at the same time.
const ARRIVALS_AT_ONCE: usize = 4;

/// Everything a handler may use.
pub struct App {
    pub engine: Engine,
    pub membridge: Arc<Membridge>,
    ui: Ui,
    clock: Arc<dyn Clock>,
    /// Microseconds at the start, for the uptime.
    started: u64,
    key: Option<Secret>,
    trusted_proxies: Vec<Network>,
    /// Names in small letters by which browsers may call.
    hosts: Vec<String>,
    redirects_to_https: bool,
    hsts: Option<HeaderValue>,
    retention: Retention,
    limiter: Mutex<RateLimiter>,
    /// Sessions; none while there is no key, or before they are opened.
    pub sign_ins: Option<Arc<SignIns>>,
    lines_of_strangers: Mutex<LogAllowance>,
    budget: Budget,
    answers: AnswerBudget,
    /// Turns to read a page, each of which may hold megabytes while it is read.
    pages: Arc<Semaphore>,
    listeners: Arc<AtomicUsize>,
    /// Turns to return a file, each of which has a thread.
    arrivals: Semaphore,
    file_limits: FileLimits,
    stopping: watch::Receiver<bool>,
    /// S3; none when it is not set up.
    pub objects: Option<Arc<Objects>>,
    /// Where a granted task goes to be pushed; none when tasks are not pushed.
    pub pusher: Option<mpsc::Sender<ClaimAnswer>>,
    /// Tells this run's request ids from another's.
    run: u64,
    requests: AtomicU64,
}

/// A request on its way to a handler.
struct Call {
    route: Route,
    /// The path as it was sent, for links to the next page.
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    payload: Payload,
    is_head: bool,
    client: IpAddr,
    /// The caller came over https.
    secure: bool,
}

impl Call {
    /// The last value of a query parameter.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl App {
    pub fn new(
        config: &Config,
        engine: Engine,
        membridge: Arc<Membridge>,
        clock: Arc<dyn Clock>,
        run: u64,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let limiter =
            RateLimiter::new(config.rate_limit_per_minute, config.rate_limit_authenticated);
        App {
            engine,
            membridge,
            ui: config.ui_dir.clone().map_or(Ui::Packed, Ui::Folder),
            started: clock.micros(),
            clock,
            key: config.runtime_api_key.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            hosts: host::own_names(config),
            redirects_to_https: config.redirects_to_https(),
            hsts: host::hsts(config.tls.hsts_seconds),
            retention: config.keeping.retention(),
            limiter: Mutex::new(limiter),
            sign_ins: None,
            lines_of_strangers: Mutex::default(),
            budget: Budget::default(),
            answers: AnswerBudget::default(),
            pages: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            listeners: Arc::default(),
            arrivals: Semaphore::new(ARRIVALS_AT_ONCE),
            file_limits: config.file_limits,
            stopping,
            objects: None,
            pusher: None,
            run,
            requests: AtomicU64::new(0),
        }
    }

    /// Answers one request, and logs it.
    pub async fn handle<B>(&self, caller: &Caller<'_>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let began = self.clock.micros();
        let id = self.request_id(request.headers());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let shown = self.shown(request.headers());
        let scheme = self.scheme(caller, request.headers());
        let is_stranger = self.key.is_some() && shown.class() != Class::Authenticated;
        if is_stranger {
            // Who has many requests in one breath waits for everybody else between any two of them.
            tokio::task::yield_now().await;
        } else {
            caller.seat.prove();
        }
        let mut verdict = None;
        let result = self.serve(caller, scheme, shown, request, &mut verdict).await;
        let mut answer = result.unwrap_or_else(ApiError::into_answer);
        if let Some(verdict) = verdict {
            put_rate_limit(answer.headers_mut(), verdict);
        }
        if let (Some(hsts), Some(Scheme::Https)) = (&self.hsts, scheme) {
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        // A supervisor asks for health for ever: idle, nothing is written (P8).
        let is_routine = uri.path() == HEALTH && answer.status().is_success();
        if !is_routine && (!is_stranger || self.may_log_stranger()) {
            let took = self.clock.micros() - began;
            let path = uri.path();
            let most = path.char_indices().nth(LOGGED_PATH_CHARS);
            let path = most.map_or(path, |(end, _)| &path[..end]);
            log::info!(
                target: "access",
                "{method} {path} {} {}.{:03}ms id={id}",
                answer.status().as_u16(),
                took / 1000,
                took % 1000
            );
        }
        with_header(answer, REQUEST_ID, &id)
    }

    fn may_log_stranger(&self) -> bool {
        let now = self.clock.now().mono;
        match self.lines_of_strangers.lock().expect("no holder panics").ask(now) {
            Line::Written { left_out_before: 0 } => true,
            Line::Written { left_out_before } => {
                log::warn!("requests without the key that were not logged: {left_out_before}");
                true
            }
            Line::LeftOut { is_first } => {
                if is_first {
                    log::warn!("many requests without the key: the next ones are counted only");
                }
                false
            }
        }
    }

    async fn serve<B>(
        &self,
        caller: &Caller<'_>,
        scheme: Option<Scheme>,
        shown: Shown,
        request: Request<B>,
        verdict: &mut Option<Verdict>,
    ) -> Result<Answer, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let peer = caller.peer.ip();
        let (parts, body) = request.into_parts();
        let (uri, headers) = (parts.uri, parts.headers);
        if let Err(ambiguous) = caller.framing {
            let status = StatusCode::BAD_REQUEST;
            let text = ambiguous.text();
            return Err(ApiError::unreadable(status, "ambiguous_request", text).closing());
        }
        if let Way::ToHttps(port) = caller.way {
            self.check_host(shown, &headers, &uri)?;
            return host::way_to_https(port, &headers, &uri);
        }
        let (class, client) = (shown.class(), self.client(peer, &headers));
        let routed = route(&parts.method, uri.path());
        let endpoint = match &routed {
            Routed::To(route) => Some((route.endpoint, route.lease.is_none())),
            _ => None,
        };
        // Whoever watches over the server may know it by any name.
        let is_health = matches!(endpoint, Some((Endpoint::Health, true)));
        if let Err(foreign) = self.check_host(shown, &headers, &uri)
            && !is_health
        {
            return self.redirect(scheme, &headers, &uri).ok_or(foreign);
        }
        if is_api(uri.path()) {
            self.count(client, class, endpoint.map(|(endpoint, _)| endpoint), verdict)?;
            let open = endpoint.is_some_and(|(endpoint, plain)| plain && endpoint.is_open());
            if self.key.is_some() && class != Class::Authenticated && !open {
                return Err(ApiError::unauthorized());
            }
            self.check_site(shown, &parts.method, &headers, &uri)?;
        }
        if let Some(answer) = self.redirect(scheme, &headers, &uri) {
            return Ok(answer);
        }
        let route = match routed {
            Routed::To(route) => route,
            Routed::Options(allow) => {
                let answer = bytes(StatusCode::OK, TEXT, allow.clone());
                return Ok(with_header(answer, ALLOW, &allow));
            }
            Routed::WrongMethod(allow) => return Err(ApiError::wrong_method(allow)),
            Routed::NotFound => return Err(ApiError::not_found()),
            Routed::BadEscape => {
                let text = "The path has a broken percent escape";
                return Err(ApiError::unreadable(StatusCode::BAD_REQUEST, "bad_escape", text));
            }
        };
        let query = parse_form(uri.query().unwrap_or("").as_bytes()).map_err(|fault| {
            let text = format!("The query has {fault}");
            ApiError::unreadable(StatusCode::BAD_REQUEST, "bad_query", text)
        })?;
        let bytes_max = match route.endpoint {
            Endpoint::Create | Endpoint::Complete => BODY_BYTES_MAX,
            endpoint if endpoint.is_open() => OPEN_BODY_BYTES_MAX,
            _ => SMALL_BODY_BYTES_MAX,
        };
        let only_reads = matches!(parts.method, Method::GET | Method::HEAD);
        let usage =
            if only_reads || parts.method == Method::DELETE { Use::Ignored } else { Use::Kept };
        let secure = scheme == Some(Scheme::Https);
        let is_head = parts.method == Method::HEAD;
        let mut call = Call {
            route,
            path: uri.path().into(),
            query,
            headers,
            payload: Payload::Absent,
            is_head,
            client,
            secure,
        };
        if call.route.endpoint == Endpoint::AddFile {
            return self.add_file(&call, body).await;
        }
        // Its share of the budget is held until the answer.
        let mut received = receive(body, bytes_max, usage, &self.budget).await?;
        if usage == Use::Kept {
            call.payload = payload(&call.headers, std::mem::take(&mut received.bytes)).await?;
        }
        let answer = self.dispatch(call).await?;
        if !only_reads {
            // What has taken effect is told in any case.
            return Ok(answer);
        }
        self.answers.count(answer).ok_or_else(|| {
            let text = "Too much is being read at once; try again in a second";
            ApiError::unavailable("answers_in_flight", text)
        })
    }

    async fn dispatch(&self, call: Call) -> Result<Answer, ApiError> {
        match call.route.endpoint {
            Endpoint::Health => self.health(),
            Endpoint::Config => self.config(),
            Endpoint::SetConfig => self.set_config(&call).await,
            Endpoint::ClearConfig => self.clear_config().await,
            Endpoint::TestConnection => self.test_connection().await,
            Endpoint::Workers => self.workers(&call).await,
            Endpoint::Register => self.register(&call).await,
            Endpoint::Worker => self.worker(&call).await,
            Endpoint::RemoveWorker => self.remove_worker(&call).await,
            Endpoint::Drain => self.drain(&call, true).await,
            Endpoint::Undrain => self.drain(&call, false).await,
            Endpoint::Claim => self.claim(&call).await,
            Endpoint::Tasks => self.tasks(&call).await,
            Endpoint::Create => self.create(&call).await,
            Endpoint::Task => self.task(&call).await,
            Endpoint::TaskResult => self.task_result(&call).await,
            Endpoint::Lease => self.lease(&call).await,
            Endpoint::Heartbeat => self.heartbeat(&call).await,
            Endpoint::Complete => self.complete(&call).await,
            Endpoint::Attempts => self.attempts(&call).await,
            Endpoint::Waiting => self.waiting(&call).await,
            Endpoint::RequeueMany => self.change_many(&call, ByHand::Requeue).await,
            Endpoint::CancelMany => self.change_many(&call, ByHand::Cancel).await,
            Endpoint::HandBack => self.hand_back(&call).await,
            Endpoint::Dispatch => self.dispatch_task(&call).await,
            Endpoint::Requeue => self.requeue(&call).await,
            Endpoint::Cancel => self.cancel(&call).await,
            Endpoint::TaskLog => self.task_log(&call).await,
            Endpoint::Leases => self.leases(&call).await,
            Endpoint::Runs => self.runs(&call).await,
            Endpoint::Artifacts => self.artifacts(&call).await,
            Endpoint::Artifact => self.artifact(&call).await,
            Endpoint::ArtifactContent => self.artifact_content(&call).await,
            // Its body was taken before.
            Endpoint::AddFile => Err(ApiError::not_found()),
            Endpoint::Audit => self.audit(&call).await,
            Endpoint::Retention => self.retention().await,
            Endpoint::Stats => self.stats().await,
            Endpoint::Events => self.events(&call),
            Endpoint::MembridgeHealth => self.membridge_health().await,
            Endpoint::Projects => self.projects().await,
            Endpoint::Leadership => self.leadership(&call).await,
            Endpoint::Nodes => self.nodes(&call).await,
            Endpoint::SelectPrimary => self.select_primary(&call).await,
            Endpoint::Page => self.ui.page(&call.headers),
            Endpoint::PageFile => self.ui.file(&call.route.id, &call.headers),
            Endpoint::Session => self.session(&call),
            Endpoint::SignIn => self.sign_in(&call).await,
            Endpoint::SignOut => self.sign_out(&call).await,
        }
    }

    /// A caller's own id, if it is one that a log line can carry, else one of ours.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        match given.filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(sane)) {
            Some(id) => id.to_owned(),
            None => {
                let n = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
                format!("{:08x}-{n}", self.run as u32)
            }
        }
    }

    /// Counts a request to the API; health is never limited.
    fn count(
        &self,
        client: IpAddr,
        class: Class,
        endpoint: Option<Endpoint>,
        verdict: &mut Option<Verdict>,
    ) -> Result<(), ApiError> {
        if endpoint == Some(Endpoint::Health) {
            return Ok(());
        }
        let now = self.clock.now().mono;
        let mut limiter = self.limiter.lock().expect("no holder panics");
        *verdict = limiter.count(class, client, now);
        if endpoint == Some(Endpoint::TestConnection) && verdict.is_none_or(|v| v.allowed) {
            *verdict = limiter.count(Class::TestConnection, client, now);
        }
        match verdict {
            Some(verdict) if !verdict.allowed => {
                Err(ApiError::too_many_requests(verdict.reset_seconds))
            }
            _ => Ok(()),
        }
    }

    /// Other rate limits from now on.
    pub fn set_rate_limits(&self, per_minute: u32, authenticated: u32) {
        self.limiter.lock().expect("no holder panics").set_limits(per_minute, authenticated);
    }

    /// Seconds since the start.
    fn uptime(&self) -> f64 {
        (self.clock.micros() - self.started) as f64 / 1e6
    }
}

fn put_rate_limit(headers: &mut HeaderMap, verdict: Verdict) {
    let policy = format!("{};w=60", verdict.limit);
    let policy = HeaderValue::from_str(&policy).expect("digits and punctuation");
    headers.insert("ratelimit-policy", policy);
    headers.insert("ratelimit-limit", HeaderValue::from(verdict.limit));
    headers.insert("ratelimit-remaining", HeaderValue::from(verdict.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(verdict.reset_seconds));
}
