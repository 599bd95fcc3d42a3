//! Calendar arithmetic on plain numbers, UTC, proleptic Gregorian.
//!
//! Java's `GregorianCalendar` turns Julian before 1582-10-15, on both the reading and the printing side; the two cancel
//! out from table to table, so one calendar throughout shows the same dates.

/// Milliseconds of a day.
pub const DAY_MILLIS: i64 = 86_400_000;

/// Days since 1970-01-01 of a year, a month (from 1) and a day (from 1); months and days may overflow.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let months = year.saturating_mul(12).saturating_add(month.saturating_sub(1));
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.saturating_mul(146_097).saturating_add(day_of_era - 719_468).saturating_add(day.saturating_sub(1))
}

/// Year, month and day of a count of days since 1970-01-01.
pub fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day of the week of a count of days, Sunday being 0.
pub fn weekday(days: i64) -> i64 {
    (days.rem_euclid(7) + 4) % 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-1_000_000..1_000_000).step_by(37) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days);
        }
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(days_of(2024, 2, 30), days_of(2024, 3, 1));
        assert_eq!(days_of(2023, 14, 1), days_of(2024, 2, 1));
        assert_eq!(weekday(0), 4);
    }
}
