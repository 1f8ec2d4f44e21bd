//! How many tasks of one agent may be leased at a time (`AGENT_LIMITS`), and how many are.
//!
//! Must stay true: no grant takes an agent beyond its limit, by whichever way it comes. Only tasks of
//! agents that have a limit are known here, by number, so that those without one cost nothing. Not
//! here: which task comes next (`ready`).

use crate::domain::Task;
use std::collections::HashMap;
use std::sync::Arc;

/// The limits, by agent: each at least 1.
pub type AgentLimits = Arc<[(String, u32)]>;

/// An agent that has a limit: its place among the limits.
pub type Limited = usize;

/// The limits and the leases counted against them.
#[derive(Default)]
pub struct Agents {
    limits: AgentLimits,
    active: Vec<u32>,
    of_task: HashMap<u64, Limited>,
}

impl Agents {
    pub fn new(limits: AgentLimits) -> Self {
        Agents { active: vec![0; limits.len()], limits, of_task: HashMap::new() }
    }

    /// The same limits, with nothing counted.
    pub fn emptied(&self) -> Self {
        Agents::new(self.limits.clone())
    }

    /// Whether there is nothing to look at.
    pub fn are_free(&self) -> bool {
        self.limits.is_empty()
    }

    /// Remembers whose task this is; to be told before its record is scheduled.
    pub fn learn(&mut self, task: u64, agent_slug: &str) {
        let place = self.limits.iter().position(|(agent, _)| agent == agent_slug);
        if let Some(limited) = place {
            self.of_task.insert(task, limited);
        }
    }

    /// Nothing of this task happens any more.
    pub fn forget(&mut self, task: u64) {
        self.of_task.remove(&task);
    }

    pub fn of(&self, task: u64) -> Option<Limited> {
        self.of_task.get(&task).copied()
    }

    /// Counts a lease that began (`true`) or ended, as the task's record shows it.
    pub fn count(&mut self, task: &Task, began: bool) {
        let Some(limited) = self.of(task.seq()).filter(|_| task.lease.is_some()) else { return };
        let active = &mut self.active[limited];
        *active = if began { *active + 1 } else { active.saturating_sub(1) };
    }

    pub fn is_full(&self, limited: Limited) -> bool {
        self.active[limited] >= self.limits[limited].1
    }

    /// The leases of each agent that has a limit, in the order of the limits.
    pub fn active(&self) -> &[u32] {
        &self.active
    }
}
