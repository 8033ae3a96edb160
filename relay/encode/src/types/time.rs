//! Dates and times of day.

use super::Written;
use super::civil::{self, MICROS_PER_DAY};
use super::form::{DateUnit, TimeUnit};
use super::number::write_integer;

/// Days of `infinity` and `-infinity`, as Debezium's stream path has them.
const INFINITE_DAYS: (i64, i64) = (2_146_033_979, -2_147_472_691);

/// A date.
pub(super) fn write_date(text: &[u8], unit: DateUnit, out: &mut Vec<u8>) -> Written {
    let is_iso = unit == DateUnit::Iso;
    match (text, is_iso) {
        (b"infinity", false) => write_integer(INFINITE_DAYS.0, out),
        (b"-infinity", false) => write_integer(INFINITE_DAYS.1, out),
        (b"infinity", true) => out.extend_from_slice(b"\"+5877611-06-21Z\""),
        (b"-infinity", true) => out.extend_from_slice(b"\"-5877611-06-22Z\""),
        _ => {
            let (text, is_bc) = civil::split_era(text);
            let Some((day, b"")) = civil::day(text, is_bc) else { return Err("is not a date") };
            let days = day.number();
            if i32::try_from(days).is_err() {
                return Err("is a date out of range");
            }
            if is_iso {
                out.push(b'"');
                civil::write_day(day, out);
                out.extend_from_slice(b"Z\"");
            } else {
                write_integer(days, out);
            }
        }
    }
    Ok(())
}

/// A time of day without zone.
pub(super) fn write_time(text: &[u8], unit: TimeUnit, out: &mut Vec<u8>) -> Written {
    let Some((micros, b"")) = civil::clock(text) else { return Err("is not a time") };
    match unit {
        TimeUnit::Millis | TimeUnit::Connect => write_integer(micros / 1_000, out),
        TimeUnit::Micros => write_integer(micros, out),
        TimeUnit::Nanos => write_integer(micros * 1_000, out),
        TimeUnit::Iso => write_utc(micros, out),
    }
    Ok(())
}

/// A time of day with zone, in UTC.
pub(super) fn write_timetz(text: &[u8], out: &mut Vec<u8>) -> Written {
    const NOT_A_TIME: &str = "is not a time with zone";
    let (micros, rest) = civil::clock(text).ok_or(NOT_A_TIME)?;
    let offset = civil::offset(rest).ok_or(NOT_A_TIME)?;
    // 24:00 stays itself only where nothing is to be shifted.
    let utc = if offset == 0 { micros } else { (micros - offset * 1_000_000).rem_euclid(MICROS_PER_DAY) };
    write_utc(utc, out);
    Ok(())
}

fn write_utc(micros: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    civil::write_clock(micros, out);
    civil::write_short_fraction(micros, out);
    out.extend_from_slice(b"Z\"");
}
