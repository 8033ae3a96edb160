//! Intervals, as `IntervalStyle = postgres` prints them.

use super::civil;
use super::number::write_integer;
use super::{Refusal, Written};

const NOT_AN_INTERVAL: Refusal = "is not an interval of style postgres";

/// The fields as printed, each with its sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fields {
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
    minutes: i64,
    /// Whole seconds and the rest, of one sign.
    seconds: i64,
    micros: i64,
}

/// Microseconds, computed in float64 as Debezium does: a month has 30.4375 days.
pub(super) fn write_micros(text: &[u8], out: &mut Vec<u8>) -> Written {
    let fields = parse(text)?;
    let days = (fields.years * 12 + fields.months) as f64 * 30.4375 + fields.days as f64;
    let minutes = (days * 24.0 + fields.hours as f64) * 60.0 + fields.minutes as f64;
    let seconds = fields.seconds as f64 + fields.micros as f64 / 1e6;
    let micros = (minutes * 60.0 + seconds) * 1e6;
    // Cut towards zero, and to the limits of int64.
    write_integer(micros as i64, out);
    Ok(())
}

/// `P1Y2M3DT4H5M6.78S`: all parts, each with its sign.
pub(super) fn write_iso(text: &[u8], out: &mut Vec<u8>) -> Written {
    let fields = parse(text)?;
    out.extend_from_slice(b"\"P");
    for (number, unit) in
        [(fields.years, &b"Y"[..]), (fields.months, b"M"), (fields.days, b"DT"), (fields.hours, b"H"), (fields.minutes, b"M")]
    {
        write_integer(number, out);
        out.extend_from_slice(unit);
    }
    if fields.seconds == 0 && fields.micros < 0 {
        out.push(b'-');
    }
    write_integer(fields.seconds, out);
    civil::write_short_fraction(fields.micros.abs(), out);
    out.extend_from_slice(b"S\"");
    Ok(())
}

fn parse(text: &[u8]) -> Result<Fields, Refusal> {
    if matches!(text, b"infinity" | b"-infinity") {
        return Err("is an infinite interval");
    }
    let mut fields = Fields::default();
    let mut words = text.split(|&byte| byte == b' ');
    while let Some(word) = words.next() {
        if memchr::memchr(b':', word).is_some() {
            clock(word, &mut fields).ok_or(NOT_AN_INTERVAL)?;
            continue;
        }
        let number = number(word).ok_or(NOT_AN_INTERVAL)?;
        match words.next() {
            Some(b"year" | b"years") => fields.years = number,
            Some(b"mon" | b"mons") => fields.months = number,
            Some(b"day" | b"days") => fields.days = number,
            // No style prints them so, but a default may be written in words.
            Some(b"hour" | b"hours") => fields.hours = number,
            Some(b"min" | b"mins" | b"minute" | b"minutes") => fields.minutes = number,
            _ => return Err(NOT_AN_INTERVAL),
        }
    }
    Ok(fields)
}

/// `[-+]HH:MM:SS[.ffffff]`, with as many hours as there are.
fn clock(word: &[u8], fields: &mut Fields) -> Option<()> {
    let (sign, word) = match word {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, word),
    };
    let mut parts = word.splitn(3, |&byte| byte == b':');
    fields.hours = sign * number(parts.next()?)?;
    fields.minutes = sign * number(parts.next()?)?;
    let seconds = parts.next()?;
    let (whole, rest) = seconds.split_at(memchr::memchr(b'.', seconds).unwrap_or(seconds.len()));
    let (micros, rest) = civil::fraction(rest)?;
    fields.seconds = sign * number(whole)?;
    fields.micros = sign * micros;
    rest.is_empty().then_some(())
}

/// A number that cannot overflow what is computed with it.
fn number(word: &[u8]) -> Option<i64> {
    let (sign, digits) = match word {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, word),
    };
    if digits.is_empty() || digits.len() > 12 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(sign * digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}
