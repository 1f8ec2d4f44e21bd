//! A whole fleet in one thread: seeded runs of the real engine, compared step by step with a model.
//!
//! `BLOOM_SEED=7` repeats the run of one seed, `BLOOM_WITHOUT=loss,people` leaves parts of it out,
//! `BLOOM_STEPS=99` sets its length, `BLOOM_SEEDS=10000` runs that many. A failing run is printed with
//! its seed, its first failing step, what differed, the parts that do not matter, and the command that
//! repeats it. Must stay true: the same seed gives the same run, byte for byte.

mod check;
mod counts;
mod dice;
mod drive;
mod facts;
mod fleet;
mod limits;
mod model;
mod network;
mod process;
mod promises;
mod server;
mod setup;
mod weather;
mod world;
mod year;

use counts::Counts;
use setup::{PARTS, Setup, Without};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

const SEEDS: u64 = 64;
const STEPS: u64 = 120;

/// The first step after which something was wrong, and what.
#[derive(Debug)]
struct Failure {
    step: u64,
    what: String,
}

#[allow(clippy::disallowed_methods, reason = "how a person chooses what is run")]
fn chosen(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn chosen_number(name: &str) -> Option<u64> {
    let text = chosen(name)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")))
}

fn run(world: &mut World) -> Result<Counts, Failure> {
    let done = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("without words")))
    });
    let step = world.counts.steps;
    done.map(|()| world.counts.clone()).map_err(|what| Failure { step, what })
}

fn run_seed(seed: u64, steps: u64, without: Without) -> Result<Counts, Failure> {
    run(&mut World::new(Setup::small(seed, steps, without)))
}

/// Leaves out what the failure does not need, part by part, and keeps the shortest run found.
fn shrink(seed: u64, without: Without, failure: Failure) -> (Without, Failure) {
    let (mut without, mut failure) = (without, failure);
    for part in PARTS.into_iter().filter(|part| !without.has(part)).collect::<Vec<_>>() {
        let less = without.and(part);
        if let Err(found) = run_seed(seed, failure.step + 1, less) {
            (without, failure) = (less, found);
        }
    }
    (without, failure)
}

fn tell(seed: u64, without: Without, failure: Failure) -> String {
    let Failure { step, what } = &failure;
    let first = format!("seed {seed}, step {step}: {what}");
    let (without, failure) = shrink(seed, without, failure);
    format!(
        "{first}\n\nThe smallest run found leaves out [{}] and fails at step {}:\n{}\n\nRepeat it with\n  \
         BLOOM_SEED={seed} BLOOM_STEPS={} BLOOM_WITHOUT={} cargo test --test proofs every_promise_holds\n",
        without.names(),
        failure.step,
        failure.what,
        failure.step + 1,
        without.names(),
    )
}

#[test]
fn every_promise_holds_for_a_fleet_in_any_weather_p1_to_p8() {
    let without = Without::parse(&chosen("BLOOM_WITHOUT").unwrap_or_default());
    let steps = chosen_number("BLOOM_STEPS").unwrap_or(STEPS);
    let seeds = match chosen_number("BLOOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..chosen_number("BLOOM_SEEDS").unwrap_or(SEEDS),
    };
    let mut total = Counts::default();
    for seed in seeds.clone() {
        match run_seed(seed, steps, without) {
            Ok(counts) => total.add(&counts),
            Err(failure) => panic!("{}", tell(seed, without, failure)),
        }
    }
    println!("simulation: {} seeds: {total:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= SEEDS && without == Without::default() {
        assert_eq!(total.missing(), [""; 0], "the fleet never came to this");
    }
}

/// `BLOOM_DAYS=365` is the year.
#[test]
fn twenty_workers_live_through_days_of_ordinary_trouble_p1_to_p8() {
    let days = chosen_number("BLOOM_DAYS").unwrap_or(1);
    let seed = chosen_number("BLOOM_SEED").unwrap_or(1);
    let mut world = World::new(Setup::quiet(seed, days));
    match run(&mut world) {
        Ok(counts) => println!("simulation: {days} days: {counts:?}"),
        Err(Failure { step, what }) => panic!("seed {seed}, {days} days, step {step}: {what}"),
    }
}

#[test]
fn the_same_seed_gives_the_same_run_byte_for_byte() {
    for seed in 0..5 {
        let trace = || {
            let mut world = World::new(Setup::small(seed, STEPS, Without::default()));
            world.trace = Some(dice::Digest::default());
            let counts = run(&mut world).unwrap_or_else(|Failure { step, what }| {
                panic!("seed {seed}, step {step}: {what}");
            });
            (counts, world.trace)
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
