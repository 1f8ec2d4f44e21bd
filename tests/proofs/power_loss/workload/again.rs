//! What was answered is asked for again: the same answer, and nothing changes.
//!
//! Not here: what is known (`workload`, `keyed`).

use super::{Driver, objects};
use crate::power_loss::commands::{Answers, complete, create, hand_back};
use bloom_runtime::domain::CompletionStatus;

impl Driver {
    /// Completes again what was completed, hands back again what was handed back: the same answer, and
    /// nothing changes (P7).
    pub fn repeat_ends(&mut self) -> Result<(), String> {
        let known: Vec<_> =
            self.completed.iter().map(|(lease, known)| (*lease, known.clone())).collect();
        let before = self.last().state.clone();
        for (lease, (task, outcome)) in known.into_iter().rev().take(3) {
            let mut answers = Answers::default();
            let mut batch = Vec::new();
            complete(&mut batch, &mut answers, task, lease, CompletionStatus::Error, 1);
            self.step(batch);
            let answer = answers.completed.remove(0).1.try_recv().map_err(|_| "no answer")?;
            let answer =
                answer.map_err(|error| format!("complete again under {lease}: {error}"))?;
            if !objects::is_same(&outcome, &answer.outcome) {
                return Err(format!("complete again under {lease} gave another answer"));
            }
            if self.last().state != before {
                return Err(format!("complete again under {lease} changed something"));
            }
        }
        let known: Vec<_> = self.released.iter().map(|(lease, task)| (*lease, *task)).collect();
        for (lease, task) in known.into_iter().rev().take(3) {
            let (mut answers, mut batch) = (Answers::default(), Vec::new());
            hand_back(&mut batch, &mut answers, task, lease, "tired");
            self.step(batch);
            let answer = answers.released.remove(0).1.try_recv().map_err(|_| "no answer")?;
            answer.map_err(|error| format!("hand back again under {lease}: {error}"))?;
            if self.last().state != before {
                return Err(format!("hand back again under {lease} changed something"));
            }
        }
        Ok(())
    }

    /// Creates again what was created under a key: the same answer, or a refusal of something else, and
    /// nothing changes.
    pub fn repeat_creations(&mut self) -> Result<(), String> {
        let before = self.last().state.clone();
        for (key, new, expected) in self.keyed.again() {
            let mut answers = Answers::default();
            let mut batch = Vec::new();
            create(&mut batch, &mut answers, new, Some(key.clone()));
            self.step(batch);
            let answer = answers.created.remove(0).2.try_recv().map_err(|_| "no answer")?;
            if answer != expected {
                return Err(format!("{key:?} again: {answer:?}, not {expected:?}"));
            }
            if self.last().state != before {
                return Err(format!("{key:?} again changed something"));
            }
        }
        Ok(())
    }
}
