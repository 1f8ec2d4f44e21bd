//! Handlers of workers: decode, call, encode.
//!
//! Not here: rules, liveness (`engine::workers`).

use super::{App, Call};
use crate::domain::WorkerId;
use crate::http::answer::{Answer, json, no_content};
use crate::http::error::ApiError;
use crate::wire;
use hyper::StatusCode;
use serde_json::json;

impl App {
    pub(super) async fn register(&self, call: &Call) -> Result<Answer, ApiError> {
        let (id, registration) = wire::registration(&call.payload)?;
        let (view, is_new) = self.engine.register(id, registration).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(json(status, &wire::worker(&view)))
    }

    pub(super) async fn worker(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = WorkerId(call.route.id.clone());
        let (view, leases) = self.engine.read(move |query| query.worker(&id)).await?;
        Ok(json(StatusCode::OK, &wire::worker_with_leases(&view, &leases)))
    }

    pub(super) async fn remove_worker(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = WorkerId(call.route.id.clone());
        self.engine.remove_worker(id.clone()).await?;
        Ok(json(StatusCode::OK, &json!({ "removed": true, "id": id })))
    }

    /// `on`: no more tasks for it; off: tasks again, at once.
    pub(super) async fn drain(&self, call: &Call, on: bool) -> Result<Answer, ApiError> {
        let id = WorkerId(call.route.id.clone());
        let view = self.engine.drain(id, on).await?;
        Ok(json(StatusCode::OK, &wire::worker(&view)))
    }

    /// Waits for a task; 204 when none came.
    pub(super) async fn claim(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = WorkerId(call.route.id.clone());
        let claim = match wire::claim(&call.payload) {
            Ok(claim) => claim,
            // A worker that is not there matters more than what it asks for.
            Err(invalid) => {
                self.engine.read(move |query| query.worker(&id).map(drop)).await?;
                return Err(invalid.into());
            }
        };
        let answer = self.engine.claim(id, claim.ttl_seconds, claim.wait_ms).await?;
        Ok(answer.map_or_else(no_content, |claimed| json(StatusCode::OK, &wire::claimed(&claimed))))
    }
}
