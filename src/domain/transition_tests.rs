//! The rules as a table: every status × every command, and fencing, attempts and idempotence as
//! sentences.

use super::*;
use crate::domain::{
    ArtifactId, Completed, Completion, CompletionStatus, DesiredFormat, HandBack, HandedBack,
    LEASES_KEPT_PER_TASK, LeaseStatus, Metrics, Outcome, Policy, ResultId, as_completed, cancel,
    complete, expire, hand_back,
};

const NOW: i64 = 1_000_000;

pub fn new_task() -> NewTask {
    NewTask {
        context_id: "ctx".into(),
        spec: TaskSpec {
            agent_slug: "writer".into(),
            prompt: "hello".into(),
            context_hints: Vec::new(),
            policy: Policy { timeout_sec: 120, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        },
        priority: 0,
        labels: Vec::new(),
        max_attempts: 3,
        retry: None,
        not_before: None,
    }
}

pub fn queued_task() -> Task {
    create(new_task(), TaskId::new(1, 0), NOW).0.task
}

fn at(wall: i64) -> When {
    When { wall, age_ms: 500, chance: 0 }
}

fn lease_id(n: u64) -> LeaseId {
    LeaseId::new(n, 7)
}

fn granted(task: &Task, n: u64) -> Task {
    grant(task, &WorkerId("w".into()), lease_id(n), None, NOW).expect("queued").task
}

fn running(task: &Task) -> Task {
    match heartbeat(task, LeaseClaim::Unnamed, NOW) {
        Ok(Heartbeat::Started(change)) => change.task,
        other => panic!("no start: {other:?}"),
    }
}

fn fields(status: CompletionStatus) -> Option<Completed> {
    Some(Completed {
        status,
        output: Some("out".into()),
        error_message: None,
        code: None,
        metrics: Metrics { duration_ms: 12, ..Metrics::default() },
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    })
}

fn try_complete(
    task: &Task,
    claim: LeaseClaim,
    status: CompletionStatus,
) -> Result<Completion, Refusal> {
    complete(task, claim, fields(status), ArtifactId::new(5, 0), ResultId::new(5, 0), at(NOW + 1))
}

fn completed(task: &Task, status: CompletionStatus) -> (Task, Outcome) {
    match try_complete(task, LeaseClaim::Unnamed, status) {
        Ok(Completion::First(change, outcome)) => (change.task, *outcome),
        other => panic!("not completed: {other:?}"),
    }
}

fn in_status(status: TaskStatus) -> Task {
    let leased = granted(&queued_task(), 1);
    match status {
        TaskStatus::Queued => queued_task(),
        TaskStatus::Leased => leased,
        TaskStatus::Running => running(&leased),
        TaskStatus::Completed => completed(&leased, CompletionStatus::Success).0,
        TaskStatus::Failed => completed(&leased, CompletionStatus::Error).0,
        TaskStatus::Dead => expire(&Task { max_attempts: 1, ..leased }, NOW).expect("leased").task,
        TaskStatus::Cancelled => cancel(&leased, NOW).expect("leased").task,
    }
}

#[test]
fn every_status_answers_every_command_as_the_table_says() {
    use Refusal as R;
    use TaskStatus as S;
    type Row = (S, Result<S, R>, Result<S, R>, Result<S, R>, Result<S, R>, Result<S, R>, Option<S>);
    // status: lease, heartbeat, complete(success), requeue, cancel, expire
    let table: [Row; 7] = [
        (
            S::Queued,
            Ok(S::Leased),
            Err(R::NoLease),
            Err(R::NotLeased(S::Queued)),
            Err(R::CannotRequeue(S::Queued)),
            Ok(S::Cancelled),
            None,
        ),
        (
            S::Leased,
            Err(R::NotQueued(S::Leased)),
            Ok(S::Running),
            Ok(S::Completed),
            Err(R::CannotRequeue(S::Leased)),
            Ok(S::Cancelled),
            Some(S::Queued),
        ),
        (
            S::Running,
            Err(R::NotQueued(S::Running)),
            Ok(S::Running),
            Ok(S::Completed),
            Err(R::CannotRequeue(S::Running)),
            Ok(S::Cancelled),
            Some(S::Queued),
        ),
        (
            S::Completed,
            Err(R::NotQueued(S::Completed)),
            Err(R::LeaseEnded),
            Err(R::NotLeased(S::Completed)),
            Err(R::CannotRequeue(S::Completed)),
            Err(R::CannotCancel(S::Completed)),
            None,
        ),
        (
            S::Failed,
            Err(R::NotQueued(S::Failed)),
            Err(R::LeaseEnded),
            Err(R::NotLeased(S::Failed)),
            Ok(S::Queued),
            Err(R::CannotCancel(S::Failed)),
            None,
        ),
        (
            S::Dead,
            Err(R::NotQueued(S::Dead)),
            Err(R::LeaseEnded),
            Err(R::NotLeased(S::Dead)),
            Ok(S::Queued),
            Err(R::CannotCancel(S::Dead)),
            None,
        ),
        (
            S::Cancelled,
            Err(R::NotQueued(S::Cancelled)),
            Err(R::TaskCancelled),
            Err(R::NotLeased(S::Cancelled)),
            Ok(S::Queued),
            Err(R::CannotCancel(S::Cancelled)),
            None,
        ),
    ];
    for (status, lease, beat, done, again, off, over) in table {
        let task = in_status(status);
        assert_eq!(task.status, status);
        let became = |change: Change| change.task.status;
        let w = WorkerId("w".into());
        assert_eq!(grant(&task, &w, lease_id(2), None, NOW).map(became), lease, "lease {status:?}");
        let beaten = heartbeat(&task, LeaseClaim::Unnamed, NOW).map(|beat| match beat {
            Heartbeat::Started(change) => change.task.status,
            Heartbeat::Extended => task.status,
        });
        assert_eq!(beaten, beat, "heartbeat {status:?}");
        let ended = try_complete(&task, LeaseClaim::Unnamed, CompletionStatus::Success);
        let ended = ended.map(|completion| match completion {
            Completion::First(change, _) => change.task.status,
            Completion::Repeated { .. } => panic!("nothing was completed under no lease"),
        });
        assert_eq!(ended, done, "complete {status:?}");
        assert_eq!(requeue(&task, NOW).map(became), again, "requeue {status:?}");
        assert_eq!(cancel(&task, NOW).map(became), off, "cancel {status:?}");
        assert_eq!(expire(&task, NOW).map(became), over, "expire {status:?}");
    }
}

#[test]
fn a_worker_whose_lease_expired_cannot_heartbeat_or_complete() {
    let first = granted(&queued_task(), 1);
    let queued = expire(&first, NOW).expect("leased").task;
    let second = granted(&queued, 2);
    let old = LeaseClaim::Named(lease_id(1));
    for task in [&queued, &second] {
        assert_eq!(heartbeat(task, old, NOW), Err(Refusal::LeaseLost));
        assert_eq!(try_complete(task, old, CompletionStatus::Success), Err(Refusal::LeaseLost));
    }
    let new = LeaseClaim::Named(lease_id(2));
    assert!(matches!(heartbeat(&second, new, NOW), Ok(Heartbeat::Started(_))));
    assert!(matches!(
        try_complete(&second, new, CompletionStatus::Success),
        Ok(Completion::First(..))
    ));
}

#[test]
fn a_caller_that_names_no_lease_is_not_believed_once_a_lease_has_expired() {
    let again = granted(&expire(&in_status(TaskStatus::Running), NOW).expect("running").task, 2);
    assert_eq!(heartbeat(&again, LeaseClaim::Unnamed, NOW), Err(Refusal::LeaseLost));
    let done = try_complete(&again, LeaseClaim::Unnamed, CompletionStatus::Success);
    assert_eq!(done, Err(Refusal::LeaseLost));
}

#[test]
fn a_requeue_by_hand_restores_that_trust_and_the_attempts_but_not_the_fencing_number() {
    let dead = in_status(TaskStatus::Dead);
    let queued = requeue(&dead, NOW).expect("dead").task;
    assert_eq!((queued.attempts, queued.shown_lease()), (0, None));
    let again = granted(&queued, 2);
    assert_eq!(again.attempts, 1);
    assert_eq!(again.lease.as_ref().map(|lease| lease.fence), Some(2));
    assert!(heartbeat(&again, LeaseClaim::Unnamed, NOW).is_ok());
}

#[test]
fn fencing_numbers_only_grow() {
    let mut task = Task { max_attempts: 10, ..queued_task() };
    let mut last = 0;
    for n in 1..=30 {
        task = granted(&task, n);
        let fence = task.lease.as_ref().expect("granted").fence;
        assert!(fence > last);
        last = fence;
        task = expire(&task, NOW).expect("leased").task;
        if task.status == TaskStatus::Dead {
            task = requeue(&task, NOW).expect("dead").task;
        }
    }
}

#[test]
fn a_complete_repeated_under_its_lease_answers_what_it_answered_whatever_came_since() {
    let (failed, outcome) = completed(&granted(&queued_task(), 1), CompletionStatus::Error);
    let claim = LeaseClaim::Named(lease_id(1));
    let again = granted(&requeue(&failed, NOW + 9).expect("failed").task, 2);
    for task in [&failed, &again] {
        let repeat =
            complete(task, claim, None, outcome.artifact_id, outcome.result_id, at(NOW + 99));
        assert_eq!(repeat, Ok(Completion::Repeated { fence: 1 }));
        let mut shown = as_completed(task, &outcome);
        shown.grants = failed.grants;
        assert_eq!(shown, failed);
    }
}

#[test]
fn wrong_fields_matter_only_after_lease_and_state() {
    let wrong = |task: &Task, claim| {
        complete(task, claim, None, ArtifactId::new(5, 0), ResultId::new(5, 0), at(NOW))
    };
    let leased = in_status(TaskStatus::Leased);
    assert_eq!(wrong(&leased, LeaseClaim::Unknown), Err(Refusal::LeaseLost));
    assert_eq!(wrong(&leased, LeaseClaim::Unnamed), Err(Refusal::InvalidFields));
    let dead = in_status(TaskStatus::Dead);
    assert_eq!(wrong(&dead, LeaseClaim::Unnamed), Err(Refusal::NotLeased(TaskStatus::Dead)));
}

#[test]
fn attempts_count_at_lease_and_the_last_one_ends_dead_with_its_lease_shown() {
    let mut task = Task { max_attempts: 2, ..queued_task() };
    for (attempt, then) in [(1, TaskStatus::Queued), (2, TaskStatus::Dead)] {
        task = granted(&task, attempt);
        assert_eq!(u64::from(task.attempts), attempt);
        task = expire(&task, NOW).expect("leased").task;
        assert_eq!(task.status, then);
    }
    assert_eq!(task.shown_lease().map(|lease| lease.id), Some(lease_id(2)));
    assert!(task.ended.iter().all(|ended| ended.status() == LeaseStatus::Expired));
}

#[test]
fn a_cancelled_tasks_holder_is_told_so_and_a_stranger_that_its_lease_is_lost() {
    let cancelled = in_status(TaskStatus::Cancelled);
    let beat = |claim| heartbeat(&cancelled, claim, NOW).expect_err("cancelled");
    assert_eq!(beat(LeaseClaim::Named(lease_id(1))), Refusal::TaskCancelled);
    assert_eq!(beat(LeaseClaim::Named(lease_id(9))), Refusal::LeaseLost);
}

#[test]
fn the_default_lease_outlasts_the_tasks_own_timeout() {
    let mut new_policy = queued_task();
    assert_eq!(new_policy.default_ttl_seconds, 300);
    new_policy.default_ttl_seconds = 3630;
    let lease = granted(&new_policy, 1).lease.expect("granted");
    assert_eq!((lease.ttl_seconds, lease.expires_at - lease.started_at), (3630, 3_630_000));
}

#[test]
fn a_task_keeps_a_bounded_number_of_past_leases_the_newest() {
    let mut task = Task { max_attempts: 1000, ..queued_task() };
    for n in 1..=(LEASES_KEPT_PER_TASK as u64 + 5) {
        task = expire(&granted(&task, n), NOW).expect("leased").task;
    }
    assert_eq!(task.ended.len(), LEASES_KEPT_PER_TASK);
    assert_eq!(task.ended[0].lease.id, lease_id(6));
}

fn error_with(task: &Task, code: &str) -> (Task, Outcome) {
    let fields =
        fields(CompletionStatus::Error).map(|f| Completed { code: Some(code.into()), ..f });
    let (artifact, result) = (ArtifactId::new(5, 0), ResultId::new(5, 0));
    match complete(task, LeaseClaim::Unnamed, fields, artifact, result, at(NOW + 1)) {
        Ok(Completion::First(change, outcome)) => (change.task, *outcome),
        other => panic!("not completed: {other:?}"),
    }
}

fn with_retry() -> Task {
    let retry = Retry { on_error: true, backoff_seconds: 15, max_backoff_seconds: 300 };
    Task { retry: Some(retry), ..queued_task() }
}

#[test]
fn an_error_goes_back_into_the_queue_when_its_author_wants_it_and_waits_there() {
    let (task, outcome) = error_with(&granted(&with_retry(), 1), "timeout");
    assert_eq!((task.status, task.attempts, task.shown_lease()), (TaskStatus::Queued, 1, None));
    let delay = task.delay.expect("it waits");
    assert_eq!((delay.until_age_ms, delay.until), (500 + 12_000, NOW + 1 + 12_000));
    assert_eq!(task.ended[0].code.as_deref(), Some("timeout"));
    let again = granted(&task, 2);
    assert_eq!(again.delay, None);
    let claim = LeaseClaim::Named(lease_id(1));
    let repeat = complete(&again, claim, None, outcome.artifact_id, outcome.result_id, at(NOW));
    assert_eq!(repeat, Ok(Completion::Repeated { fence: 1 }));
    assert_eq!(Task { grants: 1, ..as_completed(&again, &outcome) }, task);
}

#[test]
fn an_error_is_the_end_when_the_author_the_code_or_the_attempts_say_so() {
    let status = |task: &Task, code: &str| error_with(&granted(task, 1), code).0.status;
    assert_eq!(status(&queued_task(), "timeout"), TaskStatus::Failed);
    assert_eq!(status(&with_retry(), "budget_exceeded"), TaskStatus::Failed);
    assert_eq!(status(&Task { max_attempts: 1, ..with_retry() }, "timeout"), TaskStatus::Failed);
    assert_eq!(status(&with_retry(), "timeout"), TaskStatus::Queued);
}

#[test]
fn after_a_retry_a_caller_that_names_no_lease_is_not_believed() {
    let again = granted(&error_with(&granted(&with_retry(), 1), "timeout").0, 2);
    let late = try_complete(&again, LeaseClaim::Unnamed, CompletionStatus::Success);
    assert_eq!(late, Err(Refusal::LeaseLost));
}

fn back(task: &Task, claim: LeaseClaim, code: &str) -> Result<HandedBack, Refusal> {
    let given =
        HandBack { code: code.into(), note: Some("words".into()), retry_after_seconds: None };
    hand_back(task, claim, Some(given), NOW + 3)
}

fn handed_back(task: &Task, code: &str) -> Task {
    match back(task, LeaseClaim::Unnamed, code) {
        Ok(HandedBack::First(change)) => change.task,
        other => panic!("not handed back: {other:?}"),
    }
}

#[test]
fn a_task_that_is_handed_back_is_queued_at_once_and_has_lost_no_attempt() {
    let running = in_status(TaskStatus::Running);
    let task = handed_back(&running, "usage_limit");
    assert_eq!((task.status, task.attempts, task.grants), (TaskStatus::Queued, 0, 1));
    assert_eq!((task.delay, task.ended[0].status()), (None, LeaseStatus::Released));
    assert_eq!(task.ended[0].note.as_deref(), Some("words"));
    let again = granted(&task, 2);
    let old = LeaseClaim::Named(lease_id(1));
    assert_eq!(back(&again, old, "usage_limit"), Ok(HandedBack::Repeated));
    assert_eq!(try_complete(&again, old, CompletionStatus::Success), Err(Refusal::LeaseLost));
    assert_eq!(back(&again, LeaseClaim::Unnamed, "usage_limit"), Err(Refusal::LeaseLost));
}

#[test]
fn a_hand_back_with_a_code_that_nobody_knows_costs_an_attempt_and_the_last_one_is_dead() {
    let mut task = Task { max_attempts: 2, ..queued_task() };
    for (n, then) in [(1, TaskStatus::Queued), (2, TaskStatus::Dead)] {
        task = granted(&task, n);
        let claim = LeaseClaim::Named(lease_id(n));
        let Ok(HandedBack::First(change)) = back(&task, claim, "tired") else { panic!() };
        task = change.task;
        assert_eq!((task.status, u64::from(task.attempts)), (then, n));
    }
}

#[test]
fn only_the_holder_hands_a_task_back_and_only_while_it_holds_it() {
    for status in TaskStatus::ALL {
        let task = in_status(status);
        let held = matches!(status, TaskStatus::Leased | TaskStatus::Running);
        let stranger = back(&task, LeaseClaim::Named(lease_id(9)), "worker_stopping");
        assert_eq!(stranger, Err(Refusal::LeaseLost), "{status:?}");
        let unnamed = back(&task, LeaseClaim::Unnamed, "worker_stopping");
        if held {
            assert!(unnamed.is_ok(), "{status:?}");
            let wrong = hand_back(&task, LeaseClaim::Unnamed, None, NOW);
            assert_eq!(wrong, Err(Refusal::InvalidFields));
        } else {
            assert_eq!(unnamed, Err(Refusal::NotLeased(status)));
        }
        let unknown = back(&task, LeaseClaim::Unknown, "worker_stopping");
        assert_eq!(unknown, Err(Refusal::LeaseLost), "{status:?}");
    }
}
