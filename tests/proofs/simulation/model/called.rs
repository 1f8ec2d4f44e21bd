//! Workers that gave an address and ask for nothing: the server claims for them, and calls them.
//!
//! Must stay true: such a claim goes the way of every other, and is no sign of life. Not here: the call
//! itself, which is the pusher's.

use super::super::facts::{Answer, Call, TaskFacts};
use super::{Member, Model};
use bloom_runtime::domain::{NoWorker, Refusal};
use std::collections::BTreeMap;

impl Model {
    pub(super) fn is_called(&self, member: &Member) -> bool {
        self.pushes && !member.url.is_empty() && !member.claims
    }

    pub(super) fn best_of_the_called(&self, task: &TaskFacts) -> Result<String, NoWorker> {
        let called = self.workers.iter().filter(|(_, member)| self.is_called(member));
        self.best(task, called.map(|(name, _)| name))
    }

    pub(super) fn claim_for(&mut self, call: &Call, worker: &str, wait_ms: u64) -> Option<Answer> {
        if call.gone {
            return None;
        }
        if !self.workers.get(worker).is_some_and(|member| self.is_called(member)) {
            return Some(Answer::Refused(Refusal::NoWorker(NoWorker::NotPushable)));
        }
        self.serve_or_wait(call, worker, None, wait_ms)
    }

    /// A worker that asks for tasks is not called any more: what is claimed for it ends, and so does a
    /// rest for calls that it never waited for.
    pub(super) fn calls_no_more(&mut self, name: &str, answers: &mut BTreeMap<u64, Answer>) {
        let member = self.workers.get_mut(name).expect("it claims");
        if member.url.is_empty() || member.claims {
            return;
        }
        member.claims = true;
        member.rest.take_if(|rest| rest.facts.code.starts_with("agent_"));
        let detail = format!("Worker {name} asks for its tasks, so none are pushed to it");
        self.change_worker("worker_updated", name, "runtime", detail);
        for wait in self.waiting.extract_if(.., |wait| wait.worker == name) {
            answers.insert(wait.call, Answer::NoTask);
        }
    }
}
