//! Stored records: what was written is read back; what is damaged is an error, never a panic.

use crate::seeds::config;
use bloom_runtime::domain::{
    ArtifactId, AuditId, Capabilities, CompletionStatus, Cooling, Delay, DesiredFormat, EndedLease,
    FileOfTask, Lease, LeaseEnd, LeaseId, Metrics, Outcome, Policy, ResultId, Retry, StoredObject,
    Task, TaskId, TaskSpec, TaskStatus, Worker, WorkerId, WorkerStatus,
};
use bloom_runtime::store::{AuditEntry, Counters, JournalRecord, StoredWorker};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any::<String>(), 0..4)
}

fn worker_id() -> impl Strategy<Value = WorkerId> {
    any::<String>().prop_map(WorkerId)
}

fn lease() -> impl Strategy<Value = Lease> {
    (any::<(u64, u128, u32, i64, i64, i64, u32)>(), worker_id()).prop_map(|(numbers, worker_id)| {
        let (seq, random, fence, started_at, expires_at, last_heartbeat, ttl_seconds) = numbers;
        let id = LeaseId::new(seq, random);
        Lease { id, fence, worker_id, started_at, expires_at, last_heartbeat, ttl_seconds }
    })
}

fn ended() -> impl Strategy<Value = EndedLease> {
    let ends =
        [LeaseEnd::Expired, LeaseEnd::Completed, LeaseEnd::Cancelled, LeaseEnd::Released].to_vec();
    let words = any::<(Option<u64>, Option<String>, Option<String>)>();
    (lease(), any::<i64>(), prop::sample::select(ends), words).prop_map(
        |(lease, ended_at, end, (outcome, code, note))| EndedLease {
            lease,
            ended_at,
            end,
            outcome,
            code,
            note,
        },
    )
}

fn retry() -> impl Strategy<Value = Retry> {
    any::<(bool, u32, u32)>().prop_map(|(on_error, backoff_seconds, max_backoff_seconds)| Retry {
        on_error,
        backoff_seconds,
        max_backoff_seconds,
    })
}

fn delay() -> impl Strategy<Value = Delay> {
    any::<(u64, i64)>().prop_map(|(until_age_ms, until)| Delay { until_age_ms, until })
}

fn files() -> impl Strategy<Value = Vec<FileOfTask>> {
    let file = any::<(u64, u64)>().prop_map(|(seq, bytes)| FileOfTask { seq, bytes });
    prop::collection::vec(file, 0..3)
}

fn stored() -> impl Strategy<Value = StoredObject> {
    any::<(String, String, u64, String)>().prop_map(|(bucket, key, bytes, sha256)| StoredObject {
        bucket,
        key,
        bytes,
        sha256,
    })
}

fn task() -> impl Strategy<Value = Task> {
    (
        any::<(u64, u128, u8, u32, u32, u32, u32, bool, i64, i64)>(),
        (any::<String>(), texts(), prop::sample::select(TaskStatus::ALL.to_vec())),
        (prop::option::of(lease()), prop::collection::vec(ended(), 0..3)),
        (prop::option::of(retry()), any::<Option<i64>>(), prop::option::of(delay()), files()),
    )
        .prop_map(|(numbers, (context_id, labels, status), (lease, ended), waits)| Task {
            id: TaskId::new(numbers.0, numbers.1),
            context_id,
            status,
            priority: numbers.2,
            labels,
            default_ttl_seconds: numbers.3,
            attempts: numbers.4,
            max_attempts: numbers.5,
            retry: waits.0,
            not_before: waits.1,
            delay: waits.2,
            grants: numbers.6,
            expired_since_queued: numbers.7,
            created_at: numbers.8,
            updated_at: numbers.9,
            lease,
            ended,
            files: waits.3,
        })
}

fn spec() -> impl Strategy<Value = TaskSpec> {
    let budget = prop::num::f64::POSITIVE | prop::num::f64::ZERO;
    let formats = [DesiredFormat::Text, DesiredFormat::Json].to_vec();
    (any::<(String, String)>(), texts(), any::<u32>(), budget, prop::sample::select(formats))
        .prop_map(|((agent_slug, prompt), context_hints, timeout_sec, budget, desired_format)| {
            TaskSpec {
                agent_slug,
                prompt,
                context_hints,
                policy: Policy { timeout_sec, budget },
                desired_format,
            }
        })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let statuses = [CompletionStatus::Success, CompletionStatus::Error].to_vec();
    (
        any::<([u64; 4], [u128; 4], i64, u32)>(),
        (worker_id(), prop::sample::select(statuses)),
        any::<(Option<String>, Option<String>, u64, Option<u64>, String)>(),
        (
            texts(),
            any::<Option<String>>(),
            prop::option::of(delay()),
            metrics(),
            prop::option::of(stored()),
        ),
    )
        .prop_map(
            |((seqs, randoms, completed_at, attempts), (worker_id, status), texts, more)| {
                let (output, error_message, duration_ms, tokens_used, artifact_type) = texts;
                let (tags, code, retry, metrics, stored) = more;
                Outcome {
                    artifact_id: ArtifactId::new(seqs[0], randoms[0]),
                    result_id: ResultId::new(seqs[1], randoms[1]),
                    task_id: TaskId::new(seqs[2], randoms[2]),
                    lease_id: LeaseId::new(seqs[3], randoms[3]),
                    worker_id,
                    status,
                    output,
                    error_message,
                    code,
                    metrics: Metrics { duration_ms, tokens_used, ..metrics },
                    artifact_type,
                    artifact_tags: tags,
                    completed_at,
                    attempts,
                    retry,
                    stored,
                }
            },
        )
}

