//! What the mover's two commits do: the copy into the archive, and letting the hot file go.

use super::{Copy, Model};
use std::rc::Rc;

impl Model {
    /// The first commit: the oldest finished tasks of the hot file and its oldest journal records but
    /// the newest stand in the archive now, in both files for a while.
    pub fn copy_finished(&mut self, tasks: usize, changes: usize) -> &Copy {
        let mut copy = Copy::default();
        for number in self.unmoved.iter().take(tasks) {
            let row = Rc::make_mut(self.finished.get_mut(number).expect("it is finished"));
            row.archived = Some(row.facts.clone());
            copy.tasks.push(row.facts.clone());
        }
        let but_the_newest = self.journal.len().saturating_sub(1);
        for held in self.journal.iter().take(but_the_newest) {
            if copy.changes >= changes {
                break;
            }
            copy.changes += held;
            copy.records += 1;
        }
        self.copy = copy;
        &self.copy
    }

    /// The second: whatever is as it was copied leaves the hot file.
    pub(super) fn let_go(&mut self) {
        let copy = std::mem::take(&mut self.copy);
        for facts in copy.tasks {
            // What this batch has touched before is not let go, even if it looks the same again.
            let number = facts.number;
            if self.touched.contains(&number) {
                continue;
            }
            let Some(row) = self.finished.get_mut(&number).filter(|row| row.facts == facts) else {
                continue;
            };
            Rc::make_mut(row).in_hot = false;
            self.unmoved.remove(&number);
            self.writes = true;
        }
        if copy.records > 0 {
            self.journal.drain(..copy.records);
            self.writes = true;
        }
    }
}
