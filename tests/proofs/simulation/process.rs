//! The server's process: how it ends, in order or not, and how it starts again on what the disks hold.
//!
//! Must stay true: a start is looked at before anybody may ask; a commit that broke is there whole or not
//! at all. Not here: when it ends (`weather`).

use super::check::{self, Checked, same};
use super::model::Model;
use super::server::Server;
use super::setup::Scrutiny;
use super::world::{Event, World};
use redb::StorageBackend;

impl World {
    /// The process is gone, and with a power cut what was not synced; it will start again.
    pub fn go_down(&mut self, power_cut: bool) {
        let Some(server) = self.server.take() else { return };
        server.kill();
        if power_cut {
            self.disks.hot.cut_power();
            self.disks.archive.cut_power();
        }
        self.come_back();
    }

    fn come_back(&mut self) {
        self.hang_up_on_everyone();
        let downtime = self.weather.between(1, self.setup.downtime_us);
        self.queue.push(self.now + downtime, Event::Start);
    }

    /// An orderly stop: whoever waits is answered, both files are closed.
    pub fn stop(&mut self) -> Checked {
        if self.server.is_some() {
            self.end_in_order()?;
        }
        if self.server.take().is_some() {
            self.come_back();
        }
        Ok(())
    }

    /// A process starts on what the disks hold.
    pub fn start(&mut self) -> Checked {
        let base = self.weather.below(1_000_000);
        let wall = self.wall();
        let limits = self.weather.one(&self.setup.limits);
        let settings = (limits.as_slice(), self.setup.pushes);
        let server = Server::start(&self.disks, self.now, base, wall, settings)?;
        self.note_disks();
        let now = server.now(self.now, wall);
        self.counts.starts += 1;
        self.model.restart(now, &limits);
        let everything = self.setup.scrutiny == Scrutiny::Every || self.now >= self.setup.end_us;
        let records = if everything { check::all } else { check::hot_records };
        // A step may tell of what leaves no record, such as silence.
        let check = |model: &Model| {
            let newest = server.core.events.latest();
            same("P6: the newest change", newest, model.last_change)?;
            records(&server, model)
        };
        let mut found = check(&self.model);
        if let Some(mut before) = self.doubtful.take() {
            before.restart(now, &limits);
            match (&found, check(&before)) {
                (Ok(()), _) => self.counts.kept_after_break += 1,
                (Err(_), Ok(())) => {
                    self.model = before;
                    found = Ok(());
                }
                (Err(with), Err(without)) => {
                    return Err(format!(
                        "P6: after a broken commit half of it is there.\n with it: {with}\n without it: {without}"
                    ));
                }
            }
        }
        if everything {
            found = found.and_then(|()| check::examined(&server));
        }
        found.map_err(|why| format!("after a start: {why}"))?;
        self.events_seen = self.model.last_change;
        self.ledger.restart(&self.model, self.now);
        self.armed = false;
        self.server = Some(server);
        Ok(())
    }

    /// The bytes of both disks take part in the trace.
    pub fn note_disks(&mut self) {
        let Some(trace) = &mut self.trace else { return };
        for disk in [&self.disks.hot, &self.disks.archive] {
            let mut image = vec![0; disk.len().expect("a disk in memory") as usize];
            disk.read(0, &mut image).expect("a disk in memory");
            trace.feed(&image);
        }
    }
}
