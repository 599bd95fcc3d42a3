//! `java.text.SimpleDateFormat` in UTC, lenient, with English names.
//!
//! `S` is a *count* of milliseconds, not a decimal fraction: 5 ms prints as `.5` under `.S`, and `.123456` reads as
//! 123456 ms. Months and days overflow into the next, and what follows the last field is ignored, as in Java.

use std::fmt::Write;

use crate::data::civil::{DAY_MILLIS, date_of, days_of, weekday};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const LETTERS: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field(u8, usize),
}

/// A pattern, ready to print and to read dates.
#[derive(Debug, Clone)]
pub(super) struct SimpleDateFormat {
    pattern: String,
    pieces: Vec<Piece>,
    /// Two-digit years lie in the hundred years from this one.
    century_start: i64,
}

impl SimpleDateFormat {
    /// Reads a pattern; `now` (milliseconds) places two-digit years. `None` if Java would refuse the pattern.
    pub(super) fn new(pattern: &str, now: i64) -> Option<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut quoted = false;
        let mut chars = pattern.chars().peekable();
        let literal = |pieces: &mut Vec<Piece>, c| match pieces.last_mut() {
            Some(Piece::Literal(text)) => text.push(c),
            _ => pieces.push(Piece::Literal(String::from(c))),
        };
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    literal(&mut pieces, '\'');
                }
                '\'' => quoted = !quoted,
                c if quoted || !c.is_ascii_alphabetic() => literal(&mut pieces, c),
                c if !LETTERS.contains(c) => return None,
                c => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    if c == 'X' && count > 3 {
                        return None;
                    }
                    pieces.push(Piece::Field(c as u8, count.min(255)));
                }
            }
        }
        let (year, ..) = date_of(now.div_euclid(DAY_MILLIS));
        (!quoted).then(|| Self { pattern: pattern.to_owned(), pieces, century_start: year - 80 })
    }

    /// The pattern as given.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Prints an instant, in milliseconds since the epoch.
    pub(super) fn format(&self, millis: i64) -> String {
        let date = Broken::of(millis);
        let mut out = String::with_capacity(32);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Field(letter, count) => date.print(*letter, *count, &mut out),
            }
        }
        out
    }

    /// Reads an instant; `None` if the text does not match.
    pub(super) fn parse(&self, text: &str) -> Option<i64> {
        let mut fields = Fields::default();
        let mut at = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(literal) => {
                    text.get(at..)?.strip_prefix(literal.as_str())?;
                    at += literal.len();
                }
                Piece::Field(letter, count) => {
                    // Fields that touch the next one are as wide as their pattern.
                    let abuts = matches!(self.pieces.get(index + 1), Some(Piece::Field(..)));
                    let width = abuts.then_some(*count);
                    at = fields.read(text, at, *letter, *count, width, self.century_start)?;
                }
            }
        }
        (at > 0 || self.pieces.is_empty()).then(|| fields.resolve())
    }
}

/// An instant in calendar fields.
struct Broken {
    year: i64,
    month: i64,
    day: i64,
    days: i64,
    millis: i64,
}

impl Broken {
    fn of(millis: i64) -> Self {
        let days = millis.div_euclid(DAY_MILLIS);
        let (year, month, day) = date_of(days);
        Self { year, month, day, days, millis: millis.rem_euclid(DAY_MILLIS) }
    }

    fn print(&self, letter: u8, count: usize, out: &mut String) {
        let hour = self.millis / 3_600_000;
        let named = |out: &mut String, name: &str| out.push_str(if count >= 4 { name } else { &name[..3] });
        match letter {
            b'G' => out.push_str(if self.year > 0 { "AD" } else { "BC" }),
            b'y' | b'Y' => {
                let year = if letter == b'Y' { self.week_year() } else { self.year };
                let year = if year > 0 { year } else { 1 - year };
                if count == 2 { padded(out, year % 100, 2) } else { padded(out, year, count) }
            }
            b'M' | b'L' if count >= 3 => named(out, MONTHS[(self.month - 1) as usize % 12]),
            b'E' => named(out, DAYS[weekday(self.days) as usize % 7]),
            b'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            b'z' => out.push_str(if count >= 4 { "Coordinated Universal Time" } else { "UTC" }),
            b'Z' => out.push_str("+0000"),
            b'X' => out.push('Z'),
            _ => padded(out, self.number(letter, hour), count),
        }
    }

