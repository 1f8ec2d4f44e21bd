//! Creating a task once: the key under which its author sends it, and whether what is sent again under
//! that key is the same.
//!
//! What an author sends stands unchanged in the task's two records, so the comparison is made with the
//! words themselves and no digest of them is kept. Must stay true: every field counts; the answer is the
//! task as it was created, whatever has happened to it since. Not here: how long a key is kept and where
//! (`engine::core`, `store`).

use super::{NewTask, Task, TaskSpec, TaskStatus};

/// The longest key.
pub const KEY_CHARS_MAX: usize = 255;

/// What an author calls the creation of a task, so that sending it again creates nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// None when it is not 1–`KEY_CHARS_MAX` visible ASCII characters.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=KEY_CHARS_MAX).contains(&bytes.len());
        let text = std::str::from_utf8(bytes).ok()?;
        (fits && bytes.iter().all(u8::is_ascii_graphic)).then(|| IdempotencyKey(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is the wish that the task was made of.
pub fn is_same(task: &Task, spec: &TaskSpec, new: &NewTask) -> bool {
    let NewTask { context_id, spec: sent, priority, labels, max_attempts, retry, not_before } = new;
    sent == spec
        && *context_id == task.context_id
        && *priority == task.priority
        && *labels == task.labels
        && *max_attempts == task.max_attempts
        && *retry == task.retry
        && *not_before == task.not_before
}

/// The task as its creation was answered.
pub fn as_created(task: &Task) -> Task {
    Task {
        status: TaskStatus::Queued,
        attempts: 0,
        delay: None,
        grants: 0,
        expired_since_queued: false,
        updated_at: task.created_at,
        lease: None,
        ended: Vec::new(),
        files: Vec::new(),
        ..task.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::transition::tests::new_task;
    use super::super::{ArtifactId, ResultId};
    use super::super::{
        Completed, Completion, CompletionStatus, DesiredFormat, LeaseClaim, LeaseId, Metrics,
        Retry, TaskId, When, WorkerId, cancel, complete, create, grant, requeue,
    };
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        for good in ["a", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "~!", &"k".repeat(255)] {
            let key = IdempotencyKey::new(good.as_bytes()).expect("visible ASCII");
            assert_eq!(key.as_str(), good);
        }
        for bad in ["", " ", "a b", "a\t", "ключ", "a\u{7f}", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::new(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(IdempotencyKey::new(b"\xff"), None);
    }

    #[test]
    fn a_wish_that_differs_in_any_field_is_another_one() {
        let retry = Retry { on_error: true, backoff_seconds: 1, max_backoff_seconds: 2 };
        let changes: [fn(&mut NewTask); 12] = [
            |new| new.context_id.push('x'),
            |new| new.spec.agent_slug.push('x'),
            |new| new.spec.prompt.push(' '),
            |new| new.spec.context_hints.push("x".into()),
            |new| new.spec.policy.timeout_sec += 1,
            |new| new.spec.policy.budget += 0.5,
            |new| new.spec.desired_format = DesiredFormat::Json,
            |new| new.priority += 1,
            |new| new.labels.push("gpu".into()),
            |new| new.max_attempts += 1,
            |new| new.not_before = Some(0),
            |new| new.retry = None,
        ];
        let new = NewTask { retry: Some(retry), ..new_task() };
        let (change, spec) = create(new.clone(), TaskId::new(1, 0), 5);
        assert!(is_same(&change.task, &spec, &new));
        for (n, differ) in changes.into_iter().enumerate() {
            let mut other = new.clone();
            differ(&mut other);
            assert!(!is_same(&change.task, &spec, &other), "change {n}");
        }
    }

    #[test]
    fn whatever_has_happened_to_a_task_it_was_created_as_it_was() {
        let retry = Retry { on_error: true, backoff_seconds: 1, max_backoff_seconds: 2 };
        let new = NewTask { retry: Some(retry), not_before: Some(9), ..new_task() };
        let (change, spec) = create(new.clone(), TaskId::new(1, 0), 5);
        let created = change.task;
        let leased = grant(&created, &WorkerId("w".into()), LeaseId::new(1, 1), None, 6).unwrap();
        let failed = Completed {
            status: CompletionStatus::Error,
            output: None,
            error_message: None,
            code: None,
            metrics: Metrics::default(),
            artifact_type: String::new(),
            artifact_tags: Vec::new(),
        };
        let (artifact, result) = (ArtifactId::new(1, 1), ResultId::new(1, 1));
        let when = When { wall: 7, age_ms: 7, chance: 7 };
        let claim = LeaseClaim::Unnamed;
        let ended = complete(&leased.task, claim, Some(failed), artifact, result, when);
        let Ok(Completion::First(delayed, _)) = ended else { panic!("held") };
        assert!(delayed.task.delay.is_some());
        let cancelled = cancel(&delayed.task, 8).unwrap().task;
        let requeued = requeue(&cancelled, 9).unwrap().task;
        for later in [&created, &leased.task, &delayed.task, &cancelled, &requeued] {
            assert_eq!(as_created(later), created);
            assert!(is_same(later, &spec, &new));
        }
    }

    proptest! {
        #[test]
        fn what_was_stored_is_still_what_was_sent(budget in 0.0..1e300_f64, text in ".*") {
            let sent = format!("{budget:?}");
            let mut new = new_task();
            new.spec.policy.budget = serde_json::from_str(&sent).unwrap();
            new.spec.prompt = text;
            let (change, spec) = create(new.clone(), TaskId::new(1, 0), 5);
            let stored = serde_json::to_vec(&spec).unwrap();
            let stored: TaskSpec = serde_json::from_slice(&stored).unwrap();
            prop_assert!(is_same(&change.task, &stored, &new));
        }
    }
}
