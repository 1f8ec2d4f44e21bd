//! What each route's body means (`CONTRACT §3`).
//!
//! Must stay true: what has been decoded is valid and bounded; unknown fields are ignored. Not here:
//! the syntax of a body (`http::body`), whether the task exists.

use super::fields::{Fields, Invalid, Payload};
use crate::config::{BaseUrl, parse_base_url};
use crate::domain::{
    BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, Completed, CompletionStatus, DesiredFormat, HandBack,
    LeaseClaim, Metrics, NOTE_CHARS_MAX, NewTask, Policy, REST_SECONDS_MAX, Registration, Retry,
    TaskSpec, WorkerId, WorkerStatus, is_code,
};
use crate::engine::WorkerChoice;
use serde_json::{Map, Value};

/// Longest context and agent: the one stands in the record that every transition rewrites, both in
/// the audit trail (P9, `docs/decisions/0006`).
const NAME_CHARS_MAX: usize = 4_096;
const WORKER_NAME_CHARS_MAX: usize = 128;
const URL_CHARS_MAX: usize = 2_048;
const ADMIN_KEY_CHARS_MAX: usize = 1_024;
const KEY_CHARS_MAX: usize = 4_096;
const PRIORITY_MAX: f64 = 9.0;
/// Seconds of a lease that may be asked for (`CONTRACT`, Where we are better).
const TTL_SECONDS: (u64, u64) = (1, 86_400);
/// Longest wait for a claim: below the minute after which a silent worker is offline.
const WAIT_SECONDS_MAX: u64 = 55;
/// Longest waits before an error is tried again, in seconds.
const BACKOFF_MAX: u64 = 3_600;
const MAX_BACKOFF_MAX: u64 = 86_400;
const MODEL_CHARS_MAX: usize = 128;
/// Lines of a log that one heartbeat brings, and characters of each.
const LOG_LINES_MAX: usize = 200;
const LOG_LINE_CHARS_MAX: usize = 2_000;
/// Any whole number that JSON carries exactly.
const WHOLE_MAX: u64 = u64::MAX;

/// `POST /llm-tasks`
pub fn new_task(payload: &Payload) -> Result<NewTask, Invalid> {
    let mut fields = Fields::required(payload)?;
    let context_id = fields.text("context_id", 1, NAME_CHARS_MAX);
    let agent_slug = fields.text("agent_slug", 1, NAME_CHARS_MAX);
    let prompt = fields.text("prompt", 1, usize::MAX);
    let context_hints = match fields.raw("context_hints") {
        Some(Value::Object(hints)) => hints.iter().map(hint).collect(),
        _ => fields.optional_texts("context_hints", "context_hints").unwrap_or_default(),
    };
    let mut policy = Policy { timeout_sec: 120, budget: 0.0 };
    let mut wish = None;
    if let Some(map) = fields.object("policy", false) {
        policy = fields.within(map, |inner| Policy {
            timeout_sec: inner.optional_whole("timeout_sec", "policy", 1, 3600).unwrap_or(120)
                as u32,
            budget: inner.optional_number("budget", "policy", 0.0).unwrap_or(0.0),
        });
        wish = retry(&mut fields, map);
    }
    let not_before = fields.nullable_whole("not_before", "not_before", 0, WHOLE_MAX);
    let formats = [("json", DesiredFormat::Json), ("text", DesiredFormat::Text)];
    let desired_format = fields.word("desired_format", false, &formats);
    let max_attempts = fields.optional_whole("max_attempts", "max_attempts", 1, 10).unwrap_or(3);
    let priority = match fields.raw("priority") {
        Some(Value::Null) => 0.0,
        _ => fields.optional_number("priority", "priority", f64::MIN).unwrap_or(0.0),
    };
    let labels = fields.optional_labels("labels", "labels").unwrap_or_default();
    fields.finish(NewTask {
        context_id,
        spec: TaskSpec {
            agent_slug,
            prompt,
            context_hints,
            policy,
            desired_format: desired_format.unwrap_or(DesiredFormat::Text),
        },
        priority: priority.clamp(0.0, PRIORITY_MAX) as u8,
        labels,
        max_attempts: max_attempts as u32,
        retry: wish,
        not_before: not_before.map(|moment| moment as i64),
    })
}

fn retry(fields: &mut Fields<'_>, policy: &Map<String, Value>) -> Option<Retry> {
    let map = match policy.get("retry")? {
        Value::Null => return None,
        Value::Object(map) => map,
        other => {
            fields.fail_kind("policy", "object", other);
            return None;
        }
    };
    let mut inner = Fields::new(map);
    let read = Retry {
        on_error: inner.optional_bool("on_error", "policy").unwrap_or(false),
        backoff_seconds: inner
            .optional_whole("backoff_seconds", "policy", 0, BACKOFF_MAX)
            .map_or(BACKOFF_SECONDS, |seconds| seconds as u32),
        max_backoff_seconds: inner
            .optional_whole("max_backoff_seconds", "policy", 0, MAX_BACKOFF_MAX)
            .map_or(BACKOFF_SECONDS_MAX, |seconds| seconds as u32),
    };
    fields.take_errors_of(inner);
    Some(read)
}

