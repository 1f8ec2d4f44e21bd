//! How far a zone's time of day is ahead of UTC right now, asked of the system's own `date`.
//!
//! The standard library does not know the local zone, and reading it from C is only safe where no
//! other thread changes the environment; `date +%z` knows all of it. What it cannot do: a zone that
//! this machine has no data for counts as UTC. Not here: what the offset is for ([`super::limits`]).

use super::child::{self, Kept, Order};
use super::watch::{NEVER, Watch};
use crate::clock::Clock;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

const TIMEOUT_MS: u64 = 5_000;

/// Seconds ahead of UTC: of `zone`, or of the child's own zone, which is the one that Claude tells
/// times in.
pub fn offset_seconds(
    zone: Option<&str>,
    environment: &[(OsString, OsString)],
    clock: Arc<dyn Clock>,
) -> i64 {
    let is_name = |zone: &&str| {
        zone.len() <= 64
            && zone.starts_with(|first: char| first.is_ascii_alphabetic())
            && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte))
    };
    let mut environment = environment.to_vec();
    if let Some(zone) = zone.filter(is_name) {
        environment.retain(|(name, _)| name != "TZ");
        environment.push(("TZ".into(), zone.into()));
    }
    let order = Order {
        program: Path::new("date"),
        arguments: &["+%z"],
        environment: &environment,
        folder: None,
        stdin: String::new(),
        timeout_ms: TIMEOUT_MS,
    };
    let told = child::run(order, Kept::default(), &Arc::new(Watch::new(clock, NEVER)));
    told.ok().and_then(|told| read(&told.output.text())).unwrap_or_default()
}

/// `+0200` or `-0330`.
fn read(offset: &str) -> Option<i64> {
    let digits = offset.strip_prefix(['+', '-'])?;
    let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    let seconds = (number / 100 * 60 + number % 100) * 60;
    Some(if offset.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn an_offset_is_read_as_date_writes_it() {
        assert_eq!(read("+0200"), Some(7200));
        assert_eq!(read("-0330"), Some(-12_600));
        for nonsense in ["", "0200", "+02", "+02:00", "UTC", "+ 200"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests read the environment of their own run")]
    fn a_zone_is_asked_of_the_system() {
        let path = ("PATH".into(), std::env::var_os("PATH").unwrap());
        // POSIX zones need no zone data: two hours ahead is written with a minus.
        let of = |zone, tz: &str| {
            let environment = [path.clone(), ("TZ".into(), tz.into())];
            offset_seconds(zone, &environment, Arc::new(SystemClock::new()))
        };
        assert_eq!(of(None, "XXX-2"), 7200);
        assert_eq!(of(Some("UTC"), "XXX-2"), 0);
        assert_eq!(of(Some("../etc/passwd\n"), "XXX5"), -18_000, "no name of a zone");
    }
}
