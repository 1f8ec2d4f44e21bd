//! Dispatch: a person pushes one task now.
//!
//! Must stay true: the same gate as for everyone; what was leased is pushed, also when the caller has gone.
//! Not here: the call (`background::push`).

use super::tasks::task_id;
use super::{App, Call};
use crate::domain::{HandBack, LeaseClaim, TaskId};
use crate::engine::{ClaimAnswer, Engine, EngineError, LeaseAnswer, NewLease, WorkerChoice};
use crate::http::answer::{Answer, json};
use crate::http::error::ApiError;
use crate::wire;
use hyper::StatusCode;
use tokio::sync::mpsc;

impl App {
    pub(super) async fn dispatch_task(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let Some(pusher) = self.pusher.clone() else {
            let text =
                "This server pushes no tasks: PUBLIC_URL is not set, so no agent could call back";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "push_off", text));
        };
        let worker = match wire::worker_choice(&call.payload) {
            WorkerChoice::Automatic => WorkerChoice::Pushed(None),
            WorkerChoice::Named(id) => WorkerChoice::Pushed(Some(id)),
            other => other,
        };
        let granting = tokio::spawn(push(self.engine.clone(), pusher, id, worker));
        let granted = granting.await.unwrap_or(Err(EngineError::Stopping))?;
        Ok(json(StatusCode::ACCEPTED, &wire::granted(&granted)))
    }
}

async fn push(
    engine: Engine,
    pusher: mpsc::Sender<ClaimAnswer>,
    id: TaskId,
    worker: WorkerChoice,
) -> Result<LeaseAnswer, EngineError> {
    let granted = engine.lease(id, NewLease { worker, ttl_seconds: Some(None) }).await?;
    let lease = granted.lease.clone();
    let claim = LeaseClaim::Named(lease.id);
    let sent = match engine.read(move |query| query.task(id)).await {
        Ok(task) => {
            let sent = pusher.send(ClaimAnswer { task, lease }).await;
            sent.map_err(|_| EngineError::Stopping)
        }
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        let code = "worker_stopping".into();
        let given = HandBack { code, note: None, retry_after_seconds: None };
        engine.hand_back(id, claim, Some(given)).await?;
        return Err(error);
    }
    Ok(granted)
}
