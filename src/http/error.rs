//! Every error answer in one catalogue: status, stable code, words (`CONTRACT §1`, §3).
//!
//! Must stay true: the match over refusals names every case; no text carries a secret or the words of
//! a library (P10). Not here: what is refused (`domain`), the wording of validation (`wire`).

use super::answer::{Answer, json};
use crate::domain::{FILE_BYTES_PER_TASK, FILES_PER_TASK, NoWorker, Refusal};
use crate::engine::{EngineError, NotWritten};
use crate::wire::Invalid;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

/// Keys become free as the oldest of them come of age.
const KEYS_RETRY_SECONDS: u64 = 60;

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub status: StatusCode,
    /// A stable snake_case word for programs.
    pub code: &'static str,
    error: Value,
    /// What a person can act on, where `error` has to be a word that programs know.
    detail: Option<String>,
    /// The text stands in `message` too, where today's clients look for what is wrong with a body.
    in_message: bool,
    retry_after_seconds: Option<u64>,
    allow: Option<String>,
    /// The rest of the request is not read, so the connection cannot go on.
    closes: bool,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        ApiError {
            status,
            code,
            error: Value::String(error.into()),
            detail: None,
            in_message: false,
            retry_after_seconds: None,
            allow: None,
            closes: false,
        }
    }

    pub fn unauthorized() -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized")
    }

    pub fn too_many_requests(reset_seconds: u64) -> Self {
        let text = "Too many requests, please try again later";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text)
            .retry_after(reset_seconds)
    }

    pub fn not_found() -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", "Not found")
    }

    pub fn wrong_method(allow: String) -> Self {
        let text = format!("Method not allowed here; allowed: {allow}");
        let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text);
        ApiError { allow: Some(allow), ..error }
    }

    /// A body, or an escape in a path, that cannot be read.
    pub fn unreadable(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        ApiError { in_message: true, ..ApiError::new(status, code, text) }
    }

    /// The same, and the connection ends because the rest of the body is not read.
    pub fn closing(self) -> Self {
        ApiError { closes: true, ..self }
    }

    pub fn unavailable(code: &'static str, text: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, text).retry_after(1)
    }

    pub fn with_detail(self, detail: String) -> Self {
        ApiError { detail: Some(detail), ..self }
    }

    pub fn retry_after(self, seconds: u64) -> Self {
        ApiError { retry_after_seconds: Some(seconds), ..self }
    }

    /// What ran for a caller ended without an answer; the log says why.
    pub fn cut_off() -> Self {
        let text = "The request was cut off; the server's log says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "cut_off", text)
    }

    pub fn into_answer(self) -> Answer {
        let mut body = json!({ "error": self.error, "code": self.code });
        if self.in_message {
            body["message"] = self.error;
        }
        if let Some(detail) = self.detail {
            body["detail"] = detail.into();
        }
        let mut answer = json(self.status, &body);
        let headers = answer.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_fields", "");
        ApiError { error: invalid.to_json(), ..error }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Busy => ApiError::unavailable(
                "busy",
                "The server is busy; nothing was changed, try again in a second",
            ),
            EngineError::Stopping => ApiError::unavailable(
                "stopping",
                "The server is stopping; nothing was changed, try again when it is back",
            ),
            EngineError::NotWritten { why, retry_seconds } => {
                not_written(why).retry_after(retry_seconds)
            }
            EngineError::OutcomeUnknown(_) => ApiError::unavailable(
                "outcome_unknown",
                "Writing to disk failed, so it is unknown whether this took effect: look again, then repeat if needed",
            ),
            EngineError::Store(why) => {
                log::error!("store read failed: {why}");
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "store_unreadable",
                    "The data on disk could not be read; the server's log says why",
                )
            }
        }
    }
}

