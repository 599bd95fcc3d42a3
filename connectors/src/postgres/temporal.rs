//! Dates and times: PostgreSQL counts microseconds from 2000-01-01, Connect milliseconds from 1970-01-01, and what a
//! `timestamp` without zone means is said by `db.timezone`. Java's hybrid calendar (Julian before 1582-10-15) is
//! reproduced where the original goes through `java.util.Date`.

use std::fmt::Write as _;

use jiff::tz::{AmbiguousOffset, TimeZone};

/// Days from 1970-01-01 to 2000-01-01.
pub const PG_EPOCH_DAYS: i64 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub const PG_EPOCH_MICROS: i64 = PG_EPOCH_DAYS * DAY_MICROS;
/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;
/// Milliseconds of a day.
pub const DAY_MILLIS: i64 = 86_400_000;
/// What pgjdbc makes of `infinity`, in milliseconds.
pub const INFINITY_MILLIS: i64 = 9_223_372_036_825_200_000;
/// What pgjdbc makes of `-infinity`, in milliseconds.
pub const NEGATIVE_INFINITY_MILLIS: i64 = -9_223_372_036_832_400_000;
/// 1582-10-15, the first day of the Gregorian calendar.
const GREGORIAN_START: i64 = -141_427;

/// The zone that wall-clock values are in.
#[derive(Debug, Clone)]
pub enum Zone {
    /// No shift; the fast way.
    Utc,
    /// A zone with rules.
    Other(TimeZone),
}

impl Zone {
    /// From a Java zone id, such as `UTC`, `Asia/Seoul`, `GMT+09:00` or the old three letters.
    ///
    /// # Errors
    /// If there is no such zone.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let id = match text.trim() {
            "" | "UTC" | "Z" | "GMT" | "UCT" | "Etc/UTC" | "Etc/GMT" | "Universal" | "Zulu" => return Ok(Self::Utc),
            "EST" => "-05:00",
            "MST" => "-07:00",
            "HST" => "-10:00",
            "PST" => "America/Los_Angeles",
            "CST" => "America/Chicago",
            "JST" => "Asia/Tokyo",
            "CTT" => "Asia/Shanghai",
            "IST" => "Asia/Kolkata",
            "ECT" => "Europe/Paris",
            "AET" => "Australia/Sydney",
            "ART" => "Africa/Cairo",
            "BST" => "Asia/Dhaka",
            "VST" => "Asia/Ho_Chi_Minh",
            other => other,
        };
        let offset = id.strip_prefix("GMT").or_else(|| id.strip_prefix("UTC")).unwrap_or(id);
        let zone = match parse_offset(offset) {
            Some(seconds) => jiff::tz::Offset::from_seconds(seconds).map(TimeZone::fixed),
            None => TimeZone::get(id),
        };
        zone.map(Self::Other).map_err(|_| format!("invalid time zone: {text}"))
    }

    /// The instant of a wall-clock time, both in microseconds since 1970. As Java: a time that a switch skips is moved
    /// on, one that comes twice means the second.
    pub fn to_instant(&self, wall: i64) -> i64 {
        self.instant_of(wall, |_| false)
    }

    /// An instant from which reading can resume after this wall-clock time: one whose wall-clock time is not later. A time
    /// that a switch skips is moved back, so that some rows may be read again, but none is skipped.
    pub fn to_instant_not_after(&self, wall: i64) -> i64 {
        self.instant_of(wall, |offset| matches!(offset, AmbiguousOffset::Gap { .. }))
    }

    fn instant_of(&self, wall: i64, earlier: impl Fn(AmbiguousOffset) -> bool) -> i64 {
        let Self::Other(zone) = self else { return wall };
        let known = wall.clamp(EARLIEST, LATEST);
        let Ok(moment) = jiff::Timestamp::from_microsecond(known) else { return wall };
        let ambiguous = zone.to_ambiguous_timestamp(TimeZone::UTC.to_datetime(moment));
        let instant = if earlier(ambiguous.offset()) { ambiguous.earlier() } else { ambiguous.later() };
        instant.map_or(wall, |instant| wall.saturating_add(instant.as_microsecond() - known))
    }

    /// The wall-clock time of an instant, both in microseconds since 1970.
    pub fn to_wall(&self, instant: i64) -> i64 {
        instant.saturating_add(self.offset_seconds(instant) * 1_000_000)
    }

    /// Seconds east of UTC at an instant.
    pub fn offset_seconds(&self, instant: i64) -> i64 {
        let Self::Other(zone) = self else { return 0 };
        jiff::Timestamp::from_microsecond(instant.clamp(EARLIEST, LATEST))
            .map_or(0, |moment| i64::from(zone.to_offset(moment).seconds()))
    }
}

/// The years -9000 and 9000: what the zone rules are asked for.
const EARLIEST: i64 = -346_000_000_000_000_000;
const LATEST: i64 = 221_000_000_000_000_000;

fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Microseconds since 1970 of the start of a day; `None` if it can't be counted so.
pub fn day_start(days: i64) -> Option<i64> {
    days.checked_mul(DAY_MICROS)
}

/// Days since 1970 of a date in the proleptic Gregorian calendar.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970 in the proleptic Gregorian calendar.
pub fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * part + 2) / 5 + 1)
}

fn julian_days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) + of_year - 719_470
}

