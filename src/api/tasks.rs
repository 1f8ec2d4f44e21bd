//! Handlers of tasks: decode, call, encode.
//!
//! Not here: rules, lists (`lists`).

use super::{App, Call};
use crate::domain::{IdempotencyKey, KEY_CHARS_MAX, Refusal, TaskId};
use crate::engine::{ByHand, EngineError, NewLease};
use crate::http::answer::{Answer, json};
use crate::http::error::ApiError;
use crate::wire::{self, Invalid};
use hyper::StatusCode;
use hyper::header::HeaderMap;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// An id that is none is the id of nothing.
pub(super) fn task_id(call: &Call) -> Result<TaskId, ApiError> {
    call.route.id.parse().map_err(|_| Refusal::TaskNotFound.into())
}

/// The engine says when wrong fields matter; what is wrong with them is known here.
fn or_invalid<T>(result: Result<T, EngineError>, invalid: Option<Invalid>) -> Result<T, ApiError> {
    match (result, invalid) {
        (Err(EngineError::Refused(Refusal::InvalidFields)), Some(invalid)) => Err(invalid.into()),
        (result, _) => Ok(result?),
    }
}

/// A header that is sent more than once must say the same.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut sent = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let key = IdempotencyKey::new(first.as_bytes()).filter(|_| sent.all(|next| next == first));
    key.map(Some).ok_or_else(|| {
        let text = format!(
            "Idempotency-Key must be one value of 1 to {KEY_CHARS_MAX} visible ASCII characters"
        );
        ApiError::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", text)
    })
}

impl App {
    pub(super) async fn create(&self, call: &Call) -> Result<Answer, ApiError> {
        let key = idempotency_key(&call.headers)?;
        let new = wire::new_task(&call.payload)?;
        let view = self.engine.create(new, key).await?;
        Ok(json(StatusCode::CREATED, &wire::task(&view)))
    }

    pub(super) async fn task(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let view = self.engine.read(move |query| query.task(id)).await?;
        Ok(json(StatusCode::OK, &wire::task(&view)))
    }

    pub(super) async fn task_result(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let mut outcome = self.engine.read(move |query| query.latest_outcome(id)).await?;
        self.read_back(&mut outcome).await?;
        Ok(json(StatusCode::OK, &wire::result_record(&outcome)))
    }

    pub(super) async fn lease(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let decoded = wire::lease(&call.payload);
        let worker = wire::worker_choice(&call.payload);
        let lease = NewLease { worker, ttl_seconds: decoded.as_ref().ok().copied() };
        let granted = or_invalid(self.engine.lease(id, lease).await, decoded.err())?;
        Ok(json(StatusCode::CREATED, &wire::granted(&granted)))
    }

    pub(super) async fn heartbeat(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call).map_err(|_| ApiError::from(Refusal::NoLease))?;
        let claim = wire::lease_claim(&call.payload, call.route.lease.as_deref());
        match self.engine.heartbeat(id, claim).await {
            Ok(lease) => {
                self.take_lines(call, &lease);
                Ok(json(StatusCode::OK, &wire::heartbeat(&lease)))
            }
            Err(EngineError::Refused(Refusal::TaskNotFound)) => Err(Refusal::NoLease.into()),
            Err(other) => Err(other.into()),
        }
    }

    pub(super) async fn complete(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let claim = wire::lease_claim(&call.payload, call.route.lease.as_deref());
        let (completed, invalid) = match wire::complete(&call.payload) {
            Ok(completed) => (Some(completed), None),
            Err(invalid) => (None, Some(invalid)),
        };
        let mut done = or_invalid(self.engine.complete(id, claim, completed).await, invalid)?;
        // One that was completed before may have gone to S3 since; that it cannot be read now is no reason
        // to make its worker send it again.
        if self.read_back(&mut done.outcome).await.is_err() {
            log::warn!("task {id} is answered without its output, which lies in S3");
        }
        Ok(json(StatusCode::OK, &wire::completed(&done)))
    }

    pub(super) async fn hand_back(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let claim = wire::lease_claim(&call.payload, call.route.lease.as_deref());
        let (given, invalid) = match wire::hand_back(&call.payload) {
            Ok(given) => (Some(given), None),
            Err(invalid) => (None, Some(invalid)),
        };
        let view = or_invalid(self.engine.hand_back(id, claim, given).await, invalid)?;
        Ok(json(StatusCode::OK, &wire::task(&view)))
    }

    pub(super) async fn requeue(&self, call: &Call) -> Result<Answer, ApiError> {
        let view = self.engine.requeue(task_id(call)?).await?;
        Ok(json(StatusCode::OK, &wire::task(&view)))
    }

    pub(super) async fn cancel(&self, call: &Call) -> Result<Answer, ApiError> {
        let view = self.engine.cancel(task_id(call)?).await?;
        Ok(json(StatusCode::OK, &wire::task(&view)))
    }

    pub(super) async fn change_many(&self, call: &Call, what: ByHand) -> Result<Answer, ApiError> {
        let (selection, dry_run) = wire::many(&call.payload)?;
        let bulk = self.engine.change_many(selection, what, dry_run).await?;
        Ok(json(StatusCode::OK, &wire::changed_many(bulk, dry_run)))
    }

    pub(super) async fn attempts(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let attempts = self.engine.read(move |query| query.attempts(id)).await?;
        Ok(json(StatusCode::OK, &wire::attempts(&attempts)))
    }

    pub(super) async fn waiting(&self, call: &Call) -> Result<Answer, ApiError> {
        let (id, now) = (task_id(call)?, self.clock.now());
        let waiting = self.engine.read(move |query| query.waiting(id, now)).await?;
        Ok(json(StatusCode::OK, &wire::waiting(id, &waiting)))
    }
}
