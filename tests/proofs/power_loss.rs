//! Power loss: whatever is left of what was written, the store opens, every answered write is there,
//! nothing unanswered is half there, and everything holds (P1, P3, P6, P7).
//!
//! A seeded life of the real writer is recorded on a tape: both files, with the marks at which answers
//! left. At every sync, at every mark and at sampled places between, power fails, and what may be left of
//! both disks is built, with what was not synced lost, kept, reordered or torn. Each image is opened by the
//! store's own steps, examined as `doctor` does, and compared with the states that may be there: that of
//! the last answered batch, or of the one in flight. Of some images the life goes on, and is cut again in
//! its own start (`AfterPowerLoss`).
//!
//! `tests/proofs.sh power_loss` tries 100,000, or `BLOOM_POWER_IMAGES` of them, and prints the counts;
//! `BLOOM_POWER_SEED=N` begins with that life. A failure prints the cut and the command that repeats it.

mod commands;
mod cuts;
mod dice;
mod keyed;
mod old_format;
mod state;
mod workload;

use crate::disk::{Disk, Entry, Image};
use bloom_runtime::store::{Limits, Store, compact_database, migrate_in_steps};
use cuts::{Fate, Moment};
use dice::Dice;
use state::State;
use std::collections::BTreeMap;
use std::fmt;
use workload::{Driver, History, Phase};

/// Images of the short form, and of one life in the long one.
const IMAGES_IN_CI: u64 = 900;
const LIVES_IN_CI: u64 = 3;
const IMAGES_OF_A_LIFE: u64 = 2_500;
/// Of the places between syncs and marks, one in so many.
const PLACES_ONE_IN: usize = 3;
/// Of the images, one in so many lives on and is cut again, at so many places.
const LIVES_ON_ONE_IN: usize = 24;
const CUTS_OF_A_RECOVERY: usize = 8;
/// Never compacts.
const NO_COMPACTION: Limits = Limits { compact_above_bytes: u64::MAX };
const COMPACTION: Limits = Limits { compact_above_bytes: 0 };

/// Where and how power failed.
#[derive(Clone, Copy, Debug)]
struct Cut {
    seed: u64,
    at: usize,
    phase: Phase,
    fate: Fate,
}

#[derive(Default)]
struct Counts {
    lives: u64,
    by_phase: BTreeMap<Phase, BTreeMap<Fate, u64>>,
    /// Images on which the batch in flight was there, and those on which it was not.
    in_flight: [u64; 2],
    lived_on: u64,
}

impl Counts {
    fn images(&self) -> u64 {
        self.by_phase.values().flat_map(BTreeMap::values).sum()
    }

    fn count(&mut self, phase: Phase, fate: Fate) {
        *self.by_phase.entry(phase).or_default().entry(fate).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16}", "")?;
        Fate::ALL.iter().try_for_each(|fate| write!(f, "{:>10}", format!("{fate:?}")))?;
        writeln!(f)?;
        for (phase, fates) in &self.by_phase {
            write!(f, "{:>16}", format!("{phase:?}"))?;
            for fate in Fate::ALL {
                write!(f, "{:>10}", fates.get(&fate).unwrap_or(&0))?;
            }
            writeln!(f)?;
        }
        let [there, not] = self.in_flight;
        write!(
            f,
            "{} images of {} lives; the batch in flight was there {there} times and not there {not} times; \
             {} lived on",
            self.images(),
            self.lives,
            self.lived_on
        )
    }
}

/// A life: creation, work, moves and removals, an orderly stop, a kill, starts of every kind, the
/// operator's compaction, and more work.
fn life(seed: u64, empty: &State) -> History {
    let mut driver =
        Driver::new(seed, Image::default(), Image::default(), vec![empty.clone()]).with_s3();
    driver.start(Phase::Creation, NO_COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 12);
    driver.stop();
    driver.start(Phase::Start, NO_COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 8);
    driver.kill();
    driver.start(Phase::AfterKill, NO_COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 8);
    match driver.dice.roll(2) {
        0 => driver.stop(),
        _ => driver.kill(),
    }
    driver.start(Phase::StartCompacting, COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 6);
    driver.move_finished(|_| ());
    driver.work();
    driver.remove_finished();
    driver.stop();
    driver.work_on_files(Phase::Compaction, |hot, archive| {
        compact_database(hot).expect("the disk works");
        compact_database(archive).expect("the disk works");
    });
    driver.start(Phase::Start, NO_COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 2);
    driver.stop();
    driver.into_history()
}

const OPENS: &str = "an empty or a healthy store opens";

