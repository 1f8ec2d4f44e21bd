//! Times as people say them: `3m` ago, `4.2s` long, `in 2h`, 2026-11-24 11:17:10 UTC.
//!
//! Unix milliseconds throughout. Not here: clocks; `now` is handed in.

use crate::clock::civil;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How much time lies between two moments, in its largest unit. Clocks of two machines differ a little,
/// so what seems to be in the future is 0s old.
pub fn age(now: i64, then: i64) -> String {
    let ms = now.saturating_sub(then).max(0);
    let units = [(DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m")];
    let (unit, letter) =
        units.into_iter().find(|(unit, _)| ms >= *unit).unwrap_or((SECOND_MS, "s"));
    format!("{}{letter}", ms / unit)
}

/// How long something took.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A moment with its zone.
pub fn stamp(at: i64) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    let of_day = at.rem_euclid(DAY_MS);
    let (hour, minute) = (of_day / HOUR_MS, of_day / MINUTE_MS % 60);
    let second = of_day / SECOND_MS % 60;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A moment as a person writes it: `90s`, `10m`, `2h` or `1d` from now, `2027-01-31T06:00Z` with a zone
/// and with seconds if wanted, or Unix milliseconds.
///
/// # Errors
/// What would be understood.
pub fn moment(text: &str, now: i64) -> Result<i64, String> {
    let from_now = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => SECOND_MS,
            "m" => MINUTE_MS,
            "h" => HOUR_MS,
            "d" => DAY_MS,
            _ => return None,
        };
        digits(number)?.checked_mul(unit)?.checked_add(now)
    };
    let unix = || digits(text).filter(|ms| *ms >= 10_000_000_000);
    from_now().or_else(unix).or_else(|| calendar(text)).ok_or_else(|| {
        "it is neither a time from now (90s, 10m, 2h, 1d) nor a date with its zone, such as \
         2027-01-31T06:00Z or 2027-01-31T06:00+02:00"
            .to_owned()
    })
}

/// Up to 15 digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let fits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// RFC 3339, its seconds left out if they do not matter.
fn calendar(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
        text.split(separator).map(|part| digits(part).filter(|_| part.len() <= 4)).collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let (hour, minute, second) = match numbers(time, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let offset = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), offset) => {
            let [hours, minutes] = numbers(offset, ':')?[..] else { return None };
            let offset = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            if sign == "-" { -offset } else { offset }
        }
        _ => return None,
    };
    let exists = hour <= 23 && minute <= 59 && second <= 59 && year >= 1970;
    let days = days_from_civil(year, month, day);
    (exists && civil(days) == (year, month, day)).then_some(())?;
    Some(days * DAY_MS + (hour * 60 + minute - offset) * MINUTE_MS + second * SECOND_MS)
}

/// Days since 1970-01-01 of a day of the Gregorian calendar; years begin in March, so that the day
/// that comes and goes is their last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_its_largest_unit() {
        for (ms, said) in [
            (-5_000, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (7_200_000, "2h"),
            (86_400_000 * 400, "400d"),
        ] {
            assert_eq!(age(ms, 0), said);
        }
        assert_eq!(age(i64::MAX, i64::MIN), age(i64::MAX, 0));
        let said = [12, 4_210, 65_000, 3_660_000].map(duration);
        assert_eq!(said, ["12 ms", "4.2 s", "1m 05s", "1h 01m"]);
    }

    #[test]
    fn a_moment_is_shown_with_its_zone() {
        assert_eq!(stamp(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(stamp(1_709_251_199_999), "2024-02-29 23:59:59 UTC");
        assert_eq!(stamp(-1), "1969-12-31 23:59:59 UTC");
    }

    #[test]
    fn a_moment_is_read_as_people_write_it() {
        for (text, at) in [
            ("90s", Some(1_090_000)),
            ("10m", Some(1_600_000)),
            ("1d", Some(87_400_000)),
            ("1795259445664", Some(1_795_259_445_664)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199_000)),
            ("2024-03-01 01:59+02:00", Some(1_709_251_140_000)),
            ("2024-02-29T20:59-03:00", Some(1_709_251_140_000)),
            ("2023-02-29T00:00Z", None),
            ("2024-13-01T00:00Z", None),
            ("2024-00-10T00:00Z", None),
            ("2024-01-31T24:00Z", None),
            ("2024-01-31T06:00", None),
            ("2024-01-31T06:00+25:00", None),
            ("-5m", None),
            ("5", None),
            ("m", None),
            ("", None),
            ("é", None),
            ("999999999999999d", None),
            ("1795259445664000000", None),
        ] {
            assert_eq!(moment(text, 1_000_000).ok(), at, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_second_is_read_back_as_it_is_shown(second in 0i64..253_402_300_799) {
            let shown = stamp(second * 1_000).replace(" UTC", "Z");
            proptest::prop_assert_eq!(moment(&shown, 0), Ok(second * 1_000));
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9TZtz:+. -]{0,26}|.{0,8}") {
            let _ = moment(&text, 0);
        }
    }
}
