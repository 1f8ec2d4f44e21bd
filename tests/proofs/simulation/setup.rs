//! What a run is made of: who takes part, how bad the line is, which faults befall it and how often.
//! All of it follows from the seed.
//!
//! Must stay true: each part that can be left out has a name, so that a failing run can be made smaller
//! by leaving out what does not matter. Not here: carrying it out (`world`).

use super::dice::Dice;
use super::fleet::{
    Actor, Conduct, Desk, Habits, Orders, Person, Producer, SECOND, Shift, Stranger, Worker,
};
use super::network::Line;
use bloom_runtime::domain::Registration;

/// What can be left out of a run, by name.
pub const PARTS: [&str; 21] = [
    "kills",
    "power",
    "commits",
    "stops",
    "clocks",
    "partitions",
    "pauses",
    "crashes",
    "loss",
    "lag",
    "mover",
    "people",
    "strangers",
    "bursts",
    "retries",
    "later",
    "outages",
    "handbacks",
    "limits",
    "push",
    "keys",
];

/// The parts of a run that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without(u32);

impl Without {
    pub fn parse(names: &str) -> Without {
        let mut without = Without::default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            assert!(PARTS.contains(&name), "no part '{name}'; there are {PARTS:?}");
            without = without.and(name);
        }
        without
    }

    pub fn has(self, name: &str) -> bool {
        let place = PARTS.iter().position(|part| *part == name).expect("a part's name");
        self.0 & (1 << place) != 0
    }

    #[must_use]
    pub fn and(self, name: &str) -> Without {
        let place = PARTS.iter().position(|part| *part == name).expect("a part's name");
        Without(self.0 | 1 << place)
    }

    pub fn names(self) -> String {
        let names: Vec<_> = PARTS.into_iter().filter(|name| self.has(name)).collect();
        names.join(",")
    }
}

/// Something that befalls the run from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    PowerCut,
    /// The disk fails within one of the next commits; then it is as after a kill or a power cut.
    BreakCommit,
    /// An orderly stop and start.
    Stop,
    JumpWall,
    FreezeWall,
    Partition,
    PauseActor,
    CrashWorker,
    MoverCopies,
}

/// A fault and how long it is, on average, until it comes again.
#[derive(Clone, Debug)]
pub struct Plague {
    pub fault: Fault,
    pub every_us: u64,
}

/// How much is looked at after each step, beyond its answers, events, syncs and deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrutiny {
    /// Every record, and the lists in turn.
    Every,
    /// What a step touched, if it wrote something, and after every eighth that did not; everything at the
    /// end.
    Touched,
}

pub struct Setup {
    pub seed: u64,
    pub without: Without,
    /// Steps of the server after which the run ends, or the time at which it does.
    pub steps: u64,
    pub end_us: u64,
    pub actors: Vec<Actor>,
    pub line: Line,
    pub plagues: Vec<Plague>,
    /// How long the server may take to notice, in a hundredth of all steps.
    pub lag_percent: u64,
    pub lag_us: u64,
    pub batch: usize,
    pub mover: (usize, usize),
    pub downtime_us: u64,
    /// Whether the server calls workers that wait to be called.
    pub pushes: bool,
    /// Limits of agents; each start has one of these.
    pub limits: Vec<Limits>,
    pub scrutiny: Scrutiny,
    pub wall: i64,
}

/// How many tasks of which agent may be leased at a time.
pub type Limits = Vec<(String, u32)>;

const LATENCIES: [u64; 3] = [SECOND / 2_000, SECOND / 50, SECOND / 2];

fn labels(dice: &mut Dice) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<String>>();
    match dice.below(3) {
        0 => vec![words(&[])],
        1 => vec![words(&[]), words(&[]), words(&["gpu"])],
        _ => vec![words(&[]), words(&["gpu"]), words(&["big"]), words(&["gpu", "big"])],
    }
}

pub const AGENTS: [&str; 3] = ["writer", "reviewer", "editor"];

/// None, or always the same, or as somebody changes them between starts.
fn limits(dice: &mut Dice) -> Vec<Limits> {
    let mut one = || -> Limits {
        let limited = AGENTS.into_iter().filter(|_| dice.percent(60)).collect::<Vec<_>>();
        limited.into_iter().map(|agent| (agent.to_string(), dice.between(1, 2) as u32)).collect()
    };
    let (first, second) = (one(), one());
    match dice.below(4) {
        0 | 1 => vec![Vec::new()],
        2 => vec![first],
        _ => vec![first, second, Vec::new()],
    }
}