/// Enough of them for several steps of a migration.
const TASKS_TO_MIGRATE: u64 = 7;

/// A life that begins with files of format 1 or 2, which are migrated in many steps.
fn old_life(seed: u64, empty: &State) -> History {
    let mut before = Driver::new(seed, Image::default(), Image::default(), vec![empty.clone()]);
    before.start(Phase::Creation, NO_COMPACTION).expect(OPENS);
    while before.finished() < TASKS_TO_MIGRATE {
        before.work();
    }
    // Each round takes one at least.
    (0..TASKS_TO_MIGRATE).for_each(|_| before.move_finished(|_| ()));
    (0..4).for_each(|_| before.work());
    before.stop();
    let images = before.images();
    let state = before.history.steps.last().expect("it has worked").state.without_keys();
    let (hot, archive) = old_format::of(1 + seed % 2, images.0, images.1);
    let mut driver = Driver::new(seed, hot, archive, vec![state])
        .knowing(&before.into_history().steps)
        .without_keys();
    driver.work_on_files(Phase::Migration, |hot, archive| {
        migrate_in_steps(hot, archive, 2, |_, _| ()).expect("the disk works");
    });
    driver.start(Phase::Start, NO_COMPACTION).expect(OPENS);
    work_and_move(&mut driver, 2);
    driver.stop();
    driver.into_history()
}

fn work_and_move(driver: &mut Driver, batches: usize) {
    for _ in 0..batches {
        driver.work();
        match driver.dice.roll(8) {
            0 => driver.move_finished(|_| ()),
            1 => driver.move_finished(Driver::work),
            2 => driver.remove_finished(),
            3 => driver.note_objects(),
            _ => {}
        }
    }
}

/// Opens what is left and finds out whether it is as it may be.
fn examine(hot: Image, archive: Image, allowed: &[State], to_s3: bool) -> Result<State, String> {
    let (store, _) =
        Store::open_backends_within(Disk::holding(hot), Disk::holding(archive), NO_COMPACTION)
            .map_err(|error| format!("it does not open: {error}"))?;
    let findings = store.examine(&mut |_, _| {}).map_err(|error| error.to_string())?;
    if !findings.is_healthy() {
        return Err(format!("the examination found:\n{findings}"));
    }
    if to_s3 && let Some(what) = State::forgotten(&store).map_err(|error| error.to_string())? {
        return Err(format!("it lies here and does not wait for S3: {what}"));
    }
    let found = State::of(&store).map_err(|error| error.to_string())?;
    match allowed.contains(&found) {
        true => Ok(found),
        false => {
            Err(format!("it is no state that may be there:\n{}", allowed[0].difference(&found)))
        }
    }
}

/// Goes on where power was lost, and loses it again.
fn live_on(
    counts: &mut Counts,
    history: &History,
    (cut, found): (Cut, &State),
    (hot, archive): (Image, Image),
    dice: &mut Dice,
) -> Result<(), String> {
    counts.lived_on += 1;
    let allowed = history.allowed(cut.at);
    let mut driver =
        Driver::new(dice.next(), hot, archive, allowed).knowing(history.shown(cut.at, found));
    if history.to_s3 {
        driver = driver.with_s3();
    }
    let limits = if dice.one_in(3) { COMPACTION } else { NO_COMPACTION };
    driver.start(Phase::AfterPowerLoss, limits).map_err(|error| error.to_string())?;
    driver.repeat_ends()?;
    driver.repeat_creations()?;
    (0..3).for_each(|_| driver.work());
    driver.move_finished(|_| ());
    if history.to_s3 {
        driver.note_objects();
    }
    driver.remove_finished();
    let findings = driver.store().examine(&mut |_, _| {}).map_err(|error| error.to_string())?;
    if !findings.is_healthy() {
        return Err(format!("after it lived on, the examination found:\n{findings}"));
    }
    let after = driver.into_history();
    let mut moment = Moment::new(&after.images);
    let places: Vec<usize> =
        (0..CUTS_OF_A_RECOVERY).map(|_| dice.roll(after.tape.len() + 1)).collect();
    for at in 0..=after.tape.len() {
        for _ in places.iter().filter(|place| **place == at) {
            let fate = Fate::ALL[dice.roll(Fate::ALL.len())];
            counts.count(Phase::AfterPowerLoss, fate);
            let (hot, archive) = moment.cut(fate, dice);
            examine(hot, archive, &after.allowed(at), after.to_s3)
                .map_err(|why| format!("again at {at} ({fate:?}): {why}"))?;
        }
        if let Some(entry) = after.tape.get(at) {
            moment.pass(entry);
        }
    }
    Ok(())
}

