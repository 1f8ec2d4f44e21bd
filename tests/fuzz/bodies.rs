//! Bodies: their syntax, lone surrogates, and what each route makes of their fields.

use crate::seeds::{config, mutated};
use bloom_runtime::domain::NewTask;
use bloom_runtime::http::body::payload;
use bloom_runtime::http::surrogates::mend;
use bloom_runtime::wire::{self, Invalid, Payload};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashSet;

const BODIES: &str = include_str!("corpus/bodies.txt");
const MEMBRIDGE: &str = include_str!("corpus/membridge.txt");

fn read(content_type: &str, bytes: &[u8]) -> Result<Payload, u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).expect("a type"));
    }
    let read = runtime.block_on(payload(&headers, bytes.to_vec()));
    read.map_err(|error| error.status.as_u16())
}

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// What a decoder said is the contract's error object, and no longer than what it is about.
fn check(invalid: &Invalid, body: usize) -> Result<(), TestCaseError> {
    let error = invalid.to_json();
    let form = error["formErrors"].as_array().expect("a list");
    let fields = error["fieldErrors"].as_object().expect("an object");
    prop_assert!(!form.is_empty() || !fields.is_empty(), "an error says why");
    for (field, messages) in fields {
        let messages = messages.as_array().expect("a list");
        prop_assert!(!messages.is_empty() && messages.iter().all(Value::is_string), "{field}");
    }
    let length = error.to_string().len();
    prop_assert!(length <= 64 << 10, "{length} bytes of error for {body} bytes of body");
    Ok(())
}

/// The same task as a body.
fn as_body(new: &NewTask) -> Value {
    json!({
        "context_id": new.context_id, "agent_slug": new.spec.agent_slug, "prompt": new.spec.prompt,
        "context_hints": new.spec.context_hints, "policy": new.spec.policy,
        "desired_format": new.spec.desired_format, "priority": new.priority, "labels": new.labels,
        "max_attempts": new.max_attempts,
    })
}

