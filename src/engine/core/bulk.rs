//! Many tasks by a person's hand at once: requeue or cancel.
//!
//! Must stay true: each is decided by its own state, and told of by itself; those for which it is too
//! late by now are left alone; what a commit holds is bounded (P9). Not here: which tasks (`query`).

use super::Core;
use crate::domain::{self, TaskId};
use crate::engine::batch::Batch;
use crate::engine::{ByHand, Changed, EngineError};

/// Bytes of prompts and outputs that one commit brings back from the archive.
const BYTES_MAX: usize = 16 << 20;

impl Core {
    pub(super) fn many_by_hand(
        &mut self,
        batch: &mut Batch<'_>,
        tasks: &[TaskId],
        what: ByHand,
    ) -> Result<Changed, EngineError> {
        let mut done = Changed::default();
        let mut bytes = 0;
        for id in tasks {
            if bytes >= BYTES_MAX {
                break;
            }
            done.tried += 1;
            let result = match what {
                ByHand::Requeue => self.by_hand(batch, *id, domain::requeue),
                ByHand::Cancel => self.by_hand(batch, *id, domain::cancel),
            };
            match result {
                Ok(view) => {
                    done.changed += 1;
                    let ended = view.task.ended.iter().map(|ended| ended.lease.fence);
                    let output = |fence| batch.output_bytes((id.seq(), fence));
                    bytes += view.spec.prompt.len() + ended.map(output).sum::<usize>();
                }
                Err(EngineError::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(done)
    }
}
