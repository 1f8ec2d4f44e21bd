//! A task that stands in both files: a move under way, or one that came back from the archive.
//!
//! Must stay true: the hot copy is the archive's or a later one of the same task. Not here: what must
//! hold of each copy (`rules`).

use super::findings::{Findings, InFile, ProblemKind};
use super::rows::Group;
use crate::domain::Task;

/// Finds where the archive's copy is not an earlier state of the hot one.
pub fn check(findings: &mut Findings, hot: &Group, archived: &Group) {
    let (Some(live), Some(copy)) = (&hot.task, &archived.task) else { return };
    let id = live.id;
    let mut problem = |kind, text: String| findings.problem(kind, InFile::Both, text);
    if copy.id != id {
        let text =
            format!("task number {} is {id} in hot.redb and {} in archive.redb", hot.seq, copy.id);
        return problem(ProblemKind::Apart, text);
    }
    if !is_later_or_equal(live, copy) {
        let text =
            format!("the archive's copy of task {id} is newer than the live one, or another");
        problem(ProblemKind::Apart, text);
    }
    for part in archived.parts() {
        let (here, there) = (hot.fingerprint(part), archived.fingerprint(part));
        if here.is_some() && here != there && !archived.is_stored(part) {
            problem(
                ProblemKind::Apart,
                format!("part {part} of task {id} differs between the files"),
            );
        }
    }
    if live == copy {
        for part in hot.parts().filter(|part| !archived.has(*part)) {
            let text = format!("part {part} of task {id} was not copied with it");
            problem(ProblemKind::Missing, text);
        }
    }
}

fn is_later_or_equal(live: &Task, copy: &Task) -> bool {
    let written_once =
        |task: &Task| (task.created_at, task.priority, task.max_attempts, task.default_ttl_seconds);
    let first_kept = live.ended.first().map_or(u32::MAX, |ended| ended.lease.fence);
    let mut shared = copy.ended.iter().filter(|ended| ended.lease.fence >= first_kept);
    live == copy
        || (written_once(live) == written_once(copy)
            && live.context_id == copy.context_id
            && live.labels == copy.labels
            && live.grants >= copy.grants
            && shared.all(|ended| live.ended.contains(ended)))
}
