//! One granted task from its first heartbeat to its report.
//!
//! What must stay true: Claude runs only under a lease that the server has confirmed; when the
//! lease is lost or can no longer be trusted, the run is killed and nothing is reported; what is this
//! machine's fault is handed back and not held against the task. Not here: the process
//! ([`super::child`]), what its output means ([`super::verdict`]), how a report is sent
//! ([`super::report`]).

use super::agents::Settings;
use super::child::{self, Finished, Order};
use super::report::{Metrics, Report, deliver, hand_back};
use super::sessions::{Session, new_id};
use super::stream::{Heard, LINE_BYTES_MAX, Stream};
use super::verdict::{Code, Exit, Failure, judge, session_is_unknown, usage};
use super::watch::{Ending, Watch};
use super::{Granted, WorkerConfig, hints, lease, limits, prompt, zone};
use crate::client::Client;
use crate::clock::Clock;
use std::io;
use std::sync::Arc;

/// What is left to do once a run has ended.
#[derive(Debug)]
pub enum Outcome {
    Report(Report),
    HandBack {
        failure: Failure,
        retry_after_seconds: Option<u64>,
    },
    /// The lease is not ours any more: nothing may be said.
    Nothing(Ending),
}

/// Does the task and reports it, or says in the log why nothing was reported. The answer is what
/// keeps this machine from doing tasks, if that is why the task was handed back.
pub fn perform(
    config: &WorkerConfig,
    client: &Arc<Client>,
    clock: &Arc<dyn Clock>,
    granted: &Arc<Granted>,
    watch: &Arc<Watch>,
) -> Option<Failure> {
    if !lease::confirm(client, granted, watch) {
        log::warn!("{granted} not started: the lease does not stand");
        return None;
    }
    let (for_keeper, of, on) = (client.clone(), granted.clone(), watch.clone());
    let keeper = child::spawn_thread("lease-keeper", move || lease::keep(&for_keeper, &of, &on));
    let outcome = match keeper {
        Ok(()) => run_claude(config, clock, granted, watch),
        Err(fault) => unavailable(&fault),
    };
    let mut ours = None;
    match outcome {
        Outcome::Nothing(ending) => {
            log::warn!("{granted} killed, nothing reported: {}", why(ending));
        }
        Outcome::Report(report) => {
            lease::tell_the_rest(client, granted, watch);
            deliver(client, granted, watch, report);
        }
        Outcome::HandBack { failure, retry_after_seconds } => {
            hand_back(client, granted, watch, &failure, retry_after_seconds);
            let this_machine = matches!(failure.code, Code::NotLoggedIn | Code::ClaudeUnavailable);
            ours = this_machine.then_some(failure);
        }
    }
    watch.report_done();
    ours
}

/// Runs Claude on the task.
pub fn run_claude(
    config: &WorkerConfig,
    clock: &Arc<dyn Clock>,
    granted: &Granted,
    watch: &Arc<Watch>,
) -> Outcome {
    let task = &granted.task;
    let hints = match hints::read(&task.context_hints, config.root.as_deref()) {
        Ok(hints) => hints,
        Err(fault) => {
            let metrics = Metrics { duration_ms: 0, usage: usage(&Heard::default()) };
            let failure = Failure::new(Code::BadHint, fault);
            return Outcome::Report(Report::new(granted, None, Some(failure), metrics));
        }
    };
    let prompt = prompt::compose(&task.prompt, &hints, task.wants_json());
    let settings = config.agents.of(&task.agent_slug);
    let asked = task.policy.timeout_sec;
    let run = Run {
        config,
        settings,
        granted,
        prompt,
        timeout_sec: settings.timeout_sec.map_or(asked, |longest| longest.min(asked)),
    };
    log::info!("{granted} started agent={:?} timeout_sec={}", task.agent_slug, run.timeout_sec);
    match run.to_its_end(watch) {
        Ok(finished) => run.outcome(finished, clock),
        Err(fault) => unavailable(&fault),
    }
}

fn unavailable(fault: &io::Error) -> Outcome {
    let message = format!("Claude could not be started: {fault}");
    let failure = Failure::new(Code::ClaudeUnavailable, message);
    Outcome::HandBack { failure, retry_after_seconds: None }
}

fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::LeaseLost => "the lease is lost",
        Ending::Cancelled => "the task is cancelled",
        Ending::Untrusted => "the server was away for as long as the lease could be trusted",
        Ending::Stopped => "the worker stops",
        Ending::Exited | Ending::TimedOut | Ending::Flooded => "it ended by itself",
    }
}

/// One task, ready for Claude.
struct Run<'a> {
    config: &'a WorkerConfig,
    settings: &'a Settings,
    granted: &'a Granted,
    prompt: String,
    timeout_sec: u64,
}

/// What is left of a run, read.
struct Ended {
    ending: Ending,
    exit: Exit,
    heard: Heard,
    stderr: Vec<u8>,
    duration_ms: u64,
}

