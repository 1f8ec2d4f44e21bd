//! What must be left of a life when its disks work again.
//!
//! Must stay true: it asks for nothing that was not promised. Not here: the life itself.

use super::{Life, PAUSE_MS};
use bloom_runtime::engine::Artifact;

impl Life {
    /// The disk works, what was not synced is gone: everything answered is there, nothing is half there.
    pub fn check_after_power_cut(&mut self) {
        self.trouble.plan(None);
        self.writer = None;
        self.hot.disk.cut_power();
        self.archive.disk.cut_power();
        self.open();
        self.look_around().expect("nothing fails any more");
        let (_, query) = self.writer.as_ref().expect("open");
        let stats = query.stats();
        let mut counted = [0; 7];
        for view in query.tasks(None, u64::MAX, 1_000).expect("readable").rows {
            counted[view.task.status as usize] += 1;
        }
        assert_eq!(stats.tasks_by_status, counted, "the counts say what is there");
        for (task, known) in &self.tasks {
            if let Some(outcome) = &known.outcome {
                let stored = query.artifacts_of(*task, u64::MAX, 100).expect("readable").rows;
                assert!(
                    stored.contains(&Artifact::Output(outcome.clone())),
                    "the result of {task} is lost"
                );
            }
        }
        self.clock.pass_ms(PAUSE_MS);
        assert!(self.create("once more").expect("it lives").is_some());
        self.send_all_again();
    }

    /// Whatever was said to a creation, under its key it is there once.
    fn send_all_again(&mut self) {
        for n in 0..self.wishes.len() {
            let view = self.send(n).expect("it lives").expect("the disk works");
            let answered = self.wishes[n].1;
            assert!(
                answered.is_none_or(|task| task == view.task.id),
                "{answered:?} twice: {view:?}"
            );
        }
        let (_, query) = self.writer.as_ref().expect("open");
        let there: u64 = query.stats().tasks_by_status.iter().sum();
        assert_eq!(there, self.wishes.len() as u64, "each is there once");
    }
}
