//! Contents that go to S3, as far as the store notes it.
//!
//! Must stay true: a note that returned counts as answered. Not here: S3.

use super::{Driver, Phase};
use crate::power_loss::state::State;
use bloom_runtime::domain::{Outcome, StoredObject};
use bloom_runtime::store::ObjectRules;

pub const RULES: ObjectRules = ObjectRules { uploads: true, keeps_inline: false, deletes: true };

/// Whether it is the same outcome, whose content may have gone to S3 since.
pub fn is_same(known: &Outcome, now: &Outcome) -> bool {
    let without_content =
        |outcome: &Outcome| Outcome { output: None, stored: None, ..outcome.clone() };
    match now.stored.is_some() {
        true => without_content(known) == without_content(now),
        false => known == now,
    }
}

impl Driver {
    /// Contents go to S3 from now on.
    pub fn with_s3(mut self) -> Driver {
        self.to_s3 = true;
        self
    }

    /// Notes of some contents that they lie in S3, and of some objects that they are gone.
    pub fn note_objects(&mut self) {
        self.enter(Phase::Store);
        let begun = self.tape.len();
        let query = self.core().query();
        let most = 1 + self.dice.roll(4);
        let done: Vec<_> = query
            .waiting_uploads(0, most)
            .expect("the disk works")
            .iter()
            .map(|row| {
                let key = format!("artifact-{}", row.artifact);
                let (bucket, sha256) = ("b".to_owned(), "cd".repeat(32));
                (row.artifact, StoredObject { bucket, key, bytes: 1, sha256 })
            })
            .collect();
        query.mark_stored(&done).expect("the disk works");
        self.tape.mark();
        let state = State::of(self.store()).expect("the disk works");
        self.push(begun, self.tape.len(), state);
        if self.dice.one_in(2) {
            let gone = query.waiting_deletions(most).expect("the disk works");
            query.mark_deleted(&gone).expect("the disk works");
        }
    }
}