impl Setup {
    /// A small fleet under heavy weather.
    pub fn small(seed: u64, steps: u64, without: Without) -> Setup {
        let mut dice = Dice::new(seed ^ 0x0b10_0000_0000_0000);
        let labels = labels(&mut dice);
        let crowd = !without.has("bursts") && dice.percent(3);
        let workers = if crowd { dice.between(10, 30) } else { dice.between(1, 5) };
        // Each part has dice of its own, so that leaving one out changes the others least.
        let mut own = (1..).map(|part: u64| Dice::new(Dice::new(seed ^ part << 40).next()));
        let mut desk = || Desk::new(own.next().expect("endless"));
        let names: Vec<String> = (0..workers).map(|n| format!("worker-{n}")).collect();
        let mut actors = Vec::new();
        let pace = dice.one(&[SECOND / 5, SECOND, 4 * SECOND, 20 * SECOND]);
        actors.push(Actor::Producer(Box::new(Producer {
            desk: desk(),
            orders: Orders {
                contexts: dice.between(1, 6),
                labels: labels.clone(),
                priorities: dice.one(&[1, 3, 10]),
                large_percent: dice.one(&[0, 20]),
                agents: AGENTS.to_vec(),
                retried_percent: if without.has("retries") { 0 } else { dice.one(&[0, 50, 90]) },
                backoff_seconds: dice.one(&[(0, 3), (1, 20), (15, 300)]),
                later_percent: if without.has("later") { 0 } else { dice.one(&[0, 20]) },
                later_ms: dice.one(&[2_000, 20_000, 100_000]),
                keyed_percent: if without.has("keys") { 0 } else { 30 },
            },
            pause_us: pace,
            burst: if crowd { dice.between(200, 600) } else { dice.between(2, 20) },
            burst_percent: if without.has("bursts") { 0 } else { 5 },
            shift: Shift::Always,
            kept: None,
        })));
        let (longest_ttl, longest_work) = dice.one(&[(4, 6), (15, 10), (15, 40), (0, 100)]);
        let habits = Habits {
            ttl_seconds: (longest_ttl.min(1), longest_ttl),
            wait_ms: (0, dice.one(&[0, 2_000, 30_000])),
            work_us: (SECOND / 10, longest_work * SECOND),
            fails_percent: 25,
            outage_percent: if without.has("outages") { 0 } else { dice.one(&[0, 30, 60]) },
            hands_back_percent: if without.has("handbacks") { 0 } else { dice.one(&[0, 10, 40]) },
            joins_again_percent: 10,
            rest_us: pace,
            shift: Shift::Always,
        };
        for name in &names {
            let slots = dice.between(1, 3);
            let registration = Registration {
                max_concurrency: Some(slots as u32),
                claude_cli: Some(true),
                labels: dice.percent(70).then(|| dice.one(&labels)),
                ..Registration::default()
            };
            let conducts =
                [Conduct::Careful, Conduct::Careful, Conduct::Stubborn, Conduct::Nameless];
            let called = dice.percent(25) && !without.has("push");
            let conduct = if called { Conduct::Called } else { dice.one(&conducts) };
            for _ in 0..slots {
                let (name, registration) = (name.clone(), registration.clone());
                let worker = Worker::new(desk(), name, conduct, registration, habits.clone());
                actors.push(Actor::Worker(Box::new(worker)));
            }
        }
        let person = Person {
            desk: desk(),
            pause_us: pace * dice.one(&[1, 5]),
            workers: names.clone(),
            labels: labels.clone(),
        };
        if !without.has("people") {
            actors.push(Actor::Person(person));
        }
        let stranger = Stranger {
            desk: desk(),
            pause_us: pace * dice.one(&[1, 3]),
            at_once: dice.one(&[1, 4, 8]),
            workers: names,
        };
        if dice.percent(60) && !without.has("strangers") {
            actors.push(Actor::Stranger(stranger));
        }
        let lossy = if without.has("loss") { 0 } else { 1 };
        Setup {
            seed,
            without,
            steps,
            end_us: u64::MAX,
            actors,
            line: Line {
                usual_us: dice.one(&LATENCIES),
                late_us: dice.one(&[SECOND, 20 * SECOND]),
                late_percent: lossy * dice.one(&[0, 1, 10]),
                lost_percent: lossy * dice.one(&[0, 2, 20]),
                doubled_percent: lossy * dice.one(&[0, 2, 20]),
            },
            plagues: plagues(&mut dice, pace, without),
            lag_percent: if without.has("lag") { 0 } else { dice.one(&[0, 5, 40]) },
            lag_us: 900_000,
            batch: dice.one(&[1, 7, 512, 512]),
            mover: dice.one(&[(1, 1), (3, 10), (500, 2_000)]),
            downtime_us: dice.one(&[SECOND / 100, 20 * SECOND]),
            pushes: !without.has("push"),
            limits: if without.has("limits") { vec![Vec::new()] } else { limits(&mut dice) },
            scrutiny: Scrutiny::Every,
            wall: 1_790_000_000_000,
        }
    }
}

/// Each fault with how often it comes, if at all. Busy fleets live faster.
fn plagues(dice: &mut Dice, pace: u64, without: Without) -> Vec<Plague> {
    let kinds = [
        (Fault::Kill, "kills", 250),
        (Fault::PowerCut, "power", 250),
        (Fault::BreakCommit, "commits", 150),
        (Fault::Stop, "stops", 400),
        (Fault::JumpWall, "clocks", 30),
        (Fault::FreezeWall, "clocks", 60),
        (Fault::Partition, "partitions", 100),
        (Fault::PauseActor, "pauses", 40),
        (Fault::CrashWorker, "crashes", 40),
        (Fault::MoverCopies, "mover", 15),
    ];
    let mut plagues = Vec::new();
    for (fault, part, paces) in kinds {
        let chosen = dice.percent(65);
        let every_us = paces * pace * dice.between(1, 4) / 4;
        if chosen && !without.has(part) {
            plagues.push(Plague { fault, every_us: every_us.max(1_000) });
        }
    }
    plagues
}