    fn number(&self, letter: u8, hour: i64) -> i64 {
        match letter {
            b'M' | b'L' => self.month,
            b'w' => self.week_of_year(),
            b'W' => (self.day - 1 + weekday(self.days - self.day + 1)) / 7 + 1,
            b'D' => self.days - days_of(self.year, 1, 1) + 1,
            b'd' => self.day,
            b'F' => (self.day - 1) / 7 + 1,
            b'u' => (weekday(self.days) + 6) % 7 + 1,
            b'H' => hour,
            b'k' => (hour + 23) % 24 + 1,
            b'K' => hour % 12,
            b'h' => (hour + 11) % 12 + 1,
            b'm' => self.millis / 60_000 % 60,
            b's' => self.millis / 1_000 % 60,
            _ => self.millis % 1_000,
        }
    }

    /// Weeks start on Sunday and belong to the year that holds their Saturday, as in the US.
    fn week_year(&self) -> i64 {
        date_of(self.days + 6 - weekday(self.days)).0
    }

    fn week_of_year(&self) -> i64 {
        let first = days_of(self.week_year(), 1, 1);
        (self.days - (first - weekday(first))) / 7 + 1
    }
}

fn padded(out: &mut String, number: i64, width: usize) {
    if (0..10).contains(&number) && width <= 2 {
        if width == 2 {
            out.push('0');
        }
        out.push(char::from(b'0' + number as u8));
    } else {
        let _ = write!(out, "{number:0width$}");
    }
}

/// What was read so far.
#[derive(Default)]
struct Fields {
    era_bc: bool,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    weekday: Option<i64>,
    pm: bool,
    hour: Option<i64>,
    half_hour: i64,
    minute: i64,
    second: i64,
    millis: i64,
    zone: i64,
}

impl Fields {
    /// Reads one field and gives the place behind it.
    fn read(
        &mut self,
        text: &str,
        at: usize,
        letter: u8,
        count: usize,
        width: Option<usize>,
        century_start: i64,
    ) -> Option<usize> {
        let rest = text.get(at..)?;
        let start = at + rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        match letter {
            b'G' => {
                let (index, length) = longest(rest, &["AD", "BC"], 2)?;
                self.era_bc = index == 1;
                return Some(start + length);
            }
            b'a' => {
                let (index, length) = longest(rest, &["AM", "PM"], 2)?;
                self.pm = index == 1;
                return Some(start + length);
            }
            b'M' | b'L' if count >= 3 => {
                let (index, length) = longest(rest, &MONTHS, 3)?;
                self.month = Some(index as i64 + 1);
                return Some(start + length);
            }
            b'E' => {
                let (index, length) = longest(rest, &DAYS, 3)?;
                self.weekday = Some(index as i64);
                return Some(start + length);
            }
            b'z' | b'Z' | b'X' => {
                let (offset, length) = zone(rest, letter)?;
                self.zone = offset;
                return Some(start + length);
            }
            _ => {}
        }
        let (number, end) = integer(text, start, width)?;
        self.set(letter, number, (count <= 2 && end - start == 2).then_some(century_start));
        Some(end)
    }

    fn set(&mut self, letter: u8, number: i64, century_start: Option<i64>) {
        match letter {
            b'y' | b'Y' => {
                self.year = Some(match century_start {
                    Some(start) if (0..100).contains(&number) => {
                        let year = start.div_euclid(100) * 100 + number;
                        if year < start { year + 100 } else { year }
                    }
                    _ => number,
                });
            }
            b'M' | b'L' => self.month = Some(number),
            b'd' => self.day = Some(number),
            b'D' => self.day_of_year = Some(number),
            b'w' => self.week = Some(number),
            b'u' => self.weekday = Some(number.rem_euclid(7)),
            b'H' => self.hour = Some(number),
            b'k' => self.hour = Some(if number == 24 { 0 } else { number }),
            b'K' => self.half_hour = number,
            b'h' => self.half_hour = if number == 12 { 0 } else { number },
            b'm' => self.minute = number,
            b's' => self.second = number,
            b'S' => self.millis = number,
            _ => {}
        }
    }

