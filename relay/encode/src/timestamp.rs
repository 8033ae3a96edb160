//! The text of a PostgreSQL timestamp becomes milliseconds since the Unix epoch.

use crate::template::TimeForm;
use std::io::Write;

/// Why a text gives no record timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTime {
    /// `infinity` or `-infinity`.
    Infinite,
    /// Not of the form that `DateStyle = ISO` prints.
    Malformed,
}

/// Milliseconds of `2026-01-05 12:34:56.789123+00`, cut, not rounded. Without an offset it is read as UTC. ISO 8601's `T` and `Z`
/// are taken too, since JSON writers use them.
pub(crate) fn parse(text: &[u8]) -> Result<i64, NoTime> {
    if matches!(text, b"infinity" | b"-infinity") {
        return Err(NoTime::Infinite);
    }
    parse_finite(text).ok_or(NoTime::Malformed)
}

fn parse_finite(text: &[u8]) -> Option<i64> {
    let (text, is_bc) = text.strip_suffix(b" BC").map_or((text, false), |text| (text, true));
    let mut digits = Digits { text, at: 0 };
    let year = digits.number(4, 6)?;
    digits.expect(b'-')?;
    let month = digits.number(2, 2)?;
    digits.expect(b'-')?;
    let day = digits.number(2, 2)?;
    if digits.expect(b' ').is_none() {
        digits.expect(b'T')?;
    }
    let hour = digits.number(2, 2)?;
    digits.expect(b':')?;
    let minute = digits.number(2, 2)?;
    digits.expect(b':')?;
    let second = digits.number(2, 2)?;
    let micros = digits.fraction()?;
    let offset_seconds = digits.offset()?;
    let is_legal = (1..=12).contains(&month) && (1..=31).contains(&day) && hour <= 24 && minute < 60 && second <= 60;
    if !is_legal || digits.at != text.len() {
        return None;
    }
    let year = if is_bc { 1 - year } else { year };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds;
    Some(seconds * 1_000 + micros / 1_000)
}

/// Appends a time in UTC.
pub(crate) fn write(ms: i64, form: TimeForm, out: &mut Vec<u8>) {
    let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60, ms_of_day / 1_000 % 60);
    // Writing to memory does not fail.
    let _ = match form {
        TimeForm::Rfc3339 => {
            write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms_of_day % 1_000)
        }
        TimeForm::MonthDayYear => write!(out, "{month:02}/{day:02}/{year:04} {hour:02}:{minute:02}:{second:02}"),
    };
}

/// Year, month and day of a number of days since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

struct Digits<'a> {
    text: &'a [u8],
    at: usize,
}

impl Digits<'_> {
    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let (mut value, mut count) = (0, 0);
        while count < most
            && let Some(digit @ b'0'..=b'9') = self.text.get(self.at)
        {
            value = value * 10 + i64::from(digit - b'0');
            count += 1;
            self.at += 1;
        }
        (count >= least).then_some(value)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.text.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Microseconds of `.789123`; further digits are cut. 0 when there is no fraction.
    fn fraction(&mut self) -> Option<i64> {
        if self.expect(b'.').is_none() {
            return Some(0);
        }
        let (mut micros, mut unit) = (0, 100_000);
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
            self.at += 1;
        }
        (self.at > start).then_some(micros)
    }

    /// Seconds of `+05`, `-03:30`, `+00:19:32`, `Z`; 0 when there is none.
    fn offset(&mut self) -> Option<i64> {
        if self.expect(b'Z').is_some() {
            return Some(0);
        }
        let sign = match self.text.get(self.at) {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(0),
        };
        self.at += 1;
        let mut seconds = self.number(2, 2)? * 3_600;
        for unit in [60, 1] {
            if self.expect(b':').is_some() {
                seconds += self.number(2, 2)? * unit;
            }
        }
        Some(sign * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_postgresql_prints() {
        let cases = [
            ("1970-01-01 00:00:00", 0),
            ("1970-01-01 00:00:00.001999+00", 1),
            ("1969-12-31 23:59:59.9999+00", -1),
            ("2026-01-05 12:34:56.789123+00", 1_767_616_496_789),
            ("2026-01-05T12:34:56.789Z", 1_767_616_496_789),
            ("2026-01-05 18:04:56.789+05:30", 1_767_616_496_789),
            ("2026-01-05 12:34:56", 1_767_616_496_000),
            ("2000-02-29 00:00:00+00", 951_782_400_000),
            ("0001-01-01 00:00:00+00", -62_135_596_800_000),
            ("0044-03-15 00:00:00 BC", -63_517_824_000_000),
            ("294276-12-31 23:59:59.999999", 9_224_318_015_999_999),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text.as_bytes()), Ok(ms), "{text}");
        }
        assert_eq!(parse(b"-infinity"), Err(NoTime::Infinite));
        for wrong in
            ["", "now", "2026-1-5 00:00:00", "2026-13-01 00:00:00", "2026-01-05", "2026-01-05 00:00:00 x", "2026-01-05 00:00:00."]
        {
            assert_eq!(parse(wrong.as_bytes()), Err(NoTime::Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text: Vec<u8>) {
            let _ = parse(&text);
        }
    }
}