/// Cuts one life at places that are spread over all of it, until so many images were tried.
fn cut_everywhere(counts: &mut Counts, seed: u64, history: &History, images: u64) {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let cuts = places(history, &mut dice);
    let wanted = images.saturating_sub(counts.images()).min(cuts.len() as u64) as usize;
    let mut moment = Moment::new(&history.images);
    let mut passed = 0;
    counts.lives += 1;
    for (n, (at, fate)) in cuts.iter().enumerate() {
        // Evenly spread, and a different fate each time.
        if (n + 1) * wanted / cuts.len() == n * wanted / cuts.len() || counts.images() >= images {
            continue;
        }
        history.tape[passed..*at].iter().for_each(|entry| moment.pass(entry));
        passed = *at;
        let cut = Cut { seed, at: *at, phase: history.phase(*at), fate: *fate };
        try_cut(counts, history, cut, &moment, &mut dice);
    }
}

/// Where to cut, and how: every sync, every mark and some places between.
fn places(history: &History, dice: &mut Dice) -> Vec<(usize, Fate)> {
    let mut places = Vec::new();
    let mut moment = Moment::new(&history.images);
    for at in 0..=history.tape.len() {
        let next = history.tape.get(at);
        let is_edge = matches!(next, None | Some(Entry::Sync(_) | Entry::Mark));
        if is_edge || dice.one_in(PLACES_ONE_IN) {
            // Where nothing is at stake every fate is the same.
            let fates = if moment.unsynced() == 0 { &Fate::ALL[..1] } else { &Fate::ALL };
            // What is short holds as many surprises as all the work.
            let times = match history.phase(at) {
                Phase::Work | Phase::Copy | Phase::LetGo => 1,
                Phase::Creation | Phase::Stop | Phase::Compaction | Phase::Migration => 2,
                _ => 4,
            };
            places.extend((0..times).flat_map(|_| fates.iter().map(|fate| (at, *fate))));
        }
        next.into_iter().for_each(|entry| moment.pass(entry));
    }
    places
}

fn try_cut(counts: &mut Counts, history: &History, cut: Cut, moment: &Moment, dice: &mut Dice) {
    counts.count(cut.phase, cut.fate);
    let (hot, archive) = moment.cut(cut.fate, dice);
    let allowed = history.allowed(cut.at);
    let outcome =
        examine(hot.clone(), archive.clone(), &allowed, history.to_s3).and_then(|found| {
            if allowed.len() > 1 && allowed[0] != allowed[1] {
                counts.in_flight[usize::from(found == allowed[0])] += 1;
            }
            match dice.one_in(LIVES_ON_ONE_IN) {
                true => live_on(counts, history, (cut, &found), (hot, archive), dice),
                false => Ok(()),
            }
        });
    if let Err(why) = outcome {
        let images = number("BLOOM_POWER_IMAGES");
        let images = images.map_or(String::new(), |n| format!("BLOOM_POWER_IMAGES={n} "));
        panic!(
            "{cut:?}\nrepeat it with {images}BLOOM_POWER_SEED={} cargo test --test proofs power_loss\n{why}",
            cut.seed
        );
    }
}

fn number(name: &str) -> Option<u64> {
    #[allow(clippy::disallowed_methods, reason = "the long form is asked for by the environment")]
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn empty_state() -> State {
    let store = Store::open_backends(Disk::default(), Disk::default()).expect("opens");
    State::of(&store).expect("readable")
}

#[test]
fn after_power_loss_every_answered_write_is_there_and_nothing_else_is_half_there() {
    let asked = number("BLOOM_POWER_IMAGES");
    let first = number("BLOOM_POWER_SEED").unwrap_or(1);
    let images = asked.unwrap_or(IMAGES_IN_CI);
    let of_a_life = if asked.is_some() { IMAGES_OF_A_LIFE } else { IMAGES_IN_CI / LIVES_IN_CI };
    let empty = empty_state();
    let mut counts = Counts::default();
    for seed in first.. {
        let begun = counts.images();
        cut_everywhere(
            &mut counts,
            seed,
            &life(seed, &empty),
            images.min(begun + of_a_life * 4 / 5),
        );
        cut_everywhere(&mut counts, seed, &old_life(seed, &empty), images.min(begun + of_a_life));
        if counts.images() >= images {
            break;
        }
    }
    println!("{counts}");
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let empty = empty_state();
    let (one, other) = (life(7, &empty), life(7, &empty));
    assert_eq!(format!("{:?}", one.tape), format!("{:?}", other.tape));
}