    fn resolve(&self) -> i64 {
        let year = self.year.unwrap_or(1970);
        let year = if self.era_bc { 1 - year } else { year };
        let days = match (self.day_of_year, self.week) {
            (Some(day), _) if self.day.is_none() && self.month.is_none() => days_of(year, 1, 1) + day - 1,
            (_, Some(week)) if self.day.is_none() && self.month.is_none() => {
                let first = days_of(year, 1, 1);
                first - weekday(first) + (week - 1) * 7 + self.weekday.unwrap_or(0)
            }
            _ => days_of(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        let hour = self.hour.unwrap_or(self.half_hour + if self.pm { 12 } else { 0 });
        let clock = hour * 3_600_000 + self.minute * 60_000 + self.second * 1_000 + self.millis - self.zone;
        days.saturating_mul(DAY_MILLIS).saturating_add(clock)
    }
}

/// Java's `int` of the digits at a place, and the place behind them.
fn integer(text: &str, start: usize, width: Option<usize>) -> Option<(i64, usize)> {
    let limit = match width {
        Some(width) => Some(start + width).filter(|end| *end <= text.len())?,
        None => text.len(),
    };
    let bytes = text.as_bytes().get(start..limit)?;
    let negative = bytes.first() == Some(&b'-');
    let from = usize::from(negative);
    let digits = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let number = bytes[from..from + digits]
        .iter()
        .try_fold(0i64, |number, digit| number.checked_mul(10)?.checked_add(i64::from(digit - b'0')));
    let number = match number {
        Some(number) if negative => i64::from((-number) as i32),
        Some(number) => i64::from(number as i32),
        None if negative => i64::from(i32::MIN),
        None => i64::from(i32::MAX),
    };
    Some((number, start + from + digits))
}

/// The name that a text starts with, in full or by its first `short` letters, any case; the longest wins.
fn longest(text: &str, names: &[&str], short: usize) -> Option<(usize, usize)> {
    let starts = |name: &str| text.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
    names
        .iter()
        .enumerate()
        .flat_map(|(index, name)| [(index, *name), (index, &name[..short])])
        .filter(|(_, name)| starts(name))
        .map(|(index, name)| (index, name.len()))
        .max_by_key(|(_, length)| *length)
}

/// Milliseconds east of Greenwich, and the length of the text that says so.
fn zone(text: &str, letter: u8) -> Option<(i64, usize)> {
    if letter == b'X' && text.starts_with('Z') {
        return Some((0, 1));
    }
    let named = if letter == b'X' {
        0
    } else {
        longest(text, &["UTC", "GMT", "Coordinated Universal Time"], 3)
            .filter(|(index, length)| *index < 2 || *length > 3)
            .map_or(0, |(_, length)| length)
    };
    let rest = &text[named..];
    let sign = match rest.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return (named > 0).then_some((0, named)),
    };
    let digits: Vec<i64> =
        rest[1..].bytes().take_while(u8::is_ascii_digit).take(4).map(|b| i64::from(b - b'0')).collect();
    let after = rest.get(1 + digits.len()..).unwrap_or_default();
    let (hours, minutes, length) = match digits.as_slice() {
        [a, b, c, d] => (a * 10 + b, c * 10 + d, 4),
        [a, b] => match after.as_bytes() {
            [b':', m, n, ..] if m.is_ascii_digit() && n.is_ascii_digit() => {
                (a * 10 + b, i64::from(m - b'0') * 10 + i64::from(n - b'0'), 5)
            }
            _ => (a * 10 + b, 0, 2),
        },
        _ => return (named > 0).then_some((0, named)),
    };
    (hours < 24 && minutes < 60).then_some((sign * (hours * 60 + minutes) * 60_000, named + 1 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn format(pattern: &str, millis: i64) -> String {
        SimpleDateFormat::new(pattern, NOW).unwrap().format(millis)
    }

    fn parse(pattern: &str, text: &str) -> Option<i64> {
        SimpleDateFormat::new(pattern, NOW).unwrap().parse(text)
    }

    #[test]
    fn a_fraction_is_a_count_of_milliseconds() {
        let pattern = "yyyy-MM-dd HH:mm:ss.S";
        let second = 1_709_209_845_000; // 2024-02-29 12:30:45
        for (millis, text) in [(5, "5"), (50, "50"), (123, "123"), (0, "0")] {
            let text = format!("2024-02-29 12:30:45.{text}");
            assert_eq!(format(pattern, second + millis), text);
            assert_eq!(parse(pattern, &text), Some(second + millis));
        }
        assert_eq!(parse(pattern, "2024-02-29 12:30:45.123456"), Some(second + 123_456));
        assert_eq!(format("ss.SSS", second + 5), "45.005");
    }

    #[test]
    fn reading_is_lenient() {
        let pattern = "yyyy-MM-dd HH:mm:ss";
        assert_eq!(parse(pattern, "2024-02-30 00:00:00"), parse(pattern, "2024-3-1 0:0:0"));
        assert_eq!(parse(pattern, "2024-13-01 00:00:00"), parse(pattern, "2025-01-01 00:00:00"));
        assert_eq!(parse(pattern, "2024-01-01 00:00:00 and more"), parse(pattern, "2024-01-01 00:00:00"));
        assert_eq!(parse(pattern, "2024-01-01T00:00:00"), None);
        assert_eq!(parse(pattern, "2024-01-01 00:00"), None);
        assert_eq!(parse(pattern, ""), None);
        assert_eq!(parse("yyyyMMddHHmmss", "20240229123045"), Some(1_709_209_845_000));
        assert_eq!(parse("yy", "24"), parse("yyyy", "2024"));
        assert_eq!(parse("yy", "99"), parse("yyyy", "1999"));
        assert_eq!(parse("d MMM yyyy", "29 february 2024"), parse("yyyy-D", "2024-60"));
        assert_eq!(parse("hh:mm a", "12:30 am"), Some(30 * 60_000));
        assert_eq!(parse("hh:mm a", "01:30 PM"), Some((13 * 60 + 30) * 60_000));
        assert_eq!(parse("HH:mmX", "12:00+02:00"), parse("HH:mmZ", "12:00+0200"));
        assert_eq!(parse("HH:mmX", "12:00+02"), Some(10 * 3_600_000));
        assert_eq!(parse("HH:mm z", "12:00 GMT-01:00"), Some(13 * 3_600_000));
        assert_eq!(parse("HH:mmX", "12:00Z"), Some(12 * 3_600_000));
    }

    #[test]
    fn all_letters_print() {
        let millis = 1_709_209_845_005;
        for (pattern, text) in [
            ("G yy yyyy y Y", "AD 24 2024 2024 2024"),
            ("M MM MMM MMMM", "2 02 Feb February"),
            ("w W D d F", "9 5 60 29 5"),
            ("E EEEE u a", "Thu Thursday 4 PM"),
            ("H k K h m s S", "12 12 0 12 30 45 5"),
            ("z Z X zzzz", "UTC +0000 Z Coordinated Universal Time"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z' ''", "2024-02-29T12:30:45.005Z '"),
        ] {
            assert_eq!(format(pattern, millis), text);
        }
        assert_eq!(format("yyyy-MM-dd", -1), "1969-12-31");
        assert!(SimpleDateFormat::new("yyyy-bb", NOW).is_none());
        assert!(SimpleDateFormat::new("yyyy'", NOW).is_none());
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_back(millis in -59_000_000_000_000i64..250_000_000_000_000) {
            for pattern in ["yyyy-MM-dd HH:mm:ss.S", "yyyyMMddHHmmssSSS", "EEE, d MMM yyyy h:mm:ss.SSS a Z", "yyyy-D k:m:s.S"] {
                proptest::prop_assert_eq!(parse(pattern, &format(pattern, millis)), Some(millis));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(pattern in "\\PC{0,20}", text in "\\PC*", letters in "[GyYMLwWDdFEuaHkKhmsSzZX' :.-]*", digits in "[0-9+:GMTZa -]*", millis: i64) {
            for pattern in [pattern, letters] {
                if let Some(format) = SimpleDateFormat::new(&pattern, NOW) {
                    let _ = format.format(millis);
                    let _ = (format.parse(&text), format.parse(&digits));
                }
            }
        }
    }
}
