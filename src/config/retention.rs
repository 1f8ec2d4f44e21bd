//! How long things are kept, and when the files give their free space back.
//!
//! What must stay true: what is not named is kept; a time of 0 days is never a time. Not here: how it is
//! done (`background::retention`, `background::compaction`).

use super::error::{ConfigError, shown};
use super::number;
use super::sources::Sources;
use crate::domain::TaskStatus;
use crate::engine::Retention;

const DAYS_MAX: u32 = 36_500;
const IDLE_SECONDS_DEFAULT: u32 = 300;
const IDLE_SECONDS_MAX: u32 = 86_400;

/// What `RETENTION_DAYS`, `AUDIT_RETENTION_DAYS` and `COMPACT_IDLE_SECONDS` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Days for each status whose tasks are removed; the others are kept.
    pub tasks: Vec<(TaskStatus, u32)>,
    pub audit_days: Option<u32>,
    /// `None` never compacts a file that is in use.
    pub compact_idle_seconds: Option<u32>,
}

impl Keeping {
    pub(super) fn load(sources: &Sources) -> Result<Keeping, ConfigError> {
        let some = |n: &u32| *n > 0;
        Ok(Keeping {
            tasks: sources.parsed("RETENTION_DAYS", "90", days)?.unwrap_or_default(),
            audit_days: sources
                .parsed("AUDIT_RETENTION_DAYS", "365", |text| number(text, DAYS_MAX))?
                .filter(some),
            compact_idle_seconds: sources
                .parsed("COMPACT_IDLE_SECONDS", "300", |text| number(text, IDLE_SECONDS_MAX))?
                .or(Some(IDLE_SECONDS_DEFAULT))
                .filter(some),
        })
    }

    pub fn retention(&self) -> Retention {
        Retention::new(self.tasks.iter().copied(), self.audit_days)
    }

    /// What the start says of it.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        const SERVED: &str = "time while the server is off does not count";
        let tasks = match self.tasks.as_slice() {
            [] => None,
            [(_, days), rest @ ..]
                if self.tasks.len() == finished().count()
                    && rest.iter().all(|(_, other)| other == days) =>
            {
                Some(format!(
                    "finished tasks are removed after {days} days (RETENTION_DAYS); {SERVED}"
                ))
            }
            some => {
                let each: Vec<_> = some
                    .iter()
                    .map(|(status, days)| format!("{} after {days} days", status.as_str()))
                    .collect();
                Some(format!(
                    "finished tasks are removed: {} (RETENTION_DAYS); {SERVED}",
                    each.join(", ")
                ))
            }
        };
        let audit = self.audit_days.map(|days| {
            format!(
                "the audit trail is kept for {days} days (AUDIT_RETENTION_DAYS); what is older is lost"
            )
        });
        tasks.into_iter().chain(audit)
    }
}

fn finished() -> impl Iterator<Item = TaskStatus> {
    TaskStatus::ALL.into_iter().filter(|status| status.is_finished())
}

/// One number for every finished status, 0 to keep all; or `status=days` for some, separated by commas.
fn days(text: &str) -> Result<Vec<(TaskStatus, u32)>, String> {
    if !text.contains('=') {
        let days = number(text, DAYS_MAX)?;
        return Ok(finished().filter(|_| days > 0).map(|status| (status, days)).collect());
    }
    let mut found: Vec<(TaskStatus, u32)> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let Some((name, days)) = word.split_once('=') else {
            return Err(format!("{} is no status=days", shown(word)));
        };
        let name = name.trim();
        let Some(status) = finished().find(|status| status.as_str() == name) else {
            let names: Vec<_> = finished().map(TaskStatus::as_str).collect();
            return Err(format!("{} is none of {}", shown(name), names.join(", ")));
        };
        let days = match number(days.trim(), DAYS_MAX)? {
            0 => return Err(format!("{name}=0 is no time; leave {name} out to keep those tasks")),
            days => days,
        };
        if found.iter().any(|(known, _)| *known == status) {
            return Err(format!("{name} stands there twice"));
        }
        found.push((status, days));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskStatus::{Cancelled, Completed, Dead, Failed};

    #[test]
    fn one_number_is_for_all_and_a_status_that_is_not_named_is_kept() {
        let all = vec![(Completed, 30), (Failed, 30), (Dead, 30), (Cancelled, 30)];
        assert_eq!(days("30"), Ok(all));
        assert_eq!(days("0"), Ok(Vec::new()));
        assert_eq!(days(" failed = 90 , completed=7,"), Ok(vec![(Failed, 90), (Completed, 7)]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (text, word) in [
            ("-1", "not a number"),
            ("30,90", "not a number"),
            ("completed=30,90", "no status=days"),
            ("done=30", "none of completed, failed, dead, cancelled"),
            ("queued=30", "none of"),
            ("completed=0", "leave completed out"),
            ("completed=36501", "from 0 to 36500"),
            ("completed=", "not a number"),
            ("completed=1,completed=2", "twice"),
        ] {
            let fault = days(text).unwrap_err();
            assert!(fault.contains(word), "{text}: {fault}");
        }
    }

    #[test]
    fn the_start_says_what_will_be_removed() {
        let said = |text: &str, audit_days| {
            let keeping = Keeping { tasks: days(text).unwrap(), audit_days, ..Keeping::default() };
            keeping.notes().collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said("0", None), "");
        assert!(said("90", None).starts_with("finished tasks are removed after 90 days"));
        let some = said("completed=30,failed=90", Some(365));
        assert!(some.contains("completed after 30 days, failed after 90 days"), "{some}");
        assert!(some.contains("the audit trail is kept for 365 days"), "{some}");
        assert!(said("completed=30", None).contains("removed: completed after 30 days"));
    }
}