impl Run<'_> {
    /// In the context's session where sessions are on and this one is free; one that Claude does not
    /// know any more is begun anew, once.
    fn to_its_end(&self, watch: &Arc<Watch>) -> io::Result<Ended> {
        let task = &self.granted.task;
        let session = match &self.config.sessions {
            Some(sessions) => sessions.take(&task.agent_slug, &task.context_id)?,
            None => return self.once(None, watch),
        };
        let Some(mut session) = session else {
            log::info!("{} runs without its session: another task uses it", self.granted);
            return self.once(None, watch);
        };
        let resumed = session.id().is_some();
        let ended = self.once(Some(&session), watch)?;
        if resumed && ended.ending == Ending::Exited && session_is_unknown(&ended.heard) {
            log::warn!("{} Claude does not know its session any more; begun anew", self.granted);
            session.remember(None);
            watch.child_begins_again();
            let ended = self.once(Some(&session), watch)?;
            session.remember(ended.heard.session_id.as_deref());
            return Ok(ended);
        }
        if !resumed {
            session.remember(ended.heard.session_id.as_deref());
        }
        Ok(ended)
    }

    fn once(&self, session: Option<&Session>, watch: &Arc<Watch>) -> io::Result<Ended> {
        let mut arguments: Vec<String> =
            ["-p", "--output-format=stream-json", "--verbose", "--include-partial-messages"]
                .map(String::from)
                .into();
        arguments.extend(self.settings.arguments());
        let budget = self.granted.task.policy.budget;
        if budget > 0.0 {
            arguments.push(format!("--max-budget-usd={budget}"));
        }
        arguments.push(match session.map(Session::id) {
            None => "--no-session-persistence".into(),
            Some(None) => format!("--session-id={}", new_id()?),
            Some(Some(id)) => format!("--resume={id}"),
        });
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let order = Order {
            program: &self.config.claude,
            arguments: &arguments,
            environment: &self.config.environment,
            folder: session.map(|session| session.work.as_path()),
            stdin: self.prompt.clone(),
            timeout_ms: self.timeout_sec.saturating_mul(1000),
        };
        let Finished { ending, exit, output, stderr, duration_ms } =
            child::run(order, Stream::default(), watch)?;
        Ok(Ended { ending, exit, heard: output.end(), stderr, duration_ms })
    }

    fn outcome(&self, ended: Ended, clock: &Arc<dyn Clock>) -> Outcome {
        let mut verdict = judge(ended.exit, &ended.heard, &ended.stderr);
        match ended.ending {
            ending @ (Ending::LeaseLost | Ending::Cancelled | Ending::Untrusted) => {
                return Outcome::Nothing(ending);
            }
            Ending::Stopped => {
                let failure = Failure::new(Code::WorkerStopping, "The worker was told to stop");
                return Outcome::HandBack { failure, retry_after_seconds: None };
            }
            Ending::TimedOut => {
                let message = format!("Timed out after {} s", self.timeout_sec);
                verdict = Err(Failure::new(Code::Timeout, message));
            }
            Ending::Flooded => {
                let limit_mib = LINE_BYTES_MAX / (1024 * 1024);
                let message = format!("Claude wrote more than {limit_mib} MiB and was ended");
                verdict = Err(Failure::new(Code::OutputTooLarge, message));
            }
            Ending::Exited => {}
        }
        match verdict {
            Err(failure) if failure.code.is_ours() => {
                let retry_after_seconds = self.retry_after(&failure, &ended.heard, clock);
                Outcome::HandBack { failure, retry_after_seconds }
            }
            verdict => Outcome::Report(self.report(verdict, &ended)),
        }
    }

    fn report(&self, verdict: Result<String, Failure>, ended: &Ended) -> Report {
        let (output, failure) = match verdict {
            Ok(answer) if self.granted.task.wants_json() => match prompt::json_in(&answer) {
                Ok(json) => (Some(json.to_owned()), None),
                Err(fault) => (Some(answer), Some(Failure::new(Code::InvalidJson, fault))),
            },
            Ok(answer) => (Some(answer), None),
            Err(failure) => (partial_output(failure.code, &ended.heard), Some(failure)),
        };
        let metrics = Metrics { duration_ms: ended.duration_ms, usage: usage(&ended.heard) };
        Report::new(self.granted, output, failure, metrics)
    }

    fn retry_after(&self, failure: &Failure, heard: &Heard, clock: &Arc<dyn Clock>) -> Option<u64> {
        if failure.code != Code::UsageLimit {
            return None;
        }
        let now = clock.now().wall / 1000;
        let offset = |zone: Option<&str>| {
            zone::offset_seconds(zone, &self.config.environment, clock.clone())
        };
        let named = || limits::named_reset(&failure.message, now, offset);
        limits::seconds_until(heard.limit_resets_at.or_else(named)?, now)
    }
}

/// What a person may want to see of a run that brought no answer: what the assistant has said when it
/// was cut off, or what was written instead of lines of ours.
fn partial_output(code: Code, heard: &Heard) -> Option<String> {
    let said = match code {
        Code::Timeout | Code::Killed => {
            let answer = heard.result.as_ref().and_then(|said| said["result"].as_str());
            answer.filter(|answer| !answer.is_empty()).unwrap_or(&heard.text)
        }
        Code::UnparsableOutput => "",
        _ => return None,
    };
    let said = if said.is_empty() { heard.noise.trim() } else { said };
    (!said.is_empty()).then(|| said.to_owned())
}
