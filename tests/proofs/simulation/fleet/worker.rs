//! A worker's slot: joins, claims, works, gives signs of life, reports.
//!
//! The careful kind trusts its lease only until a tenth before its end on its own clock, counted from
//! when it asked; the stubborn one works on whatever it is told and reports late; the nameless one is
//! an agent of today that never says which lease it holds; the called one is an agent that waits to be
//! called, together with the server's part, which claims for it and keeps its leases.

use super::super::facts::{Answer, Ask, lease_id, task_id};
use super::{Desk, Moment, SECOND, Shift, hand_back, result};
use bloom_runtime::domain::{
    Completed, HandBack, LeaseClaim, LeaseId, NoWorker, Refusal, Registration, TaskId,
};
use bloom_runtime::engine::WorkerChoice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Careful,
    Stubborn,
    Nameless,
    Called,
}

/// How long what takes; both ends within.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Seconds of a lease that is asked for; 0 asks for the task's default.
    pub ttl_seconds: (u64, u64),
    pub wait_ms: (u64, u64),
    pub work_us: (u64, u64),
    pub fails_percent: u64,
    /// So often its provider begins to fail, for about five tasks.
    pub outage_percent: u64,
    pub hands_back_percent: u64,
    pub joins_again_percent: u64,
    /// At most so long until it asks again after it got no task.
    pub rest_us: u64,
    pub shift: Shift,
}

#[derive(Debug)]
struct Job {
    task: TaskId,
    lease: LeaseId,
    ttl_us: u64,
    trusted_until: u64,
    done_at: u64,
    next_beat: u64,
    beat: Option<(u64, u64)>,
    tries: u32,
    began: u64,
    /// It will give the task back.
    gives_up: Option<HandBack>,
}

#[derive(Debug)]
enum State {
    Joining,
    Asking { ticket: u64 },
    Working(Job),
    Reporting(Job),
}

#[derive(Debug)]
pub struct Worker {
    pub desk: Desk,
    pub name: String,
    pub conduct: Conduct,
    pub registration: Registration,
    pub habits: Habits,
    state: State,
    outage: bool,
    /// Of the program that runs there; a new one may wait to be called although the old one claimed.
    version: u64,
    pub completed: u64,
}

impl Worker {
    pub fn new(
        desk: Desk,
        name: String,
        conduct: Conduct,
        registration: Registration,
        habits: Habits,
    ) -> Self {
        let state = State::Joining;
        Worker {
            desk,
            name,
            conduct,
            registration,
            habits,
            state,
            outage: false,
            version: 0,
            completed: 0,
        }
    }

    /// The lease on which it relies at this moment. Whoever never names its lease cannot know whose
    /// it extends after a person has requeued the task.
    pub fn trusts(&self, now: u64) -> Option<(TaskId, LeaseId)> {
        if self.conduct == Conduct::Nameless {
            return None;
        }
        match &self.state {
            State::Working(job) | State::Reporting(job) if now < job.trusted_until => {
                Some((job.task, job.lease))
            }
            _ => None,
        }
    }

    /// Its process is gone, and begins anew at the next alarm.
    pub fn crash(&mut self, moment: &mut Moment<'_>, back_at: u64) {
        self.state = State::Joining;
        self.desk.wake_at(moment, back_at);
    }

    fn claim(&self, job: &Job) -> LeaseClaim {
        match self.conduct {
            Conduct::Nameless => LeaseClaim::Unnamed,
            Conduct::Careful | Conduct::Stubborn | Conduct::Called => LeaseClaim::Named(job.lease),
        }
    }

    pub fn wake(&mut self, moment: &mut Moment<'_>) {
        match std::mem::replace(&mut self.state, State::Joining) {
            State::Joining => self.join(moment),
            State::Asking { .. } => self.ask(moment),
            State::Working(job) => self.work(moment, job),
            State::Reporting(job) => self.report(moment, job),
        }
    }

