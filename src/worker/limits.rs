//! When a usage limit is over, as seconds from now.
//!
//! Pure. A subscription's reset comes as Unix seconds ([`super::stream`]); other texts name it for
//! people: "resets 12:50am", "resets Nov 29, 2:24am (Europe/Kyiv)", "usage limit reached|1795229275".
//! What it cannot do: a change to or from summer time between now and the reset makes it an hour
//! wrong; "in 5 minutes" and weekdays are not understood. Not here: what the time of day is in a
//! zone ([`super::zone`]).

/// The longest wait that is believed, in seconds: limits are weekly at most.
pub const RESET_SECONDS_MAX: i64 = 8 * DAY;
const DAY: i64 = 86_400;
const MINUTE: i64 = 60;
/// A time of day that passed no longer ago than this is now, not tomorrow: texts name whole minutes.
const JUST_PASSED: i64 = 10 * MINUTE;

/// Seconds until the moment `reset`, in Unix seconds, seen from `now`; none when that is no sensible
/// wait. A moment that has just passed is waited for a minute.
pub fn seconds_until(reset: i64, now: i64) -> Option<u64> {
    let seconds = reset.checked_sub(now)?;
    let sensible = (-JUST_PASSED..=RESET_SECONDS_MAX).contains(&seconds);
    sensible.then(|| seconds.max(MINUTE) as u64)
}

/// The moment, in Unix seconds, that `text` names: directly, or as a time of day in a zone that is
/// `offset` seconds ahead of UTC, which is asked for only then, with the zone's name if it stands there.
pub fn named_reset(text: &str, now: i64, offset: impl Fn(Option<&str>) -> i64) -> Option<i64> {
    if let Some(moment) = unix_time(text) {
        return Some(moment);
    }
    let (_, said) = text.split_once("resets")?;
    let when = When::read(said)?;
    let zone = said.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let offset = offset(zone.map(|(zone, _)| zone));
    // Texts cut the seconds off.
    Some(when.local_moment(now + offset)? - offset + MINUTE)
}

/// Whether the text names a reset at all.
pub fn names_reset(text: &str) -> bool {
    named_reset(text, 0, |_| 0).is_some()
}

/// The number behind a `|`, in seconds or milliseconds.
fn unix_time(text: &str) -> Option<i64> {
    let (_, rest) = text.rsplit_once('|')?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match digits.len() {
        10 => digits.parse().ok(),
        13 => digits.parse().ok().map(|ms: i64| ms / 1000),
        _ => None,
    }
}

/// A day and a time as a person writes them.
#[derive(Default)]
struct When {
    month: Option<i64>,
    day: Option<i64>,
    year: Option<i64>,
    /// Seconds since midnight.
    time: Option<i64>,
}

impl When {
    /// Reads words until one that belongs to no time: `Jan 2, 2027, 9am (UTC)`.
    fn read(said: &str) -> Option<When> {
        let mut when = When::default();
        let words = said.split(|c: char| c.is_whitespace() || c == ',' || c == '·');
        for word in words.filter(|word| !word.is_empty()) {
            let word = word.trim_end_matches('.').to_ascii_lowercase();
            match (word.as_str(), word.parse().ok()) {
                ("at" | "on", _) => {}
                ("am" | "pm", _) => when.time = Some(half_day(when.time?, word == "pm")?),
                (_, Some(year @ 2000..=9999)) => when.year = Some(year),
                (_, Some(day @ 1..=31)) if when.month.is_some() && when.day.is_none() => {
                    when.day = Some(day);
                }
                (name, None) if month(name).is_some() => when.month = month(name),
                (time, _) => match time_of_day(time) {
                    Some(time) if when.time.is_none() => when.time = Some(time),
                    _ => break,
                },
            }
        }
        let dated = when.month.is_some() && when.day.is_some();
        (when.time.is_some() || dated).then_some(when)
    }

    /// The moment on a clock that now shows `local_now`.
    fn local_moment(&self, local_now: i64) -> Option<i64> {
        let (today, time) = (local_now.div_euclid(DAY), self.time.unwrap_or_default());
        let (Some(month), Some(day)) = (self.month, self.day) else {
            let at = today * DAY + time;
            return Some(if at < local_now - JUST_PASSED { at + DAY } else { at });
        };
        let this_year = year_of(today);
        let in_year = |year| days_since_1970(year, month, day) * DAY + time;
        match self.year {
            Some(year) => Some(in_year(year)),
            // In December a day of January is next year's.
            None => [this_year, this_year + 1]
                .into_iter()
                .map(in_year)
                .find(|at| *at >= local_now - JUST_PASSED),
        }
    }
}

fn month(word: &str) -> Option<i64> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let short = word.get(..3)?;
    let at = MONTHS.as_bytes().chunks(3).position(|month| month == short.as_bytes())?;
    word.bytes().all(|byte| byte.is_ascii_lowercase()).then_some(at as i64 + 1)
}

