//! Dates and times of day as `DateStyle = ISO` prints them, and as ISO 8601 wants them.

use super::number::{write_integer, write_two};
use crate::timestamp::{civil_from_days, days_from_civil};

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A day of the proleptic Gregorian calendar; year 0 is 1 BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

/// Takes ` BC` off the end.
#[inline]
pub(super) fn split_era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// The day at the start of `text`, and the rest.
#[inline]
pub(super) fn day(text: &[u8], is_bc: bool) -> Option<(Day, &[u8])> {
    let (year, rest) = digits(text, 4, 7)?;
    let [b'-', m1, m2, b'-', d1, d2, rest @ ..] = rest else { return None };
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    let is_legal = (1..=12).contains(&month) && (1..=31).contains(&day);
    is_legal.then_some((Day { year: if is_bc { 1 - year } else { year }, month, day }, rest))
}

/// The microseconds of `HH:MM:SS[.ffffff]` at the start of `text`, and the rest.
#[inline]
pub(super) fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    let (micros, rest) = fraction(rest)?;
    let total = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    (minute < 60 && second <= 60 && total <= MICROS_PER_DAY).then_some((total, rest))
}

/// Microseconds of `.789123`, 0 without a point, and the rest.
#[inline]
pub(super) fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let (number, rest) = digits(text, 1, 6)?;
    let places = text.len() - rest.len();
    Some((number * [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1].get(places)?, rest))
}

/// Seconds of `+05`, `-03:30`, `+00:19:32`, which must end the text.
#[inline]
pub(super) fn offset(text: &[u8]) -> Option<i64> {
    let (sign, mut rest) = match text {
        b"+00" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (mut seconds, mut unit) = (0, 3_600);
    loop {
        let [d1, d2, more @ ..] = rest else { return None };
        seconds += two(*d1, *d2)? * unit;
        rest = match more {
            [] => return Some(sign * seconds),
            [b':', more @ ..] if unit > 1 => more,
            _ => return None,
        };
        unit /= 60;
    }
}

/// A number of `least` to `most` digits, and the rest.
#[inline]
fn digits(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let count = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(count)?;
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    (count >= least).then_some((number, rest))
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Appends `2016-11-04`: a year has four digits at least, a sign before and after those that four digits can tell.
pub(super) fn write_day(day: Day, out: &mut Vec<u8>) {
    let year = day.year.abs();
    match day.year {
        ..0 => out.push(b'-'),
        10_000.. => out.push(b'+'),
        _ => {}
    }
    if year < 10_000 {
        write_two(year / 100, out);
        write_two(year, out);
    } else {
        write_integer(year, out);
    }
    out.push(b'-');
    write_two(day.month, out);
    out.push(b'-');
    write_two(day.day, out);
}

/// Appends `13:51:30`.
pub(super) fn write_clock(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    write_two(seconds / 3_600, out);
    out.push(b':');
    write_two(seconds / 60 % 60, out);
    out.push(b':');
    write_two(seconds % 60, out);
}

/// Appends the point and that many digits of the fraction; nothing when it is none.
pub(super) fn write_places(micros: i64, places: usize, out: &mut Vec<u8>) {
    if places == 0 {
        return;
    }
    out.push(b'.');
    let rest = micros % 1_000_000;
    let digits = [100_000, 10_000, 1_000, 100, 10, 1].map(|unit| b'0' + (rest / unit % 10) as u8);
    out.extend_from_slice(digits.get(..places).unwrap_or(&digits));
}

/// Appends the fraction as short as possible.
pub(super) fn write_short_fraction(micros: i64, out: &mut Vec<u8>) {
    let (mut rest, mut places) = (micros % 1_000_000, 6);
    if rest == 0 {
        return;
    }
    while rest % 10 == 0 {
        rest /= 10;
        places -= 1;
    }
    write_places(micros, places, out);
}

// === impl Day ===

impl Day {
    /// Days since 1970-01-01.
    pub(super) fn number(self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    /// The day of that number.
    pub(super) fn from_number(days: i64) -> Self {
        let (year, month, day) = civil_from_days(days);
        Self { year, month, day }
    }
}
