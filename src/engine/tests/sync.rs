//! Membridge's lists: who goes offline by missing in them, and when nothing is written.

use super::{World, worker};
use crate::domain::{ListedAgent, WorkerStatus};
use crate::engine::{Command, EngineError, LeaseAnswer};

const MINUTE_MS: u64 = 60_001;

fn agent(name: &str, status: WorkerStatus) -> ListedAgent {
    let url = "http://agent:8001".to_owned();
    ListedAgent { id: worker(name), url, status, registered_at: None, last_seen: None }
}

impl World {
    fn list(&mut self, agents: &[ListedAgent]) {
        let agents = agents.to_vec();
        let left_out = self.ask(|reply| Command::Sync { agents, reply }).expect("the disk works");
        assert_eq!(left_out, 0);
    }

    fn standing(&self, name: &str) -> WorkerStatus {
        self.query.worker(&worker(name)).expect("known").0.status
    }

    fn create_and_lease(&mut self) -> Result<LeaseAnswer, EngineError> {
        let task = self.create();
        self.lease(task)
    }

    /// A sign of life, as the probes bring it.
    fn hear(&mut self, name: &str) {
        self.step(vec![Command::HeardOf { worker: worker(name) }]);
    }
}

#[test]
fn only_who_is_known_from_lists_alone_goes_offline_by_missing_in_them_for_a_minute() {
    let mut world = World::new();
    world.register("own", 1);
    world.list(&[agent("own", WorkerStatus::Online), agent("listed", WorkerStatus::Online)]);
    // The control plane restarts: its lists are empty, its agents are there.
    for _ in 0..4 {
        world.list(&[]);
        world.pass_ms(15_000);
        world.hear("own");
        world.hear("listed");
    }
    assert_eq!(world.standing("listed"), WorkerStatus::Online, "the grace is not over");
    world.pass_ms(1);
    world.list(&[]);
    assert_eq!(world.standing("listed"), WorkerStatus::Offline);
    assert_eq!(world.standing("own"), WorkerStatus::Online);
    world.hear("listed");
    assert_eq!(world.standing("listed"), WorkerStatus::Offline, "the list decides");
    let before = (world.hot.syncs(), world.core.events.latest());
    world.list(&[]);
    assert_eq!((world.hot.syncs(), world.core.events.latest()), before, "told once");
    let mut world = world.restart();
    assert_eq!(world.standing("listed"), WorkerStatus::Offline, "it is a change of state");
    // Listed again it has to show itself; lists without it begin to count anew.
    world.list(&[agent("listed", WorkerStatus::Unknown)]);
    assert_eq!(world.standing("listed"), WorkerStatus::Unknown);
    world.hear("listed");
    assert_eq!(world.standing("listed"), WorkerStatus::Online);
    world.list(&[]);
    assert_eq!(world.standing("listed"), WorkerStatus::Online);
}

#[test]
fn a_list_that_says_nothing_new_writes_nothing_whoever_is_alive_p8() {
    let mut world = World::new();
    let mut listed = agent("w", WorkerStatus::Online);
    listed.last_seen = Some(1_000);
    world.list(std::slice::from_ref(&listed));
    let before = (world.hot.syncs(), world.core.events.latest());
    for n in 0..10 {
        world.pass_ms(30_000);
        // Seen again by Membridge: a sign of life, in memory.
        listed.last_seen = Some(2_000 + n);
        world.list(std::slice::from_ref(&listed));
        assert_eq!(world.standing("w"), WorkerStatus::Online);
    }
    assert_eq!((world.hot.syncs(), world.core.events.latest()), before);
    // The same time again is none.
    world.pass_ms(30_000);
    world.list(std::slice::from_ref(&listed));
    world.pass_ms(MINUTE_MS - 30_000);
    assert_eq!(world.standing("w"), WorkerStatus::Offline);
    assert_eq!(world.trail(), ["worker_registered", "worker_offline"]);
}

#[test]
fn unknown_in_the_list_demotes_nobody_who_shows_life() {
    let mut world = World::new();
    world.list(&[agent("w", WorkerStatus::Unknown)]);
    assert_eq!(world.standing("w"), WorkerStatus::Unknown);
    assert!(world.create_and_lease().is_err(), "nobody has heard of it");
    world.pass_ms(MINUTE_MS);
    world.hear("w");
    let syncs = world.hot.syncs();
    for _ in 0..5 {
        world.list(&[agent("w", WorkerStatus::Unknown)]);
        world.pass_ms(20_000);
        world.hear("w");
    }
    assert_eq!(world.standing("w"), WorkerStatus::Online);
    assert_eq!(world.hot.syncs(), syncs);
    assert!(world.create_and_lease().is_ok());
    let told = world.trail().into_iter().filter(|action| action.starts_with("worker_"));
    assert_eq!(told.collect::<Vec<_>>(), ["worker_registered", "worker_online"]);
}

#[test]
fn while_the_disk_takes_no_writes_a_sign_of_life_changes_no_record() {
    let mut world = World::new();
    world.list(&[agent("w", WorkerStatus::Unknown)]);
    world.hot.break_down();
    let refused = world.ask(|reply| Command::Sync { agents: Vec::new(), reply });
    assert_eq!(refused, Ok(0), "nothing new needs no disk");
    let refused = world
        .ask(|reply| Command::Sync { agents: vec![agent("new", WorkerStatus::Online)], reply });
    assert!(refused.is_err(), "{refused:?}");
    world.hear("w");
    assert_eq!(world.standing("w"), WorkerStatus::Unknown);
    world.hot.work_again();
    world.pass_ms(MINUTE_MS);
    world.hear("w");
    assert_eq!(world.standing("w"), WorkerStatus::Online);
}
