//! Dates and durations as kafka-consumer-groups takes them: `2024-01-31T12:00:00.000`, `P1DT2H3M4S`.

/// Milliseconds since the epoch of `YYYY-MM-DDTHH:mm:SS.sss`, with an optional `Z` or `+HH:mm` behind; UTC without one.
pub(super) fn parse_datetime(text: &str) -> Result<i64, String> {
    let bad = || format!("'{text}' is not a date of the form YYYY-MM-DDTHH:mm:SS.sss");
    let (date, time) = text.trim().split_once('T').ok_or_else(bad)?;
    let (time, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
        text.split(separator).map(|part| part.parse().ok().filter(|n| (0..=9999).contains(n))).collect()
    };
    let date = numbers(date, '-').ok_or_else(bad)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let clock = numbers(clock, ':').ok_or_else(bad)?;
    let millis: i64 = match fraction.len() {
        1..=9 if fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{fraction:0<3}")[..3].parse().map_err(|_| bad())?
        }
        _ => return Err(bad()),
    };
    let (&[year, month, day], [hour, minute, rest @ ..]) = (date.as_slice(), clock.as_slice()) else {
        return Err(bad());
    };
    let second = match rest {
        [] => 0,
        [second] => *second,
        _ => return Err(bad()),
    };
    let days_in_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(bad()),
    };
    if !(1..=days_in_month).contains(&day) || *hour > 23 || *minute > 59 || second > 59 {
        return Err(bad());
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok((seconds - zone_seconds(zone).ok_or_else(bad)?) * 1000 + millis)
}

/// Days of a date of the proleptic Gregorian calendar; a year starts in March, so that a leap day is its last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn zone_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next()? {
        'Z' => return (zone.len() == 1).then_some(0),
        '+' => 1,
        _ => -1,
    };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(sign * (hours * 3600 + minutes * 60))
}

/// Milliseconds of an ISO duration `PnDTnHnMnS`.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("'{text}' is not a duration of the form PnDTnHnMnS");
    let (days, time) = match text.trim().strip_prefix('P').ok_or_else(bad)?.split_once('T') {
        Some((_, "")) => return Err(bad()),
        Some(parts) => parts,
        None => (&text.trim()[1..], ""),
    };
    if days.is_empty() && time.is_empty() {
        return Err(bad());
    }
    let mut millis = 0_i64;
    for (part, units) in [(days, &[('D', 86_400_000_i64)][..]), (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1000)])]
    {
        let mut rest = part;
        for (unit, worth) in units {
            if let Some((number, after)) = rest.split_once(*unit) {
                let number: f64 = number.parse().map_err(|_| bad())?;
                let added = number * (*worth as f64);
                if !added.is_finite() || added.abs() > 9e15 {
                    return Err(bad());
                }
                millis += added as i64;
                rest = after;
            }
        }
        if !rest.is_empty() {
            return Err(bad());
        }
    }
    Ok(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_in_utc_and_in_zones() {
        assert_eq!(parse_datetime("1970-01-01T00:00:00.000"), Ok(0));
        assert_eq!(parse_datetime("2024-02-29T12:34:56.789"), Ok(1_709_210_096_789));
        assert_eq!(parse_datetime("2024-02-29T12:34:56.789+09:00"), Ok(1_709_210_096_789 - 9 * 3_600_000));
        assert_eq!(parse_datetime("2024-02-29T12:34Z"), Ok(1_709_210_040_000));
        for bad in ["2023-02-29T00:00:00.000", "2024-01-01", "2024-13-01T00:00", "x", "2024-01-01T00:00:00.é"] {
            assert!(parse_datetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_durations() {
        assert_eq!(parse_duration("P1DT2H3M4.5S"), Ok(93_784_500));
        assert_eq!(parse_duration("PT1H"), Ok(3_600_000));
        assert_eq!(parse_duration("P7D"), Ok(604_800_000));
        for bad in ["P", "PT", "1D", "P1X", "PT1e300H"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
