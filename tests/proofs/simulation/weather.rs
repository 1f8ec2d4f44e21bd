//! What befalls a run: crashes, power cuts, broken commits, clocks, partitions, pauses, the mover.

use super::check::{Checked, same};
use super::facts;
use super::fleet::{Actor, SECOND};
use super::setup::Fault;
use super::world::{Event, World};

const YEAR_MS: i64 = 365 * 86_400_000;

impl World {
    pub fn strike(&mut self, plague: usize) -> Checked {
        let one = self.setup.plagues[plague].clone();
        let again = self.now + self.weather.between(1, 2 * one.every_us);
        self.queue.push(again, Event::Strike(plague));
        match one.fault {
            Fault::Kill => self.go_down(false),
            Fault::PowerCut => self.go_down(true),
            Fault::Stop => return self.stop(),
            Fault::BreakCommit => {
                let operations = self.weather.between(1, 25);
                if let Some(server) = &mut self.server {
                    server.hot.fail_after(operations);
                    self.armed = true;
                }
            }
            Fault::JumpWall => {
                let years = self.weather.below(81) as i64 - 40;
                let slip = self.weather.below(20_000) as i64 - 10_000;
                let jump = if self.weather.percent(50) { years * YEAR_MS } else { slip };
                self.wall_base = self.setup.wall + jump;
                self.wall_since = self.now;
            }
            Fault::FreezeWall => {
                self.wall_base = self.wall();
                self.wall_since = self.now;
                self.frozen = !self.frozen;
            }
            Fault::Partition => {
                let longest = self.weather.pick(&[10, 60, 400]).copied().unwrap_or(10);
                self.partition_until = self.now + self.weather.between(1, longest * SECOND);
            }
            Fault::PauseActor => {
                let actor = self.weather.below(self.setup.actors.len() as u64) as usize;
                let longest = self.weather.pick(&[2, 20, 200]).copied().unwrap_or(2);
                self.asleep[actor] = self.now + self.weather.between(1, longest * SECOND);
            }
            Fault::CrashWorker => self.crash_a_worker(),
            Fault::MoverCopies => return self.copy_finished(),
        }
        Ok(())
    }

    /// Every slot of one worker's process is gone for a while.
    fn crash_a_worker(&mut self) {
        let workers: Vec<String> = self
            .setup
            .actors
            .iter()
            .filter_map(|actor| match actor {
                Actor::Worker(worker) => Some(worker.name.clone()),
                _ => None,
            })
            .collect();
        let Some(name) = self.weather.pick(&workers).cloned() else { return };
        let back_at = self.now + self.weather.between(1, 90 * SECOND);
        for actor in 0..self.setup.actors.len() {
            if matches!(&self.setup.actors[actor], Actor::Worker(worker) if worker.name == name) {
                self.act(actor, |one, moment| {
                    if let Actor::Worker(worker) = one {
                        worker.crash(moment, back_at);
                    }
                });
            }
        }
    }

    /// The mover's first commit. The second follows a while later, unless something comes between.
    fn copy_finished(&mut self) -> Checked {
        let (tasks, changes) = self.setup.mover;
        let Some(server) = self.server.as_mut().filter(|_| !self.moving) else { return Ok(()) };
        let breaks = self.setup.seed.is_multiple_of(3)
            && !self.setup.without.has("commits")
            && self.weather.percent(10);
        if breaks {
            server.archive.fail_after(self.weather.between(1, 40));
            self.armed = true;
        }
        let before = self.armed.then(|| self.model.clone());
        let expected = self.model.copy_finished(tasks, changes);
        let copied = match (server.query.copy_finished(tasks, changes), before) {
            (Ok(copied), _) => copied,
            (Err(_), Some(before)) => {
                // What broke may be on disk or not; the process ends to find out.
                self.doubtful = Some(before);
                self.counts.broken_commits += 1;
                let cut = self.weather.percent(50);
                self.go_down(cut);
                return Ok(());
            }
            (Err(error), None) => return Err(format!("the mover cannot copy: {error}")),
        };
        let seen: Vec<_> = copied.tasks.iter().map(facts::task).collect();
        same("what the mover copied", &seen, &expected.tasks)?;
        same("journal records that it copied", copied.journal.len(), expected.records)?;
        same("changes that it copied", copied.changes, expected.changes)?;
        self.counts.moved += seen.len() as u64;
        if server.has_lost_a_drive() {
            let cut = self.weather.percent(50);
            self.go_down(cut);
        } else if !seen.is_empty() || copied.changes > 0 {
            server.copied = Some(copied);
            self.moving = true;
            let pause = self.weather.between(1, 5 * SECOND);
            self.rounds += 1;
            self.queue.push(self.now + pause, Event::LetGo(self.rounds));
        }
        Ok(())
    }
}