fn julian_date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_470;
    let cycle = shifted.div_euclid(1461);
    let of_cycle = shifted.rem_euclid(1461);
    let year = (of_cycle - of_cycle / 1460) / 365;
    let of_year = of_cycle - 365 * year;
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    (year + cycle * 4 + i64::from(month <= 2), month, of_year - (153 * part + 2) / 5 + 1)
}

/// Days as Java's hybrid calendar counts the date that PostgreSQL shows.
pub fn to_legacy_days(days: i64) -> i64 {
    if days >= GREGORIAN_START {
        return days;
    }
    let (year, month, day) = date_of(days);
    julian_days_of(year, month, day)
}

/// The opposite of [`to_legacy_days`].
pub fn from_legacy_days(days: i64) -> i64 {
    if days >= GREGORIAN_START {
        return days;
    }
    let (year, month, day) = julian_date_of(days);
    days_of(year, month, day)
}

/// Microseconds as Java's hybrid calendar counts them.
pub fn to_legacy_micros(micros: i64) -> i64 {
    if micros >= GREGORIAN_START * DAY_MICROS {
        return micros;
    }
    let days = to_legacy_days(micros.div_euclid(DAY_MICROS));
    days.saturating_mul(DAY_MICROS).saturating_add(micros.rem_euclid(DAY_MICROS))
}

/// The opposite of [`to_legacy_micros`].
pub fn from_legacy_micros(micros: i64) -> i64 {
    if micros >= GREGORIAN_START * DAY_MICROS {
        return micros;
    }
    let days = from_legacy_days(micros.div_euclid(DAY_MICROS));
    days.saturating_mul(DAY_MICROS).saturating_add(micros.rem_euclid(DAY_MICROS))
}

/// Appends a date as PostgreSQL reads it: ISO, with ` BC` at the end of the whole text if `after` says so.
fn push_date(out: &mut String, days: i64) -> bool {
    let (year, month, day) = date_of(days);
    let shown = if year <= 0 { 1 - year } else { year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    year <= 0
}

/// Appends a time of day with the given number of fraction digits (0, 3, 6 or 9).
pub fn push_time(out: &mut String, micros: i64, digits: usize) {
    let seconds = micros / 1_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = micros % 1_000_000;
    let _ = match digits {
        0 => Ok(()),
        3 => write!(out, ".{:03}", fraction / 1000),
        6 => write!(out, ".{fraction:06}"),
        _ => write!(out, ".{fraction:06}000"),
    };
}

/// A date as PostgreSQL reads it.
pub fn date_text(days: i64) -> String {
    let mut out = String::new();
    let before_christ = push_date(&mut out, days);
    out.push_str(if before_christ { " BC" } else { "" });
    out
}

/// A date and time as PostgreSQL reads it, with a separator and a number of fraction digits.
pub fn datetime_text(micros: i64, separator: char, digits: usize) -> String {
    let mut out = String::with_capacity(30);
    let before_christ = push_date(&mut out, micros.div_euclid(DAY_MICROS));
    out.push(separator);
    push_time(&mut out, micros.rem_euclid(DAY_MICROS), digits);
    out.push_str(if before_christ { " BC" } else { "" });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn zones_as_java() {
        let seoul = Zone::from_text("Asia/Seoul").unwrap();
        assert_eq!(seoul.to_instant(micros("2024-02-29T12:30:45.123Z")), micros("2024-02-29T03:30:45.123Z"));
        assert_eq!(seoul.to_wall(micros("2024-02-29T03:30:45.123Z")), micros("2024-02-29T12:30:45.123Z"));
        let berlin = Zone::from_text("Europe/Berlin").unwrap();
        assert_eq!(berlin.to_instant(micros("2024-03-31T02:30:00Z")), micros("2024-03-31T01:30:00Z"));
        assert_eq!(berlin.to_instant(micros("2024-10-27T02:30:00Z")), micros("2024-10-27T01:30:00Z"));
        let skipped = micros("2024-03-31T02:30:00Z");
        assert!(berlin.to_wall(berlin.to_instant_not_after(skipped)) < skipped);
        assert_eq!(Zone::from_text("GMT+09:00").unwrap().offset_seconds(0), 32_400);
        assert!(Zone::from_text("Mars/Base").is_err());
        assert!(matches!(Zone::from_text("UTC").unwrap(), Zone::Utc));
        let _ = seoul.to_instant(i64::MAX);
        let _ = seoul.to_instant(i64::MIN);
    }

    #[test]
    fn hybrid_calendar_as_measured() {
        assert_eq!(to_legacy_days(days_of(1500, 1, 1)) * DAY_MILLIS, -14_830_992_000_000);
        assert_eq!(to_legacy_days(days_of(1, 1, 1)) * DAY_MILLIS, -62_135_769_600_000);
        assert_eq!(to_legacy_days(days_of(1582, 10, 15)), GREGORIAN_START);
        assert_eq!(date_text(days_of(0, 3, 1)), "0001-03-01 BC");
        assert_eq!(datetime_text(1_123_456, 'T', 9), "1970-01-01T00:00:01.123456000");
    }

    proptest! {
        #[test]
        fn dates_round_trip(days in -2_000_000_i64..3_000_000) {
            let (year, month, day) = date_of(days);
            prop_assert_eq!(days_of(year, month, day), days);
            let (year, month, day) = julian_date_of(days);
            prop_assert_eq!(julian_days_of(year, month, day), days);
        }
    }
}
