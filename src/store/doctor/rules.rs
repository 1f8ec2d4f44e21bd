//! What must hold of one task's records in one file, whatever else is there.
//!
//! Must stay true: only what the transitions guarantee is asked for (`domain::transition`); times are
//! never compared, since the wall clock may jump. Not here: what must hold between records.

use super::findings::{Findings, InFile, ProblemKind};
use super::rows::Group;
use crate::domain::{
    CompletionStatus, EndedLease, LEASES_KEPT_PER_TASK, LeaseEnd, Outcome, Task, TaskStatus,
};
use crate::store::schema::{PART_SPEC, part_of_file, part_of_outcome};

/// Finds what is wrong with the task of this group.
pub fn check(findings: &mut Findings, file: InFile, group: &Group, task: &Task) {
    let id = task.id;
    if task.seq() != group.seq {
        let text = format!("task {id} stands under the number {}", group.seq);
        findings.problem(ProblemKind::Misplaced, file, text);
    }
    let mut wrong = |text: &str| {
        findings.problem(ProblemKind::Contradiction, file, format!("task {id} {text}"));
    };
    let status = task.status;
    let is_lent = matches!(status, TaskStatus::Leased | TaskStatus::Running);
    match &task.lease {
        None if is_lent => wrong(&format!("is {} without a lease", status.as_str())),
        Some(lease) if !is_lent => {
            wrong(&format!("is {} but holds the lease {}", status.as_str(), lease.id));
        }
        _ => {}
    }
    if task.delay.is_some() && status != TaskStatus::Queued {
        wrong(&format!("is {} but waits to be tried again", status.as_str()));
    }
    if file == InFile::Archive && !status.is_finished() {
        wrong(&format!("is {} but stands in the archive", status.as_str()));
    }
    check_fences(task, &mut wrong);
    check_attempts(task, &mut wrong);
    check_ends(task, &mut wrong);
    check_parts(findings, file, group, task);
}

fn check_fences(task: &Task, wrong: &mut impl FnMut(&str)) {
    let active = task.lease.iter().map(|lease| (lease.id, lease.fence));
    let leases: Vec<_> =
        task.ended.iter().map(|ended| (ended.lease.id, ended.lease.fence)).chain(active).collect();
    let ended = u64::from(task.grants).saturating_sub(u64::from(task.lease.is_some()));
    let kept = ended.min(LEASES_KEPT_PER_TASK as u64);
    if task.ended.len() as u64 != kept {
        let there = task.ended.len();
        wrong(&format!("was granted {} times, but {there} past leases are there", task.grants));
    }
    // One number a grant: the last is the count, those before it come one by one.
    let mut expected = i64::from(task.grants);
    for (id, fence) in leases.iter().rev() {
        if i64::from(*fence) != expected {
            wrong(&format!("has the lease {id} with the fencing number {fence}, not {expected}"));
            break;
        }
        expected -= 1;
    }
    if !leases.windows(2).all(|pair| pair[0].0.seq() < pair[1].0.seq()) {
        wrong("has leases that are not in the order of their grants");
    }
}

fn check_attempts(task: &Task, wrong: &mut impl FnMut(&str)) {
    let (attempts, most) = (task.attempts, task.max_attempts);
    let fits = attempts <= most
        && attempts <= task.grants
        && match task.status {
            TaskStatus::Queued => attempts < most,
            TaskStatus::Leased | TaskStatus::Running => attempts > 0,
            TaskStatus::Completed | TaskStatus::Failed => attempts > 0,
            TaskStatus::Dead => attempts == most,
            TaskStatus::Cancelled => true,
        };
    if !fits {
        let status = task.status.as_str();
        let grants = task.grants;
        wrong(&format!(
            "is {status} after {attempts} of {most} attempts and {grants} grants, which cannot be"
        ));
    }
}