fn not_written(why: NotWritten) -> ApiError {
    let unavailable = ApiError::unavailable;
    match why {
        NotWritten::DiskFull => ApiError::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk_full",
            "The server's disk is full; nothing was changed. Free some space, the server goes on by itself",
        ),
        NotWritten::ReadOnly => unavailable(
            "disk_read_only",
            "The server's disk takes no writes any more; nothing was changed. See what its kernel says (dmesg), reading still works",
        ),
        NotWritten::Failing => unavailable(
            "write_failed",
            "Writing to the server's disk failed; nothing was changed, try again. The server's log says why",
        ),
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let not_found = |code, text| ApiError::new(StatusCode::NOT_FOUND, code, text);
        let conflict = |code, text: String| ApiError::new(StatusCode::CONFLICT, code, text);
        match refusal {
            Refusal::TaskNotFound => not_found("task_not_found", "Task not found"),
            Refusal::WorkerNotFound => not_found("worker_not_found", "Worker not found"),
            Refusal::ArtifactNotFound => not_found("artifact_not_found", "Artifact not found"),
            Refusal::ResultNotFound => not_found("result_not_found", "Result not found"),
            Refusal::NoLease => not_found("no_lease", "Task or lease not found"),
            Refusal::LeaseEnded => not_found("lease_ended", "Lease not found or already expired"),
            Refusal::LeaseLost => conflict(
                "lease_lost",
                "The lease is lost: it has ended, or another worker holds the task".into(),
            ),
            Refusal::TaskCancelled => conflict("task_cancelled", "The task was cancelled".into()),
            Refusal::NotQueued(status) => conflict(
                "not_queued",
                format!("Task status is '{}', expected 'queued'", status.as_str()),
            ),
            Refusal::NotLeased(status) => conflict(
                "not_leased",
                format!("Task status is '{}', expected 'leased' or 'running'", status.as_str()),
            ),
            Refusal::CannotRequeue(status) => conflict(
                "cannot_requeue",
                format!("Cannot requeue task with status '{}'", status.as_str()),
            ),
            Refusal::CannotCancel(status) => conflict(
                "cannot_cancel",
                format!("Cannot cancel task with status '{}'", status.as_str()),
            ),
            Refusal::InvalidFields => Invalid::default().into(),
            Refusal::NoWorker(reason) => ApiError::unavailable(
                no_worker_code(reason),
                "No available worker with free capacity",
            ),
            Refusal::QueueFull => ApiError::unavailable(
                "queue_full",
                "The queue holds as many tasks as it may; try again when some have finished",
            ),
            Refusal::IdempotencyKeyReused => ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Another task was created under this Idempotency-Key; give each task its own key",
            ),
            Refusal::TooManyIdempotencyKeys => ApiError::unavailable(
                "too_many_idempotency_keys",
                "As many keys are remembered as may be; nothing was created, try again later or without a key",
            )
            .retry_after(KEYS_RETRY_SECONDS),
            Refusal::TooManyWorkers => ApiError::unavailable(
                "too_many_workers",
                "As many workers are registered as may be; remove some first",
            ),
            Refusal::TooManyFiles => conflict(
                "too_many_files",
                format!("The task has {FILES_PER_TASK} files, and takes no more"),
            ),
            Refusal::FilesTooLarge => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "files_too_large",
                format!("The task's files would be more than {} MiB", FILE_BYTES_PER_TASK >> 20),
            ),
            Refusal::TooManyWaiting => ApiError::unavailable(
                "too_many_waiting",
                "As many claims are waiting as may; try again in a second",
            ),
        }
    }
}

fn no_worker_code(reason: NoWorker) -> &'static str {
    match reason {
        NoWorker::NoneRegistered => "no_worker_registered",
        NoWorker::Unknown => "worker_unknown",
        NoWorker::NotPushable => "worker_not_pushable",
        NoWorker::NotOnline => "worker_not_online",
        NoWorker::NoClaudeCli => "worker_without_claude_cli",
        NoWorker::LabelMissing => "worker_label_missing",
        NoWorker::Draining => "worker_draining",
        NoWorker::Cooling => "worker_cooling",
        NoWorker::AtCapacity => "worker_at_capacity",
        NoWorker::AgentAtLimit => "agent_at_limit",
    }
}
