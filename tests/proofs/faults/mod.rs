//! I/O errors and full disks: every operation of both files fails once, one after the other, for a moment
//! or until the disk is repaired.
//!
//! Must stay true, whichever it is: what was answered as done is there after a power cut that follows;
//! what was refused is not there, whole or half; reads go on while the disk can be read; when it works
//! again so does the writer, without a restart. `BLOOM_FAULTS=all` tries every operation, otherwise some.
//! Not here: real full disks under the real program (`tests/integration`).

mod disk;
mod life;

use disk::{Fault, Kind};
use life::{Ended, Life};

/// How far apart the operations are that the short form tries.
const SHORT_STRIDE: usize = 53;

/// The life without a fault; how many operations it takes.
fn operations() -> u64 {
    let mut life = Life::new(None);
    assert_eq!(life.run(), Ended::AsPlanned);
    assert_eq!(life.refused, 0);
    life.check_after_power_cut();
    life.operations()
}

fn stride() -> usize {
    #[allow(clippy::disallowed_methods, reason = "the long form is asked for by the environment")]
    let asked = std::env::var("BLOOM_FAULTS");
    match asked.as_deref() {
        Ok("all") => 1,
        _ => SHORT_STRIDE,
    }
}

/// Tries a fault at many operations; how often writes were refused and the writer gave up.
fn strike(kind: Kind, lasts: bool) -> (usize, usize) {
    let (mut refused, mut gave_up, mut tried) = (0, 0, 0);
    for at in (0..operations()).step_by(stride()) {
        let fault = Fault { kind, at, lasts };
        let mut life = Life::new(Some(fault));
        match life.run() {
            Ended::AsPlanned => {}
            Ended::GaveUp => gave_up += 1,
        }
        refused += life.refused;
        tried += 1;
        life.check_after_power_cut();
    }
    println!(
        "{kind:?}, lasting: {lasts}: {tried} operations failed in turn, {refused} commands refused, {gave_up} times the writer gave up"
    );
    (refused, gave_up)
}

#[test]
fn an_operation_that_fails_once_harms_nothing_but_its_own_batch_p1_p6() {
    let (refused, gave_up) = strike(Kind::Io, false);
    assert!(refused > 0, "the faults hit something");
    assert_eq!(gave_up, 0, "the writer goes on by itself");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_and_loses_nothing_p1_p6() {
    let (refused, gave_up) = strike(Kind::Full, true);
    assert!(refused > 0, "the faults hit something");
    assert_eq!(gave_up, 0, "reading needs no space");
}

#[test]
fn a_disk_that_turns_read_only_is_read_on_p1_p6() {
    let (refused, gave_up) = strike(Kind::ReadOnly, true);
    assert!(refused > 0, "the faults hit something");
    assert_eq!(gave_up, 0, "it can still be read");
}

#[test]
fn a_dead_disk_ends_the_writer_and_what_it_answered_is_there_when_it_is_back_p1() {
    let (_, gave_up) = strike(Kind::Io, true);
    assert!(gave_up > 0, "without reading there is nothing to go on with");
}