/// Every decoder on one payload: what it accepts is within its limits.
fn decode_all(payload: &Payload, body: usize) -> Result<(), TestCaseError> {
    let labels_are_short =
        |labels: &[String]| labels.len() <= 64 && labels.iter().all(|label| utf16(label) <= 128);
    match wire::new_task(payload) {
        Ok(new) => {
            prop_assert!((1..=4096).contains(&utf16(&new.context_id)));
            prop_assert!((1..=4096).contains(&utf16(&new.spec.agent_slug)));
            prop_assert!(!new.spec.prompt.is_empty() && new.priority <= 9);
            prop_assert!((1..=10).contains(&new.max_attempts) && labels_are_short(&new.labels));
            prop_assert!((1..=3600).contains(&new.spec.policy.timeout_sec));
            prop_assert!(new.spec.policy.budget >= 0.0 && new.spec.policy.budget.is_finite());
            let Value::Object(again) = as_body(&new) else { unreachable!("an object") };
            prop_assert_eq!(wire::new_task(&Payload::Object(again)), Ok(new));
        }
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::registration(payload) {
        Ok((id, said)) => {
            prop_assert!((1..=128).contains(&utf16(&id.0)));
            prop_assert!(said.max_concurrency.is_none_or(|most| (1..=32).contains(&most)));
            prop_assert!(said.labels.as_deref().is_none_or(labels_are_short));
            prop_assert!(said.ip_addrs.as_deref().is_none_or(labels_are_short));
            prop_assert!(said.url.is_none_or(|url| utf16(&url) <= 2048));
        }
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::complete(payload) {
        Ok(done) => {
            prop_assert!(done.metrics.duration_ms < 1 << 53);
            prop_assert!(done.metrics.tokens_used.is_none_or(|used| used < 1 << 53));
            prop_assert!(utf16(&done.artifact_type) <= 4096);
        }
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::claim(payload) {
        Ok(claim) => {
            prop_assert!(claim.wait_ms <= 55_000);
            prop_assert!(claim.ttl_seconds.is_none_or(|ttl| (1..=86_400).contains(&ttl)));
        }
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::lease(payload) {
        Ok(ttl) => prop_assert!(ttl.is_none_or(|ttl| (1..=86_400).contains(&ttl))),
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::config(payload, |_| body.is_multiple_of(2)) {
        Ok(config) => {
            prop_assert!(config.membridge_server_url.as_str().starts_with("http"));
            let key = config.admin_key.unwrap_or_else(|| "kept".into());
            prop_assert!((1..=1024).contains(&key.len()));
            prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(invalid) => check(&invalid, body)?,
    }
    match wire::selection(payload) {
        Ok(selection) => {
            prop_assert!((1..=512).contains(&selection.primary_node_id.len()));
            prop_assert!(selection.lease_seconds.is_none_or(|s| (60..=86_400).contains(&s)));
        }
        Err(invalid) => check(&invalid, body)?,
    }
    let _ = (wire::worker_choice(payload), wire::lease_claim(payload, Some("x")));
    Ok(())
}

proptest! {
    #![proptest_config(config("tests/fuzz/found/bodies.txt"))]

    #[test]
    fn whatever_membridge_says_is_read_or_left_alone(bytes in mutated(MEMBRIDGE)) {
        if let Some(agents) = wire::agents(&bytes) {
            let names: HashSet<_> = agents.good.iter().map(|agent| &agent.id).collect();
            prop_assert_eq!(names.len(), agents.good.len(), "each once");
            for agent in &agents.good {
                prop_assert!((1..=128).contains(&utf16(&agent.id.0)) && agent.url.len() <= 2048);
                prop_assert!(agent.last_seen.is_none_or(|at| (0..1 << 53).contains(&at)));
            }
            prop_assert!(agents.bad.iter().all(|complaint| complaint.len() < 1_000));
        }
        let told = wire::leadership(bytes.clone(), None, 0);
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(theirs)) => {
                let ours = serde_json::from_slice::<Value>(&told).expect("still JSON");
                prop_assert!(theirs.iter().all(|(key, value)| ours[key] == *value));
            }
            Ok(_) => prop_assert_eq!(told, bytes, "nothing to add to"),
            // What is no JSON is not passed on at all.
            Err(_) => {}
        }
    }

    #[test]
    fn a_body_is_read_as_what_it_is_or_refused(bytes in mutated(BODIES), kind in 0usize..4) {
        let json_types = ["application/json", "", "application/vnd.x+json; charset=utf-8"];
        let content_type = json_types.get(kind).unwrap_or(&"application/x-www-form-urlencoded");
        let read = read(content_type, &bytes);
        if let Err(status) = read {
            prop_assert_eq!(status, 400);
        }
        let strict = serde_json::from_slice::<Value>(&bytes);
        if kind < 3 && !bytes.is_empty() {
            match (strict, &read) {
                (Ok(Value::Object(map)), read) => {
                    prop_assert_eq!(read.as_ref(), Ok(&Payload::Object(map)));
                }
                (Ok(Value::Array(_)), read) => prop_assert_eq!(read, &Ok(Payload::Array)),
                (Ok(_), read) => prop_assert!(read.is_err()),
                // More than serde_json takes are a byte order mark and lone surrogates only.
                (Err(_), Ok(_)) => {
                    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                    prop_assert!(serde_json::from_slice::<Value>(&mend(text)).is_ok());
                }
                (Err(_), Err(_)) => {}
            }
        }
        if let Ok(payload) = read {
            decode_all(&payload, bytes.len())?;
        }
    }

    #[test]
    fn lone_surrogates_are_mended_once_and_nothing_else_is(bytes in mutated(BODIES)) {
        let mended = mend(&bytes);
        prop_assert_eq!(mended.len(), bytes.len());
        prop_assert_eq!(mend(&mended).to_vec(), mended.to_vec(), "again");
        if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
            prop_assert_eq!(serde_json::from_slice::<Value>(&mended).ok(), Some(value));
        }
    }
}

#[test]
fn the_errors_of_a_long_list_are_no_longer_than_a_page() {
    let body = json!({"name": "w", "ip_addrs": vec![5; 150_000], "status": "x".repeat(500_000)});
    let payload = read("application/json", body.to_string().as_bytes()).expect("an object");
    check(&wire::registration(&payload).expect_err("wrong"), body.to_string().len())
        .expect("short");
}
