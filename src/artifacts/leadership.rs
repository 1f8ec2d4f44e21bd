//! Who leads a project, as Membridge's scripts keep it in S3 (`ECOSYSTEM §1`).
//!
//! Must stay true: it is read and never written, the two layers of memory are never mixed; an answer never
//! hangs on it for longer than `PATIENCE`; what is read is believed only as far as it makes sense. Not
//! here: how it looks on the wire (`wire::membridge`).

use super::s3::{Place, S3};
use super::words::{Fault, FaultKind};
use crate::clock::{Clock, Mono, WallMs};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(3);
/// How long a reading is good, a failed one too.
const GOOD_FOR_MS: u64 = 15_000;
const RECORD_BYTES_MAX: u64 = 64 << 10;
const WORD_CHARS_MAX: usize = 128;
/// In seconds the year 5138; what is larger is no time.
const SECONDS_MAX: f64 = 1e11;
/// Projects that are remembered, and records that are read at a time.
const REMEMBERED_MAX: usize = 256;
const READS_AT_ONCE: usize = 4;

/// The record; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub epoch: u64,
    pub issued_at: WallMs,
    pub expires_at: WallMs,
    pub lease_seconds: u64,
    pub policy: String,
    pub issued_by: String,
    pub primary_node_id: String,
}

/// What is known of a project's record: it, or why there is none, in words.
pub type Reading = Result<Lease, String>;

/// Reads the records, and remembers them for a moment.
pub struct Leadership {
    s3: Arc<S3>,
    bucket: String,
    clock: Arc<dyn Clock>,
    turns: Semaphore,
    known: Mutex<HashMap<String, (Mono, Reading)>>,
}

impl Leadership {
    pub fn new(s3: Arc<S3>, bucket: String, clock: Arc<dyn Clock>) -> Leadership {
        let turns = Semaphore::new(READS_AT_ONCE);
        Leadership { s3, bucket, clock, turns, known: Mutex::default() }
    }

    /// The record of a project, whose id must be one segment of a path.
    pub async fn of(&self, project: &str) -> Reading {
        if let Some(known) = self.known(project) {
            return known;
        }
        let reading = timeout(PATIENCE, self.read(project))
            .await
            .unwrap_or_else(|_| Err(format!("S3 did not give it within {} s", PATIENCE.as_secs())));
        self.remember(project, reading.clone());
        reading
    }

    async fn read(&self, project: &str) -> Reading {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let key = format!("projects/{project}/leadership/lease.json");
        let place = Place { bucket: &self.bucket, key: &key };
        let record = async { self.s3.get(place, None).await?.whole(RECORD_BYTES_MAX).await };
        match record.await {
            Ok(record) => decode(&record, project),
            Err(Fault { kind: FaultKind::Missing, .. }) => {
                Err(format!("bucket {} has no record of this project", self.bucket))
            }
            Err(fault) => Err(fault.words),
        }
    }

    fn known(&self, project: &str) -> Option<Reading> {
        let now = self.clock.now().mono;
        let known = self.known.lock().expect("no holder panics");
        known.get(project).filter(|(until, _)| *until > now).map(|(_, reading)| reading.clone())
    }

    fn remember(&self, project: &str, reading: Reading) {
        let now = self.clock.now().mono;
        let mut known = self.known.lock().expect("no holder panics");
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, (until, _)| *until > now);
        }
        if known.len() < REMEMBERED_MAX {
            known.insert(project.to_owned(), (now.after_ms(GOOD_FOR_MS), reading));
        }
    }
}

fn decode(record: &[u8], project: &str) -> Reading {
    #[derive(Deserialize)]
    struct Record {
        canonical_id: String,
        primary_node_id: String,
        issued_at: f64,
        expires_at: f64,
        lease_seconds: u64,
        epoch: u64,
        policy: String,
        issued_by: String,
    }
    let nonsense = |what: &str| Err(format!("the record in S3 makes no sense: {what}"));
    let Ok(record) = serde_json::from_slice::<Record>(record) else {
        return nonsense("it is not what Membridge's scripts write");
    };
    if record.canonical_id != project {
        return nonsense("it is one of another project");
    }
    let is_word = |text: &&String| {
        let chars = text.chars().count();
        (1..=WORD_CHARS_MAX).contains(&chars) && !text.chars().any(char::is_control)
    };
    let Record { primary_node_id, policy, issued_by, .. } = record;
    if ![&primary_node_id, &policy, &issued_by].iter().all(is_word) {
        return nonsense("a name in it is empty, too long or no text");
    }
    let is_time = |seconds: f64| (0.0..SECONDS_MAX).contains(&seconds);
    if !is_time(record.issued_at) || !is_time(record.expires_at) {
        return nonsense("a time in it is none");
    }
    let ms = |seconds: f64| (seconds * 1_000.0).round() as WallMs;
    Ok(Lease {
        epoch: record.epoch,
        issued_at: ms(record.issued_at),
        expires_at: ms(record.expires_at),
        lease_seconds: record.lease_seconds,
        policy,
        issued_by,
        primary_node_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record() -> Value {
        json!({"canonical_id": "c", "primary_node_id": "rpi4b", "issued_at": 1_795_000_000,
               "expires_at": 1_795_003_600.5, "lease_seconds": 3600, "epoch": 7,
               "policy": "primary_authoritative", "issued_by": "rpi4b", "more": [1]})
    }

    #[test]
    fn a_record_is_taken_with_times_in_milliseconds() {
        let lease = decode(record().to_string().as_bytes(), "c").unwrap();
        assert_eq!((lease.epoch, lease.lease_seconds), (7, 3600));
        assert_eq!((lease.issued_at, lease.expires_at), (1_795_000_000_000, 1_795_003_600_500));
        assert_eq!(
            (lease.policy.as_str(), lease.issued_by.as_str()),
            ("primary_authoritative", "rpi4b")
        );
    }

    #[test]
    fn a_record_that_makes_no_sense_is_none_and_says_why() {
        for (field, value, words) in [
            ("canonical_id", json!("other"), "another project"),
            ("epoch", json!(-1), "not what"),
            ("epoch", json!("7"), "not what"),
            ("issued_at", json!(1e300), "a time"),
            ("expires_at", json!(-5), "a time"),
            ("policy", json!(""), "a name"),
            ("issued_by", json!("a\nb"), "a name"),
            ("primary_node_id", json!("x".repeat(129)), "a name"),
            ("lease_seconds", Value::Null, "not what"),
        ] {
            let mut record = record();
            record[field] = value;
            let said = decode(record.to_string().as_bytes(), "c").unwrap_err();
            assert!(said.contains(words), "{field}: {said}");
        }
        for text in ["", "[]", "<html>", "{\"epoch\":1}"] {
            assert!(decode(text.as_bytes(), "c").is_err(), "{text}");
        }
    }
}
