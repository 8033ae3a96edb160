//! Turns microseconds since the Unix epoch into RFC 3339 text in UTC.

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// The moment as `2026-03-01T09:30:00.123Z`, cut to milliseconds.
#[must_use]
pub(crate) fn rfc3339(unix_us: i64) -> String {
    let (year, month, day) = civil_from_days(unix_us.div_euclid(DAY_US));
    let in_day_ms = unix_us.rem_euclid(DAY_US) / 1_000;
    let (in_day_s, ms) = (in_day_ms / 1_000, in_day_ms % 1_000);
    let (hour, minute, second) = (in_day_s / 3_600, in_day_s / 60 % 60, in_day_s % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Now, by this machine's clock.
#[must_use]
pub(crate) fn now_rfc3339() -> String {
    rfc3339(crate::status::unix_us())
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last, and in eras of 400 years, which have 146,097 days each.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        for (unix_us, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (946_684_800_000_000, "2000-01-01T00:00:00.000Z"),
            (1_772_357_400_123_999, "2026-03-01T09:30:00.123Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_us), text);
        }
    }

    #[test]
    fn days_follow_each_other_through_four_hundred_years() {
        let mut last = civil_from_days(-1);
        for day in 0..146_097 {
            let this = civil_from_days(day);
            assert!(this > last, "day {day}: {this:?} does not follow {last:?}");
            assert!(this.2 == last.2 + 1 || this.2 == 1, "day {day}: {this:?} after {last:?}");
            last = this;
        }
        assert_eq!(last, (2369, 12, 31));
    }
}