fn check_ends(task: &Task, wrong: &mut impl FnMut(&str)) {
    for EndedLease { lease, end, outcome, .. } in &task.ended {
        if outcome.is_some() != (*end == LeaseEnd::Completed) {
            let outcome = if outcome.is_some() { "an outcome" } else { "no outcome" };
            wrong(&format!("has the lease {} that ended as {end:?} and has {outcome}", lease.id));
        }
    }
    let last = task.ended.last().map(|ended| ended.end);
    let fits = match task.status {
        TaskStatus::Completed | TaskStatus::Failed => last == Some(LeaseEnd::Completed),
        TaskStatus::Dead => matches!(last, Some(LeaseEnd::Expired | LeaseEnd::Released)),
        _ => true,
    };
    if !fits {
        wrong(&format!("is {}, but its last lease ended as {last:?}", task.status.as_str()));
    }
}

fn check_parts(findings: &mut Findings, file: InFile, group: &Group, task: &Task) {
    let id = task.id;
    let mut problem = |kind, text: String| findings.problem(kind, file, text);
    if !group.has(PART_SPEC) {
        problem(ProblemKind::Missing, format!("task {id} has no prompt and no settings"));
    }
    for (n, ended) in task.ended.iter().enumerate() {
        let (Some(seq), fence) = (ended.outcome, ended.lease.fence) else { continue };
        let what = format!("the outcome of lease {} of task {id}", ended.lease.id);
        if !group.has(part_of_outcome(fence)) {
            problem(ProblemKind::Missing, format!("{what} is missing"));
            continue;
        }
        // One that cannot be read was told of already.
        let Some(outcome) = group.outcome(fence) else { continue };
        if !is_of(outcome, task, ended, seq) {
            problem(ProblemKind::Misplaced, format!("{what} is that of something else"));
        }
        let succeeded = outcome.status == CompletionStatus::Success;
        let is_last = n + 1 == task.ended.len();
        let fits = match task.status {
            TaskStatus::Completed if is_last => succeeded,
            TaskStatus::Failed if is_last => !succeeded,
            // What has succeeded is over: nothing follows.
            _ => !succeeded,
        };
        if !fits {
            let text = format!("task {id} is {}, which {what} denies", task.status.as_str());
            problem(ProblemKind::Contradiction, text);
        }
    }
    if file == InFile::Archive {
        // A task that came back keeps its files here, so the live copy need not have them.
        for of_task in task.files.iter().filter(|of_task| !group.has(part_of_file(of_task.seq))) {
            problem(ProblemKind::Missing, format!("file {} of task {id} is missing", of_task.seq));
        }
    }
    let first_kept = task.ended.first().map_or(0, |ended| ended.lease.fence);
    for part in group.parts() {
        let belongs = part == PART_SPEC
            || task.files.iter().any(|file| part_of_file(file.seq) == part)
            || task
                .ended
                .iter()
                .any(|ended| ended.outcome.is_some() && part_of_outcome(ended.lease.fence) == part)
            || is_of_a_lease_that_made_room(task, first_kept, part);
        if !belongs {
            let text = format!("part {part} of task {id} belongs to none of its leases");
            problem(ProblemKind::Orphan, text);
        }
    }
}

/// A task keeps its newest leases only; what was completed under the others stays.
fn is_of_a_lease_that_made_room(task: &Task, first_kept: u32, part: u64) -> bool {
    task.ended.len() == LEASES_KEPT_PER_TASK
        && part > PART_SPEC
        && part < part_of_outcome(first_kept)
}

fn is_of(outcome: &Outcome, task: &Task, ended: &EndedLease, seq: u64) -> bool {
    outcome.task_id == task.id
        && outcome.lease_id == ended.lease.id
        && outcome.worker_id == ended.lease.worker_id
        && outcome.artifact_id.seq() == seq
        && outcome.result_id.seq() == seq
        && outcome.attempts > 0
        && outcome.attempts <= task.max_attempts
}
