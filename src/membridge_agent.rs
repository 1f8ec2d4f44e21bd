//! Today's agents in the field, as they are called (`ECOSYSTEM §2`): asked for their health, and told to
//! execute a task.
//!
//! Must stay true: a call is a small asynchronous task, never a thread, and ends by itself; the agent's
//! key goes to the address that is called and nowhere else, no redirect is followed, no proxy is used;
//! answers are bounded, one and all (P9). Not here: who is called when, and what an answer means for its
//! task (`background`).

use crate::config::{Secret, parse_base_url};
use crate::outgoing::{self, Body, Connection, Dialer};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use serde::Serialize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const AGENT_KEY: HeaderName = HeaderName::from_static("x-membridge-agent");
const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("bloom-runtime/", env!("CARGO_PKG_VERSION")));
/// How long an agent may take to say that it is well.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer, and how long it may take to arrive once it has begun.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Longer answers take turns, so that many at once fit a small machine.
const SMALL_ANSWER_BYTES: usize = 64 << 10;
const LARGE_ANSWERS_AT_ONCE: usize = 4;

/// The way to all agents.
pub struct Agents {
    key: Option<HeaderValue>,
    dialer: Dialer,
    large_answers: Arc<Semaphore>,
}

/// What an agent is told to do.
#[derive(Clone, Debug, Serialize)]
pub struct Order<'a> {
    pub task_id: String,
    pub prompt: &'a str,
    pub context_id: &'a str,
    pub agent_slug: &'a str,
    pub desired_format: &'a str,
    pub context_hints: &'a [String],
    pub policy: OrderPolicy,
    /// Where it calls back; the lease is in it.
    pub runtime_url: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct OrderPolicy {
    pub timeout_sec: u32,
    pub budget: f64,
}

/// An agent's answer as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    /// Held as long as the answer is.
    _turn: Option<OwnedSemaphorePermit>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// It never got the order; why, in words.
    Unreachable(String),
    /// The connection ended after the order had been sent.
    BrokeOff,
    /// Nothing, or not all of the answer, came in its time.
    Silent,
    NotHttp,
    TooLarge,
}

impl From<hyper::Error> for CallFault {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { CallFault::NotHttp } else { CallFault::BrokeOff }
    }
}

/// An agent that waits for its order.
pub struct Connected(Connection);

