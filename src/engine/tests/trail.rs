//! How long the audit trail is kept, and what retention would do: never early, on served time, and what is
//! left adds up.

use super::*;
use crate::engine::{Outlook, Retention};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const FORTY_YEARS_MS: i64 = 40 * 365 * DAY_MS as i64;

fn trail_for(days: u32) -> Retention {
    Retention::new([], Some(days))
}

impl World {
    /// Removes all entries that are due, as the duty does, at most so many at once.
    fn remove_trail(&mut self, days: u32, at_once: usize) -> usize {
        let (mut removed, now) = (0, self.clock.now().mono);
        while let Some(until) = self.query.audit_due(&trail_for(days), now).expect("readable") {
            let step = self.query.remove_audit(until, at_once).expect("the disk works");
            assert!((1..=at_once).contains(&step), "a step that does nothing would never end");
            removed += step;
            self.assert_healthy();
        }
        removed
    }

    fn next_due_ms(&self, retention: Retention) -> Option<u64> {
        self.query.due_in_ms(&retention, self.clock.now().mono).expect("readable")
    }

    fn outlook(&self, retention: Retention) -> Outlook {
        self.query.outlook(&retention, self.clock.now().mono).expect("readable")
    }

    fn syncs(&self) -> (u64, u64) {
        (self.hot.syncs(), self.archive.syncs())
    }

    fn complete_one(&mut self) {
        self.register("w", 32);
        let task = self.create();
        let held = self.leased(task);
        self.complete(task, held).expect("held");
    }

    /// The newest record never leaves the hot file, so there is always one to spare.
    fn tell_one_more(&mut self) {
        self.create();
    }
}

/// A trail of 5 entries in the archive, of the first hour, and one in the hot file.
fn told() -> World {
    let mut world = World::new();
    world.complete_one();
    world.tell_one_more();
    world.move_finished();
    assert_eq!(world.trail().len(), 5, "{:?}", world.trail());
    world
}

#[test]
fn an_entry_goes_after_its_days_of_service_and_the_rest_adds_up() {
    let mut world = told();
    world.pass_ms(20 * DAY_MS);
    world.complete_one();
    world.tell_one_more();
    world.move_finished();
    let whole = world.trail();
    // The hour that the first entries share must be over as well.
    world.clock.pass_ms(10 * DAY_MS + HOUR_MS + 1);
    let due = world.outlook(trail_for(30)).audit.due;
    assert_eq!(world.remove_trail(30, 3), 4);
    assert_eq!(due, 4, "the dry run had said so");
    assert_eq!(world.trail(), whole[4..]);
    let audit = world.outlook(trail_for(30)).audit;
    assert_eq!((audit.due, audit.removed), (0, 4));
    let mut world = world.restart();
    assert_eq!(world.trail(), whole[4..]);
    world.pass_ms(31 * DAY_MS);
    assert!(world.remove_trail(30, 100) > 0);
    // A page ends where the trail now begins.
    let page = world.query.audit(u64::MAX, 1_000).unwrap();
    assert!(page.next.is_none() && !page.rows.is_empty());
}

#[test]
fn no_entry_goes_a_millisecond_early_whatever_the_wall_clock_does_p4() {
    for jump in [FORTY_YEARS_MS, -FORTY_YEARS_MS] {
        let mut world = told();
        let wall = world.clock.now().wall;
        world.clock.set_wall(wall + jump);
        assert_eq!(world.remove_trail(1, 10), 0, "jump of {jump}");
        let mut world = world.restart();
        assert_eq!(world.next_due_ms(trail_for(1)), Some(DAY_MS + HOUR_MS + 1));
        world.clock.pass_ms(DAY_MS + HOUR_MS);
        assert_eq!(world.remove_trail(1, 10), 0, "not a millisecond early");
        world.clock.pass_ms(1);
        assert_eq!(world.next_due_ms(trail_for(1)), Some(0));
        assert_eq!(world.remove_trail(1, 10), 4);
    }
}

#[test]
fn what_may_still_stand_in_the_journal_stays_and_is_not_waited_for() {
    let mut world = told();
    world.complete_one();
    world.tell_one_more();
    // Only the first half of the move: the archive has them, the hot file has not let go.
    let copied = world.copy_finished();
    let whole = world.trail();
    world.clock.pass_ms(40 * DAY_MS);
    assert!(world.remove_trail(30, 100) <= 4);
    assert_eq!(
        world.next_due_ms(trail_for(30)),
        None,
        "a loop that tries at once would never rest"
    );
    let mut world = world.restart();
    assert!(world.trail().len() >= whole.len() - 4, "{:?}", world.trail());
    world.clock.pass_ms(40 * DAY_MS);
    world.ask(|reply| Command::Archived { copied, reply }).expect("always possible");
    world.assert_healthy();
    world.remove_trail(30, 100);
    assert!(!world.trail().is_empty(), "the newest record tells where the counts are");
}

#[test]
fn while_no_entry_is_due_nothing_is_written_p8() {
    let mut world = told();
    world.pass_ms(29 * DAY_MS);
    let before = world.syncs();
    assert_eq!(world.remove_trail(30, 100), 0);
    assert_eq!(world.query.remove_audit(0, 100), Ok(0));
    assert_eq!(world.syncs(), before);
    world.pass_ms(2 * DAY_MS);
    assert!(world.remove_trail(30, 100) > 0);
    let before = world.syncs();
    world.pass_ms(DAY_MS);
    assert_eq!(world.remove_trail(30, 100), 0);
    assert_eq!(world.syncs(), before);
}

#[test]
fn each_status_has_its_own_days_and_one_without_stays() {
    let mut world = World::new();
    world.complete_one();
    let failed = world.create();
    let held = world.leased(failed);
    world.fail(failed, held).expect("held");
    let cancelled = world.create();
    world.cancel(cancelled).expect("queued");
    world.move_finished();
    let retention = Retention::new([(TaskStatus::Completed, 10), (TaskStatus::Failed, 20)], None);
    let due = |world: &World| {
        let outlook = world.outlook(retention);
        let found = world.query.due(&retention, world.clock.now().mono, 100).unwrap();
        let each: Vec<_> = outlook.tasks.iter().map(|of| of.due).collect();
        assert_eq!(each.iter().sum::<usize>(), found.len(), "the dry run counts what would go");
        each
    };
    // completed, failed, dead, cancelled
    assert_eq!(due(&world), [0, 0, 0, 0]);
    world.pass_ms(10 * DAY_MS + 1);
    assert_eq!(due(&world), [1, 0, 0, 0]);
    world.pass_ms(10 * DAY_MS);
    assert_eq!(due(&world), [1, 1, 0, 0]);
    world.pass_ms(3_650 * DAY_MS);
    assert_eq!(due(&world), [1, 1, 0, 0]);
    let outlook = world.outlook(retention);
    let days: Vec<_> = outlook.tasks.iter().map(|of| of.days).collect();
    assert_eq!(days, [Some(10), Some(20), None, None]);
    let oldest: Vec<_> = outlook.tasks.iter().map(|of| of.oldest_at.is_some()).collect();
    assert_eq!(oldest, [true, true, false, true]);
}
