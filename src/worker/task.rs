//! One granted task from its first heartbeat to its report.
//!
//! What must stay true: Claude runs only under a lease that the server has confirmed; when the
//! lease is lost or can no longer be trusted, the run is killed and nothing is reported; the same
//! report may be sent any number of times, since complete is idempotent under its lease (P7).
//! Not here: the process ([`super::child`]), what its output means ([`super::claude`]).

use super::backoff::Backoff;
use super::child::{self, Finished, Order};
use super::claude::judge;
use super::watch::{Ending, Watch};
use super::{Granted, WorkerConfig, lease};
use crate::client::{CallError, Client, segment};
use serde::Serialize;
use std::io;
use std::sync::Arc;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_used: Option<u64>,
}

/// Does the task and reports it, or says in the log why nothing was reported. Errors: Claude could
/// not be started; then nothing is reported either, since that is this machine's fault and not the
/// task's: the lease runs out and the task goes back into the queue (P5).
pub fn perform(
    config: &WorkerConfig,
    client: &Arc<Client>,
    granted: &Arc<Granted>,
    watch: &Arc<Watch>,
) -> io::Result<()> {
    if !lease::confirm(client, granted, watch) {
        log::warn!("{granted} not started: the lease does not stand");
        return Ok(());
    }
    let (for_keeper, of, on) = (client.clone(), granted.clone(), watch.clone());
    child::spawn_thread("lease-keeper", move || lease::keep(&for_keeper, &of, &on))?;
    let outcome = run_claude(config, granted, watch).map(|ended| match ended {
        Ok(report) => deliver(client, granted, watch, report),
        Err(ending) => log::warn!("{granted} killed, nothing reported: {}", why(ending)),
    });
    watch.report_done();
    outcome
}

/// Runs Claude on the task's prompt. The inner error is an ending after which nothing may be
/// reported.
pub fn run_claude(
    config: &WorkerConfig,
    granted: &Granted,
    watch: &Arc<Watch>,
) -> io::Result<Result<Report, Ending>> {
    let timeout_sec = granted.task.policy.timeout_sec;
    let order = Order {
        program: &config.claude,
        arguments: &["-p", "--output-format", "json"],
        environment: &config.environment,
        stdin: granted.task.prompt.clone(),
        timeout_ms: timeout_sec.saturating_mul(1000),
    };
    log::info!("{granted} started timeout_sec={timeout_sec}");
    let finished = child::run(order, watch)?;
    Ok(match finished.ending {
        Ending::Exited | Ending::TimedOut | Ending::Flooded => {
            Ok(report(granted, finished, timeout_sec))
        }
        ending @ (Ending::LeaseLost | Ending::Untrusted | Ending::Stopped) => Err(ending),
    })
}

fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::LeaseLost => "the lease is lost or the task cancelled",
        Ending::Untrusted => "the server was away for as long as the lease could be trusted",
        Ending::Stopped => "the worker stops",
        Ending::Exited | Ending::TimedOut | Ending::Flooded => "it ended by itself",
    }
}

fn report(granted: &Granted, finished: Finished, timeout_sec: u64) -> Report {
    let verdict = judge(finished.exit, &finished.stdout, &finished.stderr);
    let (output, error_message) = match (finished.ending, verdict.answer) {
        (Ending::TimedOut, answer) => {
            (answer.ok().or(verdict.raw_output), Some(format!("Timed out after {timeout_sec} s")))
        }
        (Ending::Flooded, _) => {
            let limit_mib = child::STDOUT_LIMIT_BYTES / (1024 * 1024);
            (None, Some(format!("Claude wrote more than {limit_mib} MiB and was ended")))
        }
        (_, Ok(answer)) => (Some(answer), None),
        (_, Err(fault)) => (verdict.raw_output, Some(fault)),
    };
    let report = Report {
        lease_id: granted.lease.id.clone(),
        status: if error_message.is_none() { Status::Success } else { Status::Error },
        output,
        error_message,
        metrics: Metrics { duration_ms: finished.duration_ms, tokens_used: verdict.tokens_used },
    };
    let size = serde_json::to_vec(&report).map_or(usize::MAX, |json| json.len());
    if size > REPORT_LIMIT_BYTES {
        return report.without_output(&format!("{size} bytes are more than a server takes"));
    }
    report
}

impl Report {
    /// What is left to say when the output cannot be delivered.
    fn without_output(self, reason: &str) -> Report {
        let fault = self.error_message.map(|fault| format!("; before that: {fault}"));
        let message =
            format!("The output could not be delivered: {reason}{}", fault.unwrap_or_default());
        Report { status: Status::Error, output: None, error_message: Some(message), ..self }
    }
}

/// Offers the report until the server takes or refuses it.
fn deliver(client: &Client, granted: &Granted, watch: &Watch, mut report: Report) {
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