    fn join(&mut self, moment: &mut Moment<'_>) {
        let (worker, mut registration) = (self.name.clone(), self.registration.clone());
        if self.conduct == Conduct::Called {
            registration.url = Some(format!("http://{worker}:8001"));
            registration.agent_version = Some(self.version.to_string());
        }
        let ask = Ask::Register { worker, registration };
        self.desk.send(moment, ask, 3 * SECOND);
        self.desk.wake_at(moment, moment.now + 3 * SECOND);
    }

    fn rest(&mut self, moment: &mut Moment<'_>, most_us: u64) {
        // Agents register again now and then.
        let again = self.desk.dice.percent(self.habits.joins_again_percent);
        self.state = if again { State::Joining } else { State::Asking { ticket: 0 } };
        let pause = self.desk.dice.between(1, most_us);
        self.desk.wake_at(moment, moment.now + pause);
    }

    fn ask(&mut self, moment: &mut Moment<'_>) {
        let begins = self.habits.shift.next(moment.now);
        if begins > moment.now {
            self.state = State::Joining;
            return self.desk.wake_at(moment, begins);
        }
        let dice = &mut self.desk.dice;
        let ttl = dice.between(self.habits.ttl_seconds.0, self.habits.ttl_seconds.1) as u32;
        let ttl_seconds = (ttl > 0).then_some(ttl);
        let (ask, patience) = if self.conduct == Conduct::Nameless {
            let Some(task) = moment.known.any_task(dice) else {
                return self.rest(moment, 2 * SECOND);
            };
            let worker = WorkerChoice::Automatic;
            (Ask::Lease { task, worker, ttl_seconds: Some(ttl_seconds) }, 3 * SECOND)
        } else {
            let wait_ms = dice.between(self.habits.wait_ms.0, self.habits.wait_ms.1);
            let worker = self.name.clone();
            let claim = match self.conduct {
                Conduct::Called => Ask::ClaimFor { worker, wait_ms },
                _ => Ask::Claim { worker, ttl_seconds, wait_ms },
            };
            (claim, wait_ms * 1000 + 3 * SECOND)
        };
        let ticket = self.desk.send(moment, ask, patience);
        self.state = State::Asking { ticket };
        self.desk.wake_at(moment, moment.now + patience);
    }

    fn begin(&mut self, moment: &mut Moment<'_>, task: TaskId, lease: LeaseId, ttl_seconds: u32) {
        let (low, high) = self.habits.work_us;
        let job = Job {
            task,
            lease,
            ttl_us: u64::from(ttl_seconds) * SECOND,
            // A claim may have waited, so the first sign of life says what can be trusted.
            trusted_until: 0,
            done_at: moment.now + self.desk.dice.between(low, high),
            next_beat: moment.now,
            beat: None,
            tries: 0,
            began: moment.now,
            gives_up: self.gives_up(),
        };
        self.work(moment, job);
    }

    fn work(&mut self, moment: &mut Moment<'_>, mut job: Job) {
        let now = moment.now;
        let lost = job.trusted_until > 0 && now >= job.trusted_until;
        if lost && self.conduct == Conduct::Careful {
            return self.ask(moment);
        }
        if now >= job.done_at {
            return self.report(moment, job);
        }
        if now >= job.next_beat {
            let ask = match self.conduct {
                Conduct::Called => Ask::Keep { task: job.task, lease: job.lease },
                _ => Ask::Heartbeat { task: job.task, claim: self.claim(&job) },
            };
            let ticket = self.desk.send(moment, ask, 2 * SECOND);
            job.beat = Some((ticket, now));
            job.next_beat = now + job.ttl_us / 3;
        }
        let mut next = job.next_beat.min(job.done_at);
        if job.trusted_until > now {
            next = next.min(job.trusted_until);
        }
        self.desk.wake_at(moment, next);
        self.state = State::Working(job);
    }

