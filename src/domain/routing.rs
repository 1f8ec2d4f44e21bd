//! Who may take a task, and who gets it: the gate and the choice of a worker.
//!
//! Must stay true: one gate for everyone, an explicit `worker_id` included (P2). Not here: the
//! ready queue, which keeps "highest priority first, oldest first" in order (`engine::ready`).

use super::{NoWorker, Task, Worker, WorkerId};
use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A worker with what memory knows of it at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub worker: &'a Worker,
    /// Registered as online and heard of lately.
    pub online: bool,
    /// Rests after its provider's limit or failures.
    pub cooling: bool,
    pub active_leases: u32,
    /// Holds an active lease for the task's context.
    pub sticky: bool,
}

/// A short name for a context, for the sticky preference alone: two contexts that share it would
/// only prefer the same worker.
pub fn context_key(context_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    context_id.hash(&mut hasher);
    hasher.finish()
}

/// Whether this worker may take one more task that asks for `labels` (`DESIGN §3`, P2).
pub fn gate(candidate: &Candidate<'_>, labels: &[String]) -> Result<(), NoWorker> {
    let offered = &candidate.worker.capabilities;
    if !candidate.online {
        return Err(NoWorker::NotOnline);
    }
    if !offered.claude_cli {
        return Err(NoWorker::NoClaudeCli);
    }
    if !labels.iter().all(|label| offered.labels.contains(label)) {
        return Err(NoWorker::LabelMissing);
    }
    if candidate.worker.draining {
        return Err(NoWorker::Draining);
    }
    if candidate.cooling {
        return Err(NoWorker::Cooling);
    }
    if candidate.active_leases >= offered.max_concurrency {
        return Err(NoWorker::AtCapacity);
    }
    Ok(())
}

/// The worker for a task: sticky context first, then the most free capacity, then the id. When
/// nobody may, the reason of the one who came nearest.
pub fn pick_worker<'a>(
    task: &Task,
    candidates: impl Iterator<Item = Candidate<'a>>,
) -> Result<&'a WorkerId, NoWorker> {
    let mut best: Option<(bool, u32, Reverse<&'a WorkerId>)> = None;
    let mut nearest = NoWorker::NoneRegistered;
    for candidate in candidates {
        match gate(&candidate, &task.labels) {
            Ok(()) => {
                let free = candidate.worker.capabilities.max_concurrency - candidate.active_leases;
                let rank = (candidate.sticky, free, Reverse(&candidate.worker.id));
                best = best.max(Some(rank));
            }
            Err(reason) if nearness(reason) > nearness(nearest) => nearest = reason,
            Err(_) => {}
        }
    }
    best.map(|(_, _, Reverse(id))| id).ok_or(nearest)
}

fn nearness(reason: NoWorker) -> u8 {
    match reason {
        NoWorker::NoneRegistered => 0,
        NoWorker::Unknown | NoWorker::NotPushable => 1,
        NoWorker::NotOnline => 2,
        NoWorker::NoClaudeCli => 3,
        NoWorker::LabelMissing => 4,
        NoWorker::Draining => 5,
        NoWorker::Cooling => 6,
        NoWorker::AtCapacity => 7,
        NoWorker::AgentAtLimit => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Registration, register};
    use super::*;
    use crate::domain::transition::tests::queued_task;

    fn worker(name: &str, max_concurrency: u32, labels: &[&str]) -> Worker {
        let registration = Registration {
            max_concurrency: Some(max_concurrency),
            labels: Some(labels.iter().map(|label| label.to_string()).collect()),
            ..Registration::default()
        };
        register(None, WorkerId(name.into()), registration, 1, 0)
    }

    fn candidate(worker: &Worker, active_leases: u32) -> Candidate<'_> {
        Candidate { worker, online: true, cooling: false, active_leases, sticky: false }
    }

    fn pick(task: &Task, candidates: &[Candidate<'_>]) -> Result<String, NoWorker> {
        pick_worker(task, candidates.iter().copied()).map(ToString::to_string)
    }

    #[test]
    fn the_most_free_worker_is_picked_and_the_id_breaks_a_tie() {
        let (a, b, c) = (worker("a", 2, &[]), worker("b", 4, &[]), worker("c", 4, &[]));
        let all = [candidate(&a, 0), candidate(&c, 1), candidate(&b, 1)];
        assert_eq!(pick(&queued_task(), &all), Ok("b".into()));
    }

    #[test]
    fn the_context_sticks_to_its_worker_until_that_is_full() {
        let (a, b) = (worker("a", 32, &[]), worker("b", 2, &[]));
        let sticky = |active| Candidate { sticky: true, ..candidate(&b, active) };
        assert_eq!(pick(&queued_task(), &[candidate(&a, 0), sticky(1)]), Ok("b".into()));
        assert_eq!(pick(&queued_task(), &[candidate(&a, 0), sticky(2)]), Ok("a".into()));
    }

    #[test]
    fn every_condition_of_the_gate_keeps_a_worker_out_and_names_itself() {
        let task = Task { labels: vec!["gpu".into()], ..queued_task() };
        let good = worker("good", 1, &["gpu", "big"]);
        let mut mute = good.clone();
        mute.capabilities.claude_cli = false;
        let mut leaving = good.clone();
        leaving.draining = true;
        let bare = worker("bare", 1, &["big"]);
        let cases = [
            (candidate(&good, 0), Ok(())),
            (Candidate { online: false, ..candidate(&good, 0) }, Err(NoWorker::NotOnline)),
            (candidate(&mute, 0), Err(NoWorker::NoClaudeCli)),
            (candidate(&bare, 0), Err(NoWorker::LabelMissing)),
            (candidate(&leaving, 0), Err(NoWorker::Draining)),
            (Candidate { cooling: true, ..candidate(&good, 0) }, Err(NoWorker::Cooling)),
            (candidate(&good, 1), Err(NoWorker::AtCapacity)),
        ];
        for (candidate, expected) in cases {
            assert_eq!(gate(&candidate, &task.labels), expected);
        }
        assert_eq!(pick(&task, &[]), Err(NoWorker::NoneRegistered));
        assert_eq!(pick(&task, &[cases[1].0, cases[6].0, cases[2].0]), Err(NoWorker::AtCapacity));
    }
}
