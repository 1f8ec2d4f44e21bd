//! One pushed task from its lease to its end.
//!
//! The agent is called, its lease is kept meanwhile, and what it answers completes the task or hands it
//! back; its own callbacks may be faster, then the call is let go. Must stay true: everything is done under
//! the lease, so that whoever comes second changes nothing (P3, P7); the address for callbacks is the
//! configured one, never one that a request named. Not here: what an answer means (`verdict`).

use super::CALLS_MAX;
use super::verdict::{Verdict, judge};
use crate::clock::Clock;
use crate::config::BaseUrl;
use crate::config::Secret;
use crate::domain::{DesiredFormat, LeaseClaim, TaskStatus};
use crate::engine::{ClaimAnswer, Engine, EngineError, Follower};
use crate::membridge_agent::{Agents, CallFault, Order, OrderPolicy, Reply};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long an agent may be silent beyond the time that its task has.
const PATIENCE_BEYOND_TIMEOUT: Duration = Duration::from_secs(60);
/// Before something is tried again that the engine could not do now.
const PAUSE: Duration = Duration::from_secs(1);

/// What every call needs.
pub struct Pusher {
    pub(super) engine: Engine,
    pub(super) calls: Arc<Semaphore>,
    agents: Arc<Agents>,
    clock: Arc<dyn Clock>,
    key: Option<Secret>,
    public_url: BaseUrl,
}

impl Pusher {
    /// `public_url`: where agents reach this server. `key`: what no text of theirs may hold.
    pub fn new(
        engine: Engine,
        agents: Arc<Agents>,
        clock: Arc<dyn Clock>,
        public_url: BaseUrl,
        key: Option<Secret>,
    ) -> Self {
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Pusher { engine, calls, agents, clock, key, public_url }
    }

    /// Calls the worker that has just got this task.
    pub(super) async fn serve(self: Arc<Self>, granted: ClaimAnswer) {
        let Ok(_place) = self.calls.try_acquire() else {
            let text = format!("{CALLS_MAX} calls are under way, which is the most");
            return self.settle(&granted, Verdict::back("push_busy", text)).await;
        };
        let began = self.clock.micros();
        let connected = match self.engine.query().push_address(&granted.lease.worker_id) {
            Some(url) => self.agents.connect(&url).await.map(|agent| (agent, url)),
            None => Err(CallFault::Unreachable("It is not called any more".into())),
        };
        let (agent, url) = match connected {
            Ok(connected) => connected,
            Err(fault) => return self.end(&granted, Err(fault), began).await,
        };
        self.say(&granted, format!("pushed to {} at {url}", granted.lease.worker_id));
        let call = async {
            let order = self.order(&granted);
            let patience = Duration::from_secs(order.policy.timeout_sec.into());
            let patience = patience + PATIENCE_BEYOND_TIMEOUT;
            let reply = self.agents.execute(agent, &order, patience).await;
            self.end(&granted, reply, began).await;
        };
        tokio::select! {
            () = call => {}
            () = self.keep_lease(&granted) => {}
        }
    }

    fn order<'a>(&self, granted: &'a ClaimAnswer) -> Order<'a> {
        let (task, spec) = (&granted.task.task, &granted.task.spec);
        Order {
            task_id: task.id.to_string(),
            prompt: &spec.prompt,
            context_id: &task.context_id,
            agent_slug: &spec.agent_slug,
            desired_format: match spec.desired_format {
                DesiredFormat::Text => "text",
                DesiredFormat::Json => "json",
            },
            context_hints: &spec.context_hints,
            policy: OrderPolicy {
                timeout_sec: spec.policy.timeout_sec,
                budget: spec.policy.budget,
            },
            runtime_url: format!("{}/l/{}", self.public_url, granted.lease.id),
        }
    }

    /// Returns when the lease has ended, also by the agent's own callback.
    async fn keep_lease(&self, granted: &ClaimAnswer) {
        let lease = &granted.lease;
        let mut follower = self.engine.logs().follow(lease.task_id.seq());
        let third = Duration::from_secs(lease.ttl_seconds.into()) / 3;
        loop {
            let pause = match self.engine.keep(lease.task_id, lease.id).await {
                Ok(_) => third,
                Err(EngineError::Refused(_)) => return,
                Err(_) => PAUSE,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = leaves_work(&mut follower) => {}
            }
        }
    }

    async fn end(&self, granted: &ClaimAnswer, reply: Result<Reply, CallFault>, began: u64) {
        let took_ms = (self.clock.micros() - began) / 1000;
        let verdict = judge(reply.as_ref().map_err(Clone::clone), took_ms, self.key.as_ref());
        self.settle(granted, verdict).await;
    }

    /// Brings the verdict to the engine, however long it is busy. Refused is what comes second.
    async fn settle(&self, granted: &ClaimAnswer, verdict: Verdict) {
        if let Some(text) = verdict.trouble() {
            let lease = &granted.lease;
            log::info!(
                "push task={} lease={} worker={} {text}",
                lease.task_id,
                lease.id,
                lease.worker_id
            );
            self.say(granted, text);
        }
        let (task, claim) = (granted.lease.task_id, LeaseClaim::Named(granted.lease.id));
        loop {
            let told = match &verdict {
                Verdict::Done(completed) => {
                    self.engine.complete(task, claim, Some(completed.clone())).await.map(drop)
                }
                Verdict::Back(given) => {
                    self.engine.hand_back(task, claim, Some(given.clone())).await.map(drop)
                }
            };
            match told {
                Ok(()) | Err(EngineError::Refused(_) | EngineError::Stopping) => return,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Adds a line of ours to the task's log.
    fn say(&self, granted: &ClaimAnswer, text: String) {
        let lease = &granted.lease;
        let now = self.clock.now().wall;
        self.engine.logs().write(lease.task_id.seq(), lease.fence, now, vec![text]);
    }
}

/// Waits until the task is told to be neither leased nor running any more.
async fn leaves_work(follower: &mut Follower) {
    loop {
        follower.changed().await;
        let status = follower.status();
        if status.is_some_and(|status| !matches!(status, TaskStatus::Leased | TaskStatus::Running))
        {
            return;
        }
    }
}
