//! A long, quiet life: twenty workers at realistic work, office hours, and everything that goes wrong in
//! a year.
//!
//! Must stay true: every answer, event, sync and deadline is compared as in the short runs, and what was
//! written; the whole of both files at the end. Not here: heavy weather (`setup`).

use super::dice::Dice;
use super::fleet::{
    Actor, Conduct, DAY, Desk, HOUR, Habits, Orders, Person, Producer, SECOND, Shift, Worker,
};
use super::network::Line;
use super::setup::{AGENTS, Fault, Plague, Scrutiny, Setup, Without};
use bloom_runtime::domain::Registration;

const WORKERS: u64 = 20;
/// One machine stands in a rack, the others are on people's desks.
const ALWAYS_ON: u64 = 1;

impl Setup {
    /// Twenty workers for so many days.
    pub fn quiet(seed: u64, days: u64) -> Setup {
        let mut own = (1..).map(|part: u64| Dice::new(Dice::new(seed ^ part << 40).next()));
        let mut desk = || Desk::new(own.next().expect("endless"));
        let names: Vec<String> = (0..WORKERS).map(|n| format!("machine-{n:02}")).collect();
        let gpu = vec!["gpu".to_string()];
        let mut actors = Vec::new();
        for (shift, pause_us) in [(Shift::Office, 240 * SECOND), (Shift::Always, 2 * HOUR)] {
            actors.push(Actor::Producer(Box::new(Producer {
                desk: desk(),
                orders: Orders {
                    contexts: 40,
                    labels: vec![Vec::new(), Vec::new(), Vec::new(), gpu.clone()],
                    priorities: 3,
                    large_percent: 20,
                    agents: AGENTS.to_vec(),
                    retried_percent: 50,
                    backoff_seconds: (15, 300),
                    later_percent: 2,
                    later_ms: 4 * 3_600_000,
                    keyed_percent: 20,
                },
                pause_us,
                burst: 25,
                burst_percent: 2,
                shift,
                kept: None,
            })));
        }
        for (n, name) in (0..).zip(&names) {
            let registration = Registration {
                max_concurrency: Some(1),
                claude_cli: Some(true),
                labels: Some(if n % 3 == 0 { gpu.clone() } else { Vec::new() }),
                ..Registration::default()
            };
            let habits = Habits {
                ttl_seconds: (150, 150),
                wait_ms: (55_000, 55_000),
                work_us: (60 * SECOND, 29 * 60 * SECOND),
                fails_percent: 5,
                outage_percent: 1,
                hands_back_percent: 2,
                joins_again_percent: 0,
                rest_us: SECOND / 10,
                shift: if n < ALWAYS_ON { Shift::Always } else { Shift::Office },
            };
            let conduct = match n % 10 {
                5 => Conduct::Stubborn,
                7 => Conduct::Called,
                _ => Conduct::Careful,
            };
            let worker = Worker::new(desk(), name.clone(), conduct, registration, habits);
            actors.push(Actor::Worker(Box::new(worker)));
        }
        actors.push(Actor::Person(Person {
            desk: desk(),
            pause_us: 2 * HOUR,
            workers: names,
            labels: vec![Vec::new(), gpu],
        }));
        let every = |fault, every_us| Plague { fault, every_us };
        Setup {
            seed,
            without: Without::default(),
            steps: u64::MAX,
            end_us: days * DAY,
            actors,
            line: Line {
                usual_us: SECOND / 50,
                late_us: 20 * SECOND,
                late_percent: 1,
                lost_percent: 1,
                doubled_percent: 1,
            },
            plagues: vec![
                every(Fault::Kill, 10 * DAY),
                every(Fault::PowerCut, 20 * DAY),
                every(Fault::BreakCommit, 20 * DAY),
                every(Fault::Stop, 7 * DAY),
                every(Fault::JumpWall, 3 * DAY),
                every(Fault::FreezeWall, 9 * DAY),
                every(Fault::Partition, DAY),
                every(Fault::PauseActor, 6 * HOUR),
                every(Fault::CrashWorker, 4 * HOUR),
                every(Fault::MoverCopies, HOUR / 2),
            ],
            lag_percent: 1,
            lag_us: 900_000,
            batch: 512,
            mover: (500, 2_000),
            downtime_us: 60 * SECOND,
            pushes: true,
            limits: vec![vec![("reviewer".into(), 2)]],
            scrutiny: Scrutiny::Touched,
            wall: 1_790_000_000_000,
        }
    }
}
