//! What the server is told at a task's end: a result, or that the task is handed back.
//!
//! Must stay true: either may be sent any number of times, since both are idempotent under their lease
//! (P7); a report always fits into what a server takes. Not here: what the report says.

use super::backoff::Backoff;
use super::verdict::{Code, Failure, Usage};
use super::watch::Watch;
use super::{Granted, STOPPING_CALL};
use crate::client::{CallError, Client, segment};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// The largest report, in bytes of JSON: the server takes 16 MiB a body.
const REPORT_LIMIT_BYTES: usize = 16 * 1024 * 1024 - 64 * 1024;
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a finished result is offered to a server that does not answer. Longer than any trust in
/// the lease: a server that comes back grants every active lease its full time again (P4), and one
/// that has granted it to another refuses us (P3).
const REPORT_PATIENCE_MS: u64 = 3_600_000;

/// The body of a complete.
#[derive(Debug, Serialize)]
pub struct Report {
    pub lease_id: String,
    pub status: Status,
    pub output: Option<String>,
    pub error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Success,
    Error,
}

#[derive(Debug, Serialize)]
pub struct Metrics {
    pub duration_ms: u64,
    #[serde(flatten)]
    pub usage: Usage,
}

impl Report {
    /// A failure keeps what output there is.
    pub fn new(
        granted: &Granted,
        output: Option<String>,
        failure: Option<Failure>,
        metrics: Metrics,
    ) -> Report {
        let report = Report {
            lease_id: granted.lease.id.clone(),
            status: if failure.is_none() { Status::Success } else { Status::Error },
            output,
            code: failure.as_ref().map(|failure| failure.code),
            error_message: failure.map(|failure| failure.message),
            metrics,
        };
        let size = serde_json::to_vec(&report).map_or(usize::MAX, |json| json.len());
        if size > REPORT_LIMIT_BYTES {
            return report.without_output(&format!("{size} bytes are more than a server takes"));
        }
        report
    }

    /// What is left to say when the output cannot be delivered.
    fn without_output(self, reason: &str) -> Report {
        let fault = self.error_message.map(|fault| format!("; before that: {fault}"));
        let message =
            format!("The output could not be delivered: {reason}{}", fault.unwrap_or_default());
        Report {
            status: Status::Error,
            output: None,
            error_message: Some(message),
            code: Some(self.code.unwrap_or(Code::OutputTooLarge)),
            ..self
        }
    }
}

/// Offers the report until the server takes or refuses it, or the worker stops.
pub fn deliver(client: &Client, granted: &Granted, watch: &Watch, mut report: Report) {
    let path = format!("/api/runtime/llm-tasks/{}/complete", segment(&granted.task.id));
    let give_up_at = watch.now().after_ms(REPORT_PATIENCE_MS);
    let mut backoff = Backoff::default();
    loop {
        let fault = match client.post(&path, &report, REPORT_TIMEOUT) {
            Ok(_) => {
                let (status, duration_ms) = (report.status, report.metrics.duration_ms);
                let fault = report.error_message.as_deref().unwrap_or("none");
                log::info!(
                    "{granted} completed status={status:?} duration_ms={duration_ms} error={fault:?}"
                );
                return;
            }
            Err(fault) => fault,
        };
        match &fault {
            CallError::Refused { status: 404 | 409, .. } => {
                log::warn!("{granted} result dropped, the lease is no longer ours: {fault}");
                return;
            }
            CallError::Refused { status: 400 | 413 | 415 | 422, .. } if report.output.is_some() => {
                log::warn!("{granted} output refused: {fault}");
                report = report.without_output(&fault.to_string());
                continue;
            }
            CallError::Refused { status: 400 | 413 | 415 | 422, .. } => {
                log::error!("{granted} result refused for good: {fault}");
                return;
            }
            _ if backoff.is_fresh() => {
                log::warn!("{granted} result not delivered yet, trying again: {fault}");
            }
            _ => {}
        }
        let stopped = watch.pause_or_stop(backoff.next(fault.retry_after()));
        if stopped || watch.now() >= give_up_at {
            log::error!("{granted} result lost, it could not be delivered: {fault}");
            return;
        }
    }
}

/// Hands the task back for a reason that is not the task's: it is queued again at once and has lost
/// no attempt. Tried while the lease can be trusted; after that it goes back by itself (P5). When the
/// worker stops, once.
pub fn hand_back(
    client: &Client,
    granted: &Granted,
    watch: &Watch,
    failure: &Failure,
    retry_after_seconds: Option<u64>,
) {
    let path = format!("/api/runtime/llm-tasks/{}/release", segment(&granted.task.id));
    let Failure { code, message } = failure;
    let mut body = json!({ "lease_id": granted.lease.id, "code": code, "error_message": message });
    if let Some(seconds) = retry_after_seconds {
        body["retry_after_seconds"] = json!(seconds);
    }
    let mut backoff = Backoff::default();
    loop {
        match client.post(&path, &body, STOPPING_CALL) {
            Ok(_) => {
                let retry = retry_after_seconds.map(|seconds| format!(" retry_after_s={seconds}"));
                let retry = retry.unwrap_or_default();
                return log::warn!("{granted} handed back{retry} reason={message:?}");
            }
            Err(fault @ CallError::Refused { status: 400..=499, .. }) => {
                return log::warn!(
                    "{granted} not handed back, it returns to the queue when its lease ends: {fault}"
                );
            }
            Err(fault) => {
                if watch.pause_or_stop(backoff.next(fault.retry_after())) || !watch.is_trusted() {
                    return log::warn!(
                        "{granted} not handed back, it returns to the queue when its lease ends: {fault}"
                    );
                }
            }
        }
    }
}