/// A hint of the manual's own form, `{"file": "src/auth.ts"}`, as a line.
fn hint((key, value): (&String, &Value)) -> String {
    match value {
        Value::String(text) => format!("{key}: {text}"),
        other => format!("{key}: {other}"),
    }
}

/// `POST /llm-tasks/:id/lease`: who shall get it. Falsy means automatic.
pub fn worker_choice(payload: &Payload) -> WorkerChoice {
    let Payload::Object(map) = payload else { return WorkerChoice::Automatic };
    match map.get("worker_id") {
        value if is_falsy(value) => WorkerChoice::Automatic,
        Some(Value::String(id)) => WorkerChoice::Named(WorkerId(id.clone())),
        _ => WorkerChoice::Nobody,
    }
}

/// `POST /llm-tasks/:id/lease`: for how long. Falsy means the task's default, texts may be numbers.
pub fn lease(payload: &Payload) -> Result<Option<u32>, Invalid> {
    let empty = Map::new();
    let mut fields = optional(payload, &empty)?;
    let value = fields.raw("ttl_seconds");
    let ttl = match value {
        value if is_falsy(value) => None,
        Some(Value::String(text)) => {
            // Leading zeros and signs count as they do in any number that a person writes.
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            let value = number.map_or_else(|| Value::String(text.clone()), Value::from);
            Some(fields.whole(&value, "ttl_seconds", TTL_SECONDS.0, TTL_SECONDS.1))
        }
        Some(value) => Some(fields.whole(value, "ttl_seconds", TTL_SECONDS.0, TTL_SECONDS.1)),
        None => None,
    };
    fields.finish(ttl.map(|ttl| ttl as u32))
}

fn is_falsy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(_) => false,
    }
}

fn optional<'a>(
    payload: &'a Payload,
    empty: &'a Map<String, Value>,
) -> Result<Fields<'a>, Invalid> {
    match payload {
        Payload::Absent => Ok(Fields::new(empty)),
        given => Fields::required(given),
    }
}

/// Which lease a heartbeat or a completion names: in its body, or by the base path it came on.
pub fn lease_claim(payload: &Payload, base_path: Option<&str>) -> LeaseClaim {
    let named = match payload {
        Payload::Object(map) => map.get("lease_id").filter(|value| !value.is_null()),
        Payload::Absent | Payload::Array => None,
    };
    let text = match named {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return LeaseClaim::Unknown,
        None => base_path,
    };
    named_lease(text)
}

/// Which lease these words name.
pub fn named_lease(text: Option<&str>) -> LeaseClaim {
    match text {
        Some(text) => text.parse().map_or(LeaseClaim::Unknown, LeaseClaim::Named),
        None => LeaseClaim::Unnamed,
    }
}

/// `POST /llm-tasks/:id/heartbeat`: progress lines, the newest of too many, cut where they are too long.
/// Whatever they are, they are no reason to refuse a heartbeat.
pub fn log_lines(payload: &Payload) -> Vec<String> {
    let Payload::Object(map) = payload else { return Vec::new() };
    let Some(Value::Array(items)) = map.get("log") else { return Vec::new() };
    let newest = &items[items.len().saturating_sub(LOG_LINES_MAX)..];
    let cut = |text: &str| text.chars().take(LOG_LINE_CHARS_MAX).collect();
    newest.iter().filter_map(Value::as_str).map(cut).collect()
}

/// `POST /llm-tasks/:id/complete`
pub fn complete(payload: &Payload) -> Result<Completed, Invalid> {
    let mut fields = Fields::required(payload)?;
    let words = [("success", CompletionStatus::Success), ("error", CompletionStatus::Error)];
    let status = fields.word("status", true, &words);
    let output = fields.nullable_text("output");
    let error_message = fields.nullable_text("error_message");
    let code = code(&mut fields);
    let mut metrics = Metrics::default();
    if let Some(map) = fields.object("metrics", true) {
        metrics = fields.within(map, |inner| {
            let whole = |inner: &mut Fields<'_>, field| {
                inner.nullable_whole(field, "metrics", 0, WHOLE_MAX)
            };
            Metrics {
                duration_ms: inner.required_whole("duration_ms", "metrics", 0, WHOLE_MAX),
                tokens_used: whole(inner, "tokens_used"),
                input_tokens: whole(inner, "input_tokens"),
                output_tokens: whole(inner, "output_tokens"),
                cost_usd: inner.nullable_number("cost_usd", "metrics", 0.0),
                model: inner.nullable_text_within("model", "metrics", MODEL_CHARS_MAX),
                turns: whole(inner, "turns"),
            }
        });
    }
    let artifact_type = fields.optional_text("artifact_type", NAME_CHARS_MAX);
    let artifact_tags = fields.optional_texts("artifact_tags", "artifact_tags");
    fields.finish(Completed {
        status: status.unwrap_or(CompletionStatus::Error),
        output,
        error_message,
        code,
        metrics,
        artifact_type: artifact_type.unwrap_or_else(|| "LLM_RESULT".into()),
        artifact_tags: artifact_tags.unwrap_or_default(),
    })
}