impl Agents {
    /// `key` is what every order proves itself with.
    pub fn new(key: Option<&Secret>, dialer: Dialer) -> Self {
        let header = |key: &Secret| {
            let value = HeaderValue::from_bytes(key.expose().as_bytes());
            let mut value = value.expect("the configuration takes no key that is no header");
            value.set_sensitive(true);
            value
        };
        Agents {
            key: key.map(header),
            dialer,
            large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS_AT_ONCE)),
        }
    }

    /// Whether `GET <url>/health` is answered with 200. Nothing secret goes along.
    pub async fn is_well(&self, url: &str) -> bool {
        let asked = async {
            let Connected(mut agent) = self.connect(url).await?;
            let request = request(&agent, Method::GET, "/health", Bytes::new());
            Ok::<_, CallFault>(agent.sender.send_request(request).await?.status().as_u16())
        };
        matches!(timeout(HEALTH_PATIENCE, asked).await, Ok(Ok(200)))
    }

    /// # Errors
    /// `Unreachable`, with the reason.
    pub async fn connect(&self, url: &str) -> Result<Connected, CallFault> {
        let base = parse_base_url(url).map_err(|fault| format!("Its address {fault}"));
        let dialled = match &base {
            Ok(base) => self.dialer.connect(base).await,
            Err(fault) => Err(fault.clone()),
        };
        dialled.map(Connected).map_err(CallFault::Unreachable)
    }

    /// Gives the order and waits for the answer, up to `patience` until it begins.
    ///
    /// # Errors
    /// Each but `Unreachable`.
    pub async fn execute(
        &self,
        Connected(mut agent): Connected,
        order: &Order<'_>,
        patience: Duration,
    ) -> Result<Reply, CallFault> {
        let body = serde_json::to_vec(order).expect("text and finite numbers");
        let mut request = request(&agent, Method::POST, "/execute-task", body.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.key.clone().map(|key| (AGENT_KEY, key)));
        let (tell_begun, begun) = tokio::sync::oneshot::channel();
        let answering = async {
            let answer = agent.sender.send_request(request).await?;
            // Whoever waits for it is the same task.
            let _ = tell_begun.send(());
            self.read(answer).await
        };
        let mut answering = pin!(answering);
        tokio::select! {
            answer = &mut answering => return answer,
            Err(_) = timeout(patience, begun) => return Err(CallFault::Silent),
            else => {}
        }
        timeout(ANSWER_TIME, answering).await.unwrap_or(Err(CallFault::Silent))
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Reply, CallFault> {
        let status = answer.status().as_u16();
        let mut stream = answer.into_body();
        let (mut body, mut turn) = (Vec::new(), None);
        while let Some(frame) = stream.frame().await {
            let Ok(bytes) = frame?.into_data() else { continue };
            let length = body.len() + bytes.len();
            if length > ANSWER_BYTES_MAX {
                return Err(CallFault::TooLarge);
            }
            if length > SMALL_ANSWER_BYTES && turn.is_none() {
                let next = self.large_answers.clone().acquire_owned().await;
                turn = Some(next.expect("it is never closed"));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Reply { status, body, _turn: turn })
    }
}

fn request(agent: &Connection, method: Method, path: &str, body: Bytes) -> Request<Body> {
    let mut request = Request::new(outgoing::whole(body));
    *request.method_mut() = method;
    let target = format!("{}{path}", agent.prefix);
    *request.uri_mut() = target.parse().expect("a checked address and a path of ours");
    let host = HeaderValue::from_str(&agent.authority).expect("a checked address");
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, OURSELVES);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(50);

    fn agents() -> Agents {
        Agents::new(None, Dialer::new(outgoing::Trust::new(None, None, "OUTGOING_CA").unwrap()))
    }

    fn order(prompt: &str) -> Order<'_> {
        Order {
            task_id: "t".into(),
            prompt,
            context_id: "c",
            agent_slug: "a",
            desired_format: "text",
            context_hints: &[],
            policy: OrderPolicy { timeout_sec: 1, budget: 0.0 },
            runtime_url: "http://runtime/l/x".into(),
        }
    }

    async fn listening() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    }

    #[tokio::test]
    async fn an_agent_that_never_answers_is_silent_also_when_it_does_not_even_read() {
        let (_listener, url) = listening().await;
        let agents = agents();
        for prompt in ["short", &"x".repeat(8 << 20)] {
            let agent = agents.connect(&url).await.expect("the kernel accepts");
            let reply = agents.execute(agent, &order(prompt), SHORT).await;
            assert_eq!(reply.unwrap_err(), CallFault::Silent);
        }
    }

    #[tokio::test]
    async fn once_an_answer_has_begun_it_may_take_longer_than_its_beginning() {
        let (listener, url) = listening().await;
        let agents = agents();
        let agent = agents.connect(&url).await.expect("it listens");
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{").await.unwrap();
            tokio::time::sleep(8 * SHORT).await;
            stream.write_all(b"}").await.unwrap();
        };
        let order = order("x");
        let (reply, ()) = tokio::join!(agents.execute(agent, &order, 4 * SHORT), answering);
        assert_eq!(reply.expect("all of it came").body, b"{}");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_called_is_said_in_words() {
        let agents = agents();
        for (url, words) in [
            ("https://127.0.0.1:1", "cannot be reached: Connection refused"),
            ("pi:8001", "does not begin with http://"),
            ("http://no-such-host.invalid:1", "cannot be reached"),
        ] {
            let Err(CallFault::Unreachable(said)) = agents.connect(url).await.map(drop) else {
                panic!("{url} cannot be called")
            };
            assert!(said.contains(words), "{said}");
        }
    }
}