/// `9`, `9am`, `12:50am`, `15:30`.
fn time_of_day(word: &str) -> Option<i64> {
    let (clock, pm) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(clock), _) => (clock, Some(false)),
        (_, Some(clock)) => (clock, Some(true)),
        _ => (word, None),
    };
    let (hours, minutes) = clock.split_once(':').unwrap_or((clock, "0"));
    let number = |text: &str, below: i64| -> Option<i64> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number < below)
    };
    let seconds = number(hours, 24)? * 3600 + number(minutes, 60)? * MINUTE;
    pm.map_or(Some(seconds), |pm| half_day(seconds, pm))
}

/// Twelve o'clock is the first hour of its half.
fn half_day(seconds: i64, pm: bool) -> Option<i64> {
    let noon = DAY / 2;
    let in_half = if seconds >= noon { seconds - noon } else { seconds };
    (seconds < noon + 3600).then_some(in_half + if pm { noon } else { 0 })
}

/// Days of the proleptic Gregorian calendar, counted from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

fn year_of(days: i64) -> i64 {
    let guess = 1970 + days.div_euclid(366);
    (guess..).take_while(|year| days_since_1970(*year, 1, 1) <= days).last().unwrap_or(guess)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24 11:16:43 UTC.
    const NOW: i64 = 1_795_519_003;

    fn until(text: &str, offset: i64) -> Option<u64> {
        seconds_until(named_reset(text, NOW, |_| offset)?, NOW)
    }

    #[test]
    fn every_form_in_which_a_reset_was_seen_is_understood() {
        let (hour, day) = (3600, 86_400);
        // From 11:16:43, and a minute more for the seconds that were cut off.
        let to = |hours: i64, minutes: i64| (hours - 11) * hour + (minutes - 16) * 60 - 43 + 60;
        let texts = [
            ("You've hit your session limit · resets 12:40pm (UTC)", to(12, 40)),
            ("You've hit your session limit · resets 12:40\u{202f}PM (UTC)", to(12, 40)),
            ("You've hit your session limit · resets 2pm", to(14, 0)),
            ("resets 12:50am", to(24, 50)),
            ("resets 12am", to(24, 0)),
            ("resets 9am", to(24 + 9, 0)),
            ("resets at 15:30.", to(15, 30)),
            ("resets 11:10am, a moment ago", to(11, 10)),
            ("You've hit your weekly limit · resets Nov 29, 2:24am (UTC)", to(2, 24) + 5 * day),
            ("resets Nov 28, 9am", to(9, 0) + 4 * day),
            ("resets Nov 28", to(0, 0) + 4 * day),
            ("resets Nov 25, 2026, 9am", to(9, 0) + day),
            ("Claude AI usage limit reached|1795522603", 3600),
            ("API Error (429) · Claude AI usage limit reached|1795522603000", 3600),
        ];
        for (text, seconds) in texts {
            assert_eq!(until(text, 0), Some(seconds.max(60) as u64), "{text}");
        }
    }

    #[test]
    fn a_zone_moves_the_time_of_day_and_is_asked_for_by_its_name() {
        let kyiv = 2 * 3600;
        let text = "You've hit your session limit · resets 2:40pm (Europe/Kyiv)";
        let named = named_reset(text, NOW, |zone| {
            assert_eq!(zone, Some("Europe/Kyiv"));
            kyiv
        });
        assert_eq!(seconds_until(named.unwrap(), NOW), until("resets 12:40pm", 0));
        assert_eq!(until("resets 1am", kyiv), until("resets 11pm", 0));
        assert_eq!(until("resets 3:20am", -8 * 3600), until("resets 11:20am", 0));
    }

    #[test]
    fn the_turn_of_the_year_is_no_trap() {
        let new_years_eve = days_since_1970(2026, 12, 31) * DAY + 23 * 3600;
        let until = |text| seconds_until(named_reset(text, new_years_eve, |_| 0)?, new_years_eve);
        assert_eq!(until("resets Jan 2, 9am"), Some(3600 + 86_400 + 9 * 3600 + 60));
        assert_eq!(until("resets 1am"), Some(2 * 3600 + 60));
        assert_eq!(until("resets Jan 2, 2027, 9am"), Some(3600 + 86_400 + 9 * 3600 + 60));
    }

    #[test]
    fn nonsense_and_what_is_too_far_away_is_no_reset() {
        for text in [
            "",
            "resets",
            "resets soon",
            "resets 25:00",
            "resets 13pm",
            "resets Nov 35",
            "resets Feb 1, 9am",
            "resets Dec 24, 9am",
            "resets Nov 24, 1999, 9am",
            "usage limit reached|12",
            "usage limit reached|99999999999999999999",
            "usage limit reached|1895522603",
            "a|b",
        ] {
            assert_eq!(until(text, 0), None, "{text}");
        }
        assert_eq!(seconds_until(i64::MIN, NOW), None);
        assert_eq!(seconds_until(i64::MAX, NOW), None);
    }

    #[test]
    fn days_and_years_are_those_of_the_calendar() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(2026, 11, 24), NOW / DAY);
        for year in [1970, 1999, 2000, 2026, 2027, 2028, 2100] {
            assert_eq!(year_of(days_since_1970(year, 1, 1)), year);
            assert_eq!(year_of(days_since_1970(year, 12, 31)), year);
        }
    }
}
