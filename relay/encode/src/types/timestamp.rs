//! Timestamps with and without zone.

use super::Written;
use super::civil::{self, Day, MICROS_PER_DAY};
use super::form::TimeUnit;
use super::number::write_integer;

/// What infinity becomes where milliseconds are counted, and as ISO text.
const INFINITE_MILLIS: (i64, i64) = (9_223_372_036_825_200_000, -9_223_372_036_832_400_000);
const INFINITE_ISO: (&[u8], &[u8]) = (b"\"+292278994-08-16T23:00:00Z\"", b"\"-292275055-05-16T23:00:00Z\"");

/// A timestamp without zone.
pub(super) fn write_timestamp(text: &[u8], unit: TimeUnit, out: &mut Vec<u8>) -> Written {
    match text {
        b"infinity" => write_infinite(true, unit, out),
        b"-infinity" => write_infinite(false, unit, out),
        _ => {
            let (text, is_bc) = civil::split_era(text);
            let Some((day, micros, b"")) = parse(text, is_bc) else { return Err("is not a timestamp") };
            if unit == TimeUnit::Iso {
                out.push(b'"');
                let (day, micros) = carry(day, micros);
                write_iso(day, micros, out);
                civil::write_short_fraction(micros, out);
                out.extend_from_slice(b"Z\"");
                return Ok(());
            }
            let number = count(day.number(), micros, unit).ok_or("is a timestamp out of range of its unit")?;
            write_integer(number, out);
        }
    }
    Ok(())
}

fn write_infinite(is_positive: bool, unit: TimeUnit, out: &mut Vec<u8>) {
    let choose = |(positive, negative)| if is_positive { positive } else { negative };
    match unit {
        TimeUnit::Millis | TimeUnit::Connect => write_integer(choose(INFINITE_MILLIS), out),
        TimeUnit::Micros | TimeUnit::Nanos => write_integer(choose((i64::MAX, i64::MIN)), out),
        TimeUnit::Iso => out.extend_from_slice(if is_positive { INFINITE_ISO.0 } else { INFINITE_ISO.1 }),
    }
}

/// Units since 1970.
fn count(days: i64, micros: i64, unit: TimeUnit) -> Option<i64> {
    let micros = match unit {
        TimeUnit::Millis | TimeUnit::Connect => return days.checked_mul(MICROS_PER_DAY / 1_000)?.checked_add(micros / 1_000),
        TimeUnit::Micros | TimeUnit::Nanos | TimeUnit::Iso => i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(micros),
    };
    let scale = if unit == TimeUnit::Nanos { 1_000 } else { 1 };
    i64::try_from(micros * scale).ok()
}

/// A timestamp with zone: UTC with exactly that many digits of the fraction.
pub(super) fn write_timestamptz(text: &[u8], places: u8, out: &mut Vec<u8>) -> Written {
    const NOT_A_TIMESTAMP: &str = "is not a timestamp with zone";
    out.push(b'"');
    match text {
        b"infinity" | b"-infinity" => out.extend_from_slice(text),
        _ => {
            let (text, is_bc) = civil::split_era(text);
            let (day, micros, rest) = parse(text, is_bc).ok_or(NOT_A_TIMESTAMP)?;
            let offset = civil::offset(rest).ok_or(NOT_A_TIMESTAMP)?;
            let (day, micros) = carry(day, micros - offset * 1_000_000);
            write_iso(day, micros, out);
            civil::write_places(micros, usize::from(places), out);
            out.push(b'Z');
        }
    }
    out.push(b'"');
    Ok(())
}

#[inline]
fn parse(text: &[u8], is_bc: bool) -> Option<(Day, i64, &[u8])> {
    let (day, rest) = civil::day(text, is_bc)?;
    let (micros, rest) = civil::clock(rest.strip_prefix(b" ")?)?;
    Some((day, micros, rest))
}

/// Microseconds outside of the day move to the one they belong to.
fn carry(day: Day, micros: i64) -> (Day, i64) {
    if (0..MICROS_PER_DAY).contains(&micros) {
        return (day, micros);
    }
    (Day::from_number(day.number() + micros.div_euclid(MICROS_PER_DAY)), micros.rem_euclid(MICROS_PER_DAY))
}

fn write_iso(day: Day, micros: i64, out: &mut Vec<u8>) {
    civil::write_day(day, out);
    out.push(b'T');
    civil::write_clock(micros, out);
}