fn code(fields: &mut Fields<'_>) -> Option<String> {
    let code = fields.nullable_text("code")?;
    if !is_code(&code) {
        fields.fail("code", "String must be 1 to 64 of a-z, 0-9 and _");
    }
    Some(code)
}

/// `POST /llm-tasks/:id/release`
pub fn hand_back(payload: &Payload) -> Result<HandBack, Invalid> {
    let empty = Map::new();
    let mut fields = optional(payload, &empty)?;
    let code = code(&mut fields).unwrap_or_else(|| "worker_stopping".into());
    let note = fields.nullable_text("error_message");
    let max = u64::from(REST_SECONDS_MAX);
    let retry_after = fields.nullable_whole("retry_after_seconds", "retry_after_seconds", 0, max);
    fields.finish(HandBack {
        code,
        note: note.map(|note| note.chars().take(NOTE_CHARS_MAX).collect()),
        retry_after_seconds: retry_after.map(|seconds| seconds as u32),
    })
}

/// `POST /workers`: the name and what else was said.
pub fn registration(payload: &Payload) -> Result<(WorkerId, Registration), Invalid> {
    let mut fields = Fields::required(payload)?;
    let name = fields.text("name", 1, WORKER_NAME_CHARS_MAX);
    let statuses = WorkerStatus::ALL.map(|status| (status.as_str(), status));
    let mut registration = Registration {
        url: fields.optional_text("url", URL_CHARS_MAX),
        status: fields.word("status", false, &statuses),
        ..Registration::default()
    };
    if let Some(map) = fields.object("capabilities", false) {
        const TOP: &str = "capabilities";
        fields.within(map, |inner| {
            registration.claude_cli = inner.optional_bool("claude_cli", TOP);
            let most = inner.optional_whole("max_concurrency", TOP, 1, 32);
            registration.max_concurrency = most.map(|most| most as u32);
            registration.labels = inner.optional_labels("labels", TOP);
        });
    }
    registration.ip_addrs = fields.optional_labels("ip_addrs", "ip_addrs");
    registration.agent_version = fields.optional_text("agent_version", WORKER_NAME_CHARS_MAX);
    registration.os_info = fields.optional_text("os_info", NAME_CHARS_MAX);
    registration.install_method = fields.optional_text("install_method", WORKER_NAME_CHARS_MAX);
    fields.finish((WorkerId(name), registration))
}

/// The valid fields of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimFields {
    pub wait_ms: u64,
    pub ttl_seconds: Option<u32>,
}

/// `POST /workers/:id/claim`
pub fn claim(payload: &Payload) -> Result<ClaimFields, Invalid> {
    let empty = Map::new();
    let mut fields = optional(payload, &empty)?;
    let wait = fields.nullable_whole("wait_seconds", "wait_seconds", 0, WAIT_SECONDS_MAX);
    let (min, max) = TTL_SECONDS;
    let ttl = fields.nullable_whole("lease_seconds", "lease_seconds", min, max);
    fields.finish(ClaimFields {
        wait_ms: wait.unwrap_or(0).min(WAIT_SECONDS_MAX) * 1000,
        ttl_seconds: ttl.map(|ttl| ttl as u32),
    })
}

/// The valid fields of the settings.
#[derive(Clone, PartialEq)]
pub struct Config {
    pub membridge_server_url: BaseUrl,
    /// None keeps the known one.
    pub admin_key: Option<String>,
}

/// `POST /session`: the key that is offered.
pub fn sign_in(payload: &Payload) -> Result<String, Invalid> {
    let mut fields = Fields::required(payload)?;
    let key = fields.text("key", 1, KEY_CHARS_MAX);
    fields.finish(key)
}

/// `POST /config`. The key may be left out, or null, where `has_key_for` the address.
pub fn config(
    payload: &Payload,
    has_key_for: impl Fn(&BaseUrl) -> bool,
) -> Result<Config, Invalid> {
    let mut fields = Fields::required(payload)?;
    let url = match fields.raw("membridge_server_url") {
        Some(Value::String(text)) if text.len() <= URL_CHARS_MAX => parse_base_url(text).ok(),
        _ => None,
    };
    match fields.raw("membridge_server_url") {
        Some(Value::String(_)) if url.is_none() => {
            fields.fail("membridge_server_url", "Invalid url")
        }
        _ => drop(fields.text("membridge_server_url", 0, usize::MAX)),
    }
    let left_out = matches!(fields.raw("admin_key"), None | Some(Value::Null));
    let keeps = left_out && url.as_ref().is_some_and(has_key_for);
    let admin_key = (!keeps).then(|| fields.text("admin_key", 1, ADMIN_KEY_CHARS_MAX));
    let visible = |key: &String| key.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    if !admin_key.as_ref().is_none_or(visible) {
        fields.fail("admin_key", "String must contain visible ASCII characters only");
    }
    let fallback = || parse_base_url("http://localhost").expect("a valid address");
    fields.finish(Config { membridge_server_url: url.unwrap_or_else(fallback), admin_key })
}
