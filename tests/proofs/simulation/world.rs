//! One run: the fleet, the line, the server and the weather, moved from one moment to the next.
//!
//! Time passes by jumps to whatever is next: an arrival, an alarm, a fault, or the server's own next
//! deadline. Must stay true: nothing here depends on anything but the setup; after every step the
//! engine is compared with the model. Not here: what befalls the machine (`weather`).

use super::check::{self, Checked, ensure, same};
use super::counts::Counts;
use super::dice::{Dice, Digest};
use super::facts::{Answer, Ask, Call};
use super::fleet::{Actor, Known, Moment, SECOND, Wish};
use super::model::Model;
use super::network::Queue;
use super::promises::{Ledger, Noted};
use super::server::{Disks, Server};
use super::setup::{Scrutiny, Setup};
use bloom_runtime::domain::LeaseEnd;
use std::collections::{BTreeMap, VecDeque};

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    Arrive {
        actor: usize,
        ticket: u64,
        ask: Ask,
    },
    Answered {
        actor: usize,
        ticket: u64,
        answer: Option<Answer>,
    },
    Alarm {
        actor: usize,
        stamp: u64,
    },
    HangUp {
        actor: usize,
        ticket: u64,
    },
    Strike(usize),
    Start,
    /// The mover's second commit, of this round.
    LetGo(u64),
}

/// Who a call's answer goes to; the mover and the server itself have no actor.
type Route = Option<(usize, u64)>;

pub struct World {
    pub setup: Setup,
    pub now: u64,
    pub queue: Queue<Event>,
    pub weather: Dice,
    line: Dice,
    pub disks: Disks,
    pub server: Option<Server>,
    pub model: Model,
    pub ledger: Ledger,
    pub known: Known,
    /// Until when an actor is paused.
    pub asleep: Vec<u64>,
    pub partition_until: u64,
    pub wall_base: i64,
    pub wall_since: u64,
    pub frozen: bool,
    inbox: VecDeque<Call>,
    routes: BTreeMap<u64, Route>,
    calls: u64,
    pub events_seen: u64,
    /// A drive was told to fail within a commit.
    pub armed: bool,
    /// The world as it is if the commit that broke is not on disk.
    pub doubtful: Option<Model>,
    pub moving: bool,
    pub rounds: u64,
    pub counts: Counts,
    /// Everything that was asked, answered, told and written, when a trace is wanted.
    pub trace: Option<Digest>,
}

impl World {
    pub fn new(setup: Setup) -> World {
        let mut queue = Queue::new();
        let mut weather = Dice::new(setup.seed ^ 0x3ea7_4e40_0000_0000);
        for (actor, one) in setup.actors.iter().enumerate() {
            queue.push(1 + actor as u64, Event::Alarm { actor, stamp: one.desk().stamp });
        }
        for (plague, one) in setup.plagues.iter().enumerate() {
            queue.push(weather.between(1, 2 * one.every_us), Event::Strike(plague));
        }
        queue.push(0, Event::Start);
        World {
            now: 0,
            queue,
            weather,
            line: Dice::new(setup.seed ^ 0x11e0_0000_0000_0000),
            disks: Disks::default(),
            server: None,
            model: Model::new(setup.pushes),
            ledger: Ledger::default(),
            known: Known::default(),
            asleep: vec![0; setup.actors.len()],
            partition_until: 0,
            wall_base: setup.wall,
            wall_since: 0,
            frozen: false,
            inbox: VecDeque::new(),
            routes: BTreeMap::new(),
            calls: 0,
            events_seen: 0,
            armed: false,
            doubtful: None,
            moving: false,
            rounds: 0,
            counts: Counts::default(),
            trace: None,
            setup,
        }
    }

    pub fn wall(&self) -> i64 {
        let passed = if self.frozen { 0 } else { (self.now - self.wall_since) / 1000 };
        self.wall_base.saturating_add(passed as i64)
    }

    /// Runs to the end, and looks at everything once more after a last power cut.
    pub fn run(&mut self) -> Checked {
        while self.counts.steps < self.setup.steps && self.now < self.setup.end_us {
            self.advance()?;
        }
        if self.server.is_some() {
            self.go_down(true);
        }
        self.start()?;
        self.counts.seconds = self.now / SECOND;
        self.note_disks();
        Ok(())
    }