fn metrics() -> impl Strategy<Value = Metrics> {
    let cost = prop::num::f64::POSITIVE | prop::num::f64::ZERO;
    (any::<[Option<u64>; 3]>(), prop::option::of(cost), any::<Option<String>>()).prop_map(
        |([input_tokens, output_tokens, turns], cost_usd, model)| Metrics {
            input_tokens,
            output_tokens,
            cost_usd,
            model,
            turns,
            ..Metrics::default()
        },
    )
}

fn cooling() -> impl Strategy<Value = Cooling> {
    any::<(u64, i64, String, String)>().prop_map(|(until_age_ms, until, code, message)| Cooling {
        until_age_ms,
        until,
        code,
        message,
    })
}

fn journal() -> impl Strategy<Value = JournalRecord> {
    let entry =
        any::<(u64, u128, i64, [String; 3], String, String)>().prop_map(|entry| AuditEntry {
            id: AuditId::new(entry.0, entry.1),
            timestamp: entry.2,
            action: entry.3[0].clone(),
            entity_type: entry.3[1].clone(),
            entity_id: entry.3[2].clone(),
            actor: entry.4,
            detail: entry.5,
        });
    let changes = prop::collection::vec(prop::option::of(entry), 0..5);
    (any::<([u64; 6], [u64; 7])>(), changes).prop_map(|((numbers, tasks_by_status), changes)| {
        let [last_task, last_lease, last_outcome, last_change, age_ms, removed_leases] = numbers;
        let counters = Counters {
            last_task,
            last_lease,
            last_outcome,
            last_change,
            tasks_by_status,
            age_ms,
            removed_leases,
        };
        JournalRecord { counters, changes }
    })
}

fn worker() -> impl Strategy<Value = StoredWorker> {
    (
        any::<(u64, u64, i64, bool, u32, Option<i64>)>(),
        (worker_id(), prop::sample::select(WorkerStatus::ALL.to_vec())),
        any::<[String; 2]>(),
        (texts(), texts(), any::<[Option<String>; 3]>()),
        (any::<[bool; 3]>(), prop::option::of(cooling())),
    )
        .prop_map(
            |(numbers, (id, status), [url, db_sha], (labels, ip_addrs, versions), rests)| {
                let (seq, obs_count, registered_at, claude_cli, max_concurrency, last_heartbeat) =
                    numbers;
                let [agent_version, os_info, install_method] = versions;
                let capabilities = Capabilities { claude_cli, max_concurrency, labels };
                StoredWorker {
                    worker: Worker {
                        id,
                        seq,
                        url,
                        status,
                        capabilities,
                        ip_addrs,
                        obs_count,
                        db_sha,
                        registered_at,
                        agent_version,
                        os_info,
                        install_method,
                        draining: rests.0[0],
                        from_membridge: rests.0[1],
                        cooling: rests.1,
                        claims: rests.0[2],
                    },
                    last_heartbeat,
                }
            },
        )
}

/// Bytes changed on the disk, or a record cut short.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Zero(prop::sample::Index, usize),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        4 => (index(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => index().prop_map(Damage::Cut),
        1 => (index(), 1usize..64).prop_map(|(at, length)| Damage::Zero(at, length)),
        2 => (index(), index()).prop_map(|(from, to)| Damage::Swap(from, to)),
    ];
    prop::collection::vec(one, 1..4)
}

fn apply(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match one {
            Damage::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Zero(at, count) => {
                let at = at.index(length);
                bytes[at..length.min(at + count)].fill(0);
            }
            Damage::Swap(from, to) => bytes.swap(from.index(length), to.index(length)),
        }
    }
    bytes
}

/// Written as the store writes, read as it reads.
fn round_trip<T>(record: &T, damage: &[Damage]) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let written = serde_json::to_vec(record).expect("a record");
    let read: T = serde_json::from_slice(&written).expect("what was written is read");
    prop_assert_eq!(&read, record);
    // Whatever still passes for a record can be written and read again.
    if let Ok(other) = serde_json::from_slice::<T>(&apply(written, damage)) {
        let again = serde_json::to_vec(&other).expect("a record");
        prop_assert_eq!(&serde_json::from_slice::<T>(&again).expect("written by us"), &other);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config("tests/fuzz/found/records.txt"))]

    #[test]
    fn a_task_is_read_as_it_was_written(record in task(), damage in damage()) {
        round_trip(&record, &damage)?;
        if record.seq() == record.id.seq() {
            prop_assert_eq!(record.id.to_string().parse::<TaskId>(), Ok(record.id));
        }
    }

    #[test]
    fn a_spec_is_read_as_it_was_written(record in spec(), damage in damage()) {
        round_trip(&record, &damage)?;
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written(record in outcome(), damage in damage()) {
        round_trip(&record, &damage)?;
    }

    #[test]
    fn a_journal_record_is_read_as_it_was_written(record in journal(), damage in damage()) {
        round_trip(&record, &damage)?;
    }

    #[test]
    fn a_worker_is_read_as_it_was_written(record in worker(), damage in damage()) {
        round_trip(&record, &damage)?;
    }

    #[test]
    fn no_bytes_are_taken_for_a_record_that_they_are_not(bytes in any::<Vec<u8>>()) {
        prop_assert!(serde_json::from_slice::<Task>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<TaskSpec>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<Outcome>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<JournalRecord>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<StoredWorker>(&bytes).is_err());
    }
}