    fn report(&mut self, moment: &mut Moment<'_>, mut job: Job) {
        let lost = job.trusted_until > 0 && moment.now >= job.trusted_until;
        if job.tries > 8 || (lost && self.conduct == Conduct::Careful) {
            return self.ask(moment);
        }
        job.tries += 1;
        let (task, claim) = (job.task, self.claim(&job));
        let ask = match job.gives_up.clone() {
            Some(given) => Ask::HandBack { task, claim, given: Some(given) },
            None => Ask::Complete { task, claim, fields: Some(self.result(moment.now, &job)) },
        };
        if self.conduct == Conduct::Called && self.desk.dice.percent(50) {
            // It calls back besides, with words of its own: one of both counts.
            let fields = Some(self.result(moment.now, &job));
            self.desk.send(moment, Ask::Complete { task, claim, fields }, 2 * SECOND);
        }
        self.desk.send(moment, ask, 2 * SECOND);
        self.desk.wake_at(moment, moment.now + 2 * SECOND);
        self.state = State::Reporting(job);
    }

    fn gives_up(&mut self) -> Option<HandBack> {
        let dice = &mut self.desk.dice;
        let codes: &[&str] = match self.conduct {
            Conduct::Called => {
                &["agent_unreachable", "agent_refused_key", "agent_died", "push_busy"]
            }
            _ => &["worker_stopping", "usage_limit", "not_logged_in", "tired"],
        };
        dice.percent(self.habits.hands_back_percent).then(|| hand_back(dice, codes))
    }

    fn result(&mut self, now: u64, job: &Job) -> Completed {
        let dice = &mut self.desk.dice;
        let turns = if self.outage { 10 } else { self.habits.outage_percent };
        self.outage ^= dice.percent(turns);
        let succeeded = !self.outage && !dice.percent(self.habits.fails_percent);
        let output = format!("the answer to {} on try {}", job.task, job.tries);
        let mut said = result(succeeded, (now - job.began) / 1000, output);
        let codes: &[&str] = match self.outage {
            true => &["provider_overloaded", "provider_unreachable", "rate_limited"],
            false => &["", "timeout", "killed", "provider_error", "bad_prompt", "odd"],
        };
        let code = dice.one(codes);
        said.code = (!succeeded && !code.is_empty()).then(|| code.into());
        said
    }

    pub fn answered(&mut self, moment: &mut Moment<'_>, ticket: u64, answer: Option<&Answer>) {
        match (&mut self.state, answer) {
            (State::Joining, Some(Answer::Registered(..))) => self.ask(moment),
            (State::Asking { ticket: asked }, answer) if *asked == ticket => match answer {
                Some(Answer::Claimed(task, _, lease)) => {
                    let (task, number) = (task_id(task.number), lease_id(lease.number));
                    self.begin(moment, task, number, lease.ttl_seconds);
                }
                Some(Answer::Leased(task, lease, _)) => {
                    let (task, number) = (task_id(*task), lease_id(lease.number));
                    self.begin(moment, task, number, lease.ttl_seconds);
                }
                Some(Answer::Refused(Refusal::NoWorker(NoWorker::NotPushable))) => {
                    self.version += 1;
                    self.state = State::Joining;
                    self.desk.wake_at(moment, moment.now + SECOND);
                }
                Some(Answer::Refused(Refusal::WorkerNotFound)) => {
                    self.state = State::Joining;
                    self.desk.wake_at(moment, moment.now + SECOND);
                }
                Some(Answer::NoTask) => self.rest(moment, self.habits.rest_us),
                _ => self.rest(moment, 3 * SECOND),
            },
            (State::Working(job), Some(Answer::Beat(_))) => {
                if let Some((_, sent)) = job.beat.take_if(|(beat, _)| *beat == ticket) {
                    job.trusted_until = sent + job.ttl_us - job.ttl_us / 10;
                }
            }
            (State::Working(job), Some(Answer::Refused(_))) => {
                let of_this_job = job.beat.is_some_and(|(beat, _)| beat == ticket);
                if of_this_job && self.conduct != Conduct::Stubborn {
                    self.rest(moment, SECOND);
                }
            }
            (State::Reporting(_), Some(Answer::Done(_))) if ticket == self.desk.ticket => {
                self.completed += 1;
                self.ask(moment);
            }
            (State::Reporting(_), Some(Answer::Task(..))) if ticket == self.desk.ticket => {
                self.ask(moment);
            }
            (State::Reporting(_), Some(Answer::Refused(_))) if ticket == self.desk.ticket => {
                self.rest(moment, SECOND);
            }
            _ => {}
        }
    }
}