    /// Jumps to the next moment and lets everything happen that happens then.
    fn advance(&mut self) -> Checked {
        let own = self.server.as_ref().and_then(Server::wakes_at);
        let next = self.queue.next_time().into_iter().chain(own).min();
        let moment = next.ok_or("nothing happens any more")?.max(self.now);
        let late = self.weather.percent(self.setup.lag_percent);
        let lag =
            if late { self.weather.below(self.setup.lag_us) } else { self.weather.below(300) };
        let until = moment + lag;
        while let Some((at, event)) = self.queue.pop_by(until) {
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        self.now = until;
        let due = |server: &Server| server.wakes_at().is_some_and(|wake| wake <= until);
        while self.server.as_ref().is_some_and(|server| !self.inbox.is_empty() || due(server)) {
            self.step()?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive { actor, ticket, ask } => {
                if self.server.is_none() {
                    self.break_line(Some((actor, ticket)));
                } else {
                    self.receive(Some((actor, ticket)), ask);
                }
            }
            Event::Answered { actor, ticket, answer } => {
                if self.asleep[actor] > self.now {
                    let event = Event::Answered { actor, ticket, answer };
                    self.queue.push(self.asleep[actor], event);
                } else {
                    self.act(actor, |one, moment| one.answered(moment, ticket, answer.as_ref()));
                }
            }
            Event::Alarm { actor, stamp } => {
                if self.asleep[actor] > self.now {
                    self.queue.push(self.asleep[actor], Event::Alarm { actor, stamp });
                } else if self.setup.actors[actor].desk().stamp == stamp {
                    self.act(actor, Actor::wake);
                }
            }
            Event::HangUp { actor, ticket } => self.hang_up((actor, ticket)),
            Event::Strike(plague) => return self.strike(plague),
            Event::Start => return self.start(),
            Event::LetGo(round) if round == self.rounds => {
                let copied = self.server.as_mut().and_then(|server| server.copied.take());
                match copied {
                    Some(copied) if self.weather.percent(95) => {
                        self.receive(None, Ask::Archived(copied));
                    }
                    // The writer was too busy to take it; the mover begins anew.
                    _ => self.moving = false,
                }
            }
            // The mover of this round is gone.
            Event::LetGo(_) => {}
        }
        Ok(())
    }

    /// Lets an actor act, and carries out what it wishes.
    pub fn act(&mut self, actor: usize, act: impl FnOnce(&mut Actor, &mut Moment<'_>)) {
        let (now, wall) = (self.now, self.wall());
        let mut moment = Moment { now, wall, known: &mut self.known, wishes: Vec::new() };
        act(&mut self.setup.actors[actor], &mut moment);
        for wish in moment.wishes {
            match wish {
                Wish::Wake { at, stamp } => self.queue.push(at, Event::Alarm { actor, stamp }),
                Wish::Send { ticket, ask, patience_us } => {
                    let cut = self.now < self.partition_until;
                    let copies =
                        if cut { Vec::new() } else { self.setup.line.carry(&mut self.line) };
                    for delay in copies {
                        let ask = ask.clone();
                        self.queue.push(self.now + delay, Event::Arrive { actor, ticket, ask });
                    }
                    // Half of those who give up are noticed by the server.
                    if self.line.percent(50) {
                        self.queue.push(self.now + patience_us, Event::HangUp { actor, ticket });
                    }
                }
            }
        }
    }

    fn receive(&mut self, route: Route, ask: Ask) {
        self.calls += 1;
        // These are answered to nobody.
        if !matches!(ask, Ask::HeardOf(_) | Ask::Release | Ask::Stop) {
            self.routes.insert(self.calls, route);
        }
        self.inbox.push_back(Call { id: self.calls, ask, gone: false });
    }

    fn hang_up(&mut self, caller: (usize, u64)) {
        let mine = |(_, route): &(&u64, &Route)| **route == Some(caller);
        let calls: Vec<u64> = self.routes.iter().filter(mine).map(|(call, _)| *call).collect();
        for id in calls {
            self.routes.remove(&id);
            match self.inbox.iter_mut().find(|call| call.id == id) {
                Some(call) => call.gone = true,
                None => {
                    self.model.hang_up(id);
                    if let Some(server) = &mut self.server {
                        server.hang_up(id);
                    }
                }
            }
        }
    }

    /// The caller learns, or does not, that its line is broken.
    fn break_line(&mut self, route: Route) {
        let Some((actor, ticket)) = route else { return };
        if self.line.percent(50) {
            let at = self.now + self.line.between(1, SECOND);
            self.queue.push(at, Event::Answered { actor, ticket, answer: None });
        }
    }

    pub fn hang_up_on_everyone(&mut self) {
        self.inbox.clear();
        for route in std::mem::take(&mut self.routes).into_values() {
            self.break_line(route);
        }
        self.moving = false;
    }

    /// Everyone who waits is answered before an orderly stop, and what has come before it is done.
    pub fn end_in_order(&mut self) -> Checked {
        for ask in [Ask::Release, Ask::Stop] {
            self.receive(None, ask);
            while self.server.is_some() && !self.inbox.is_empty() {
                self.step()?;
            }
        }
        Ok(())
    }

    /// One step of the engine and of the model, compared.
    fn step(&mut self) -> Checked {
        let many = self.inbox.len().min(self.setup.batch);
        let calls: Vec<Call> = self.inbox.drain(..many).collect();
        let wall = self.wall();
        let server = self.server.as_mut().expect("whoever steps has seen it");
        let now = server.now(self.now, wall);
        self.counts.steps += 1;
        self.counts.commands += many as u64;
        self.counts.largest_batch = self.counts.largest_batch.max(many as u64);
        let before = self.armed.then(|| self.model.clone());
        let mut expected = self.model.step(now, &calls);
        if let Some(trace) = &mut self.trace {
            trace.feed(format!("{now:?} {calls:?}").as_bytes());
        }
        for call in calls.iter().filter(|call| call.gone) {
            expected.remove(&call.id);
        }
        let noted = Noted::of(&calls);
        let stepped = server.step(calls, now);
        if let Some(error) = &stepped.failed {
            let before = before.ok_or(format!("the step failed: {error}"))?;
            ensure!(
                stepped.answers.values().all(|answer| *answer == Answer::Unknown),
                "P1: somebody was answered although the commit failed: {:?}",
                stepped.answers
            );
            check::nothing_shows(server, &before)?;
            self.counts.broken_commits += 1;
            self.doubtful = Some(before);
            let cut = self.weather.percent(50);
            self.go_down(cut);
            return Ok(());
        }
        check::answers(&stepped.answers, &expected)?;
        if server.has_lost_a_drive() {
            // With its last strength: what was answered is there when it starts again.
            self.count();
            self.deliver(stepped.answers);
            let cut = self.weather.percent(50);
            self.go_down(cut);
            return Ok(());
        }
        check::syncs(&stepped, &self.model)?;
        check::told(server, &self.model, self.events_seen)?;
        self.ledger.check(&self.model, self.now, &noted, &stepped.answers)?;
        let every = self.setup.scrutiny == Scrutiny::Every;
        let closely = every || self.model.writes || self.counts.steps.is_multiple_of(8);
        if closely {
            let waiting: Vec<u64> = self.model.waiting.iter().map(|wait| wait.call).collect();
            let mut unanswered = server.unanswered();
            unanswered.sort_unstable();
            same("calls that wait for an answer", unanswered, waiting)?;
            check::counts(server, &self.model)?;
            check::touched(server, &self.model)?;
        }
        if every {
            check::records(server, &self.model, self.model.rows())?;
            check::list(server, &self.model, self.counts.steps % check::LISTS)?;
        }
        if closely {
            self.trusted_leases()?;
            self.ledger.nobody_is_stuck(&self.model, self.now, wall)?;
        }
        self.count();
        self.events_seen = self.model.last_change;
        self.deliver(stepped.answers);
        Ok(())
    }

    /// P4, from the worker's side: a lease that it may still trust has not expired.
    fn trusted_leases(&self) -> Checked {
        for actor in &self.setup.actors {
            let Actor::Worker(worker) = actor else { continue };
            let Some((task, lease)) = worker.trusts(self.now) else { continue };
            let row = self.model.row(task.seq()).ok_or("a worker holds a task that is none")?;
            let past = row.facts.past.iter().find(|past| past.lease.number == lease.seq());
            let expired = past.is_some_and(|past| past.end == LeaseEnd::Expired);
            ensure!(!expired, "P4: {} still trusts lease {} of {task}", worker.name, lease.seq());
        }
        Ok(())
    }

    fn count(&mut self) {
        self.counts.step(&self.model);
        if let Some(trace) = &mut self.trace {
            trace.feed(format!("{:?}", self.model.told).as_bytes());
        }
    }

    fn deliver(&mut self, answers: BTreeMap<u64, Answer>) {
        for (call, answer) in answers {
            if let Some(trace) = &mut self.trace {
                trace.feed(format!("{call} {answer:?}").as_bytes());
            }
            if let Answer::Refused(why) = &answer {
                self.counts.refused += 1;
                self.counts.kinds.insert(format!("{why:?}"));
            }
            match self.routes.remove(&call) {
                Some(Some((actor, ticket))) => {
                    let cut = self.now < self.partition_until;
                    let copies =
                        if cut { Vec::new() } else { self.setup.line.carry(&mut self.line) };
                    for delay in copies {
                        let answer = Some(answer.clone());
                        let event = Event::Answered { actor, ticket, answer };
                        self.queue.push(self.now + delay, event);
                    }
                }
                Some(None) => self.moving = false,
                None => {}
            }
        }
    }
}
