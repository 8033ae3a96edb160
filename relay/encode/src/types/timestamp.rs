//! Timestamps with and without zone.

use super::civil::{self, Day, MICROS_PER_DAY};
use super::form::TimeUnit;
use super::number::write_integer;
use super::{Refusal, Written};

pub(super) const OUT_OF_RANGE: Refusal = "is a timestamp out of range of its unit";

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
            let number = count(day.number(), micros, unit).ok_or(OUT_OF_RANGE)?;
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
    if copy_utc(text, places, out) {
        return Ok(());
    }
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

/// Copies `2016-11-04 11:51:30.1234+00`, which almost every timestamp with zone is, digit by digit; false for all others.
#[inline]
fn copy_utc(text: &[u8], places: u8, out: &mut Vec<u8>) -> bool {
    const FORM: &[u8; 19] = b"0000-00-00 00:00:00";
    let Some((whole, rest)) = text.split_first_chunk::<19>() else { return false };
    let Some(fraction) = rest.strip_suffix(b"+00") else { return false };
    let (fraction, places) = (fraction.strip_prefix(b".").unwrap_or(fraction), usize::from(places));
    let fits = |(&byte, &form): (&u8, &u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    let is_of_form = whole.iter().zip(FORM).fold(true, |is_of_form, pair| is_of_form & fits(pair));
    // A fraction as long as there is room; neither 24:00 nor a second too many.
    let is_usual = fraction.len() <= places.min(6)
        && fraction.iter().all(u8::is_ascii_digit)
        && whole[17] < b'6'
        && whole[11..13] < b"24"[..];
    if !is_of_form || !is_usual {
        return false;
    }
    let mut json = *b"\"0000-00-00T00:00:00.000000Z\"";
    json[1..20].copy_from_slice(whole);
    json[11] = b'T';
    json[21..21 + fraction.len()].copy_from_slice(fraction);
    let end = if places == 0 { 20 } else { 21 + places };
    json[end..end + 2].copy_from_slice(b"Z\"");
    out.extend_from_slice(&json[..end + 2]);
    true
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_copied_timestamp_is_the_computed_one(
            at in -60_000_000_000_000_000i64..250_000_000_000_000_000, cut in 0u32..7, places in 0u8..7,
        ) {
            let unit = 10i64.pow(cut);
            let (day, micros) = (at.div_euclid(MICROS_PER_DAY), at.rem_euclid(MICROS_PER_DAY) / unit * unit);
            let mut text = Vec::new();
            civil::write_day(Day::from_number(day), &mut text);
            text.push(b' ');
            civil::write_clock(micros, &mut text);
            civil::write_short_fraction(micros, &mut text);
            text.extend_from_slice(b"+00");
            let (mut copied, mut computed) = (Vec::new(), Vec::new());
            if copy_utc(&text, places, &mut copied) {
                let zone = text.len() - 3;
                text.splice(zone.., *b"+00:00");
                prop_assert!(write_timestamptz(&text, places, &mut computed).is_ok());
                prop_assert_eq!(copied, computed);
            }
        }
    }

    #[test]
    fn only_what_needs_no_thought_is_copied() {
        let copies = |text: &str, places| copy_utc(text.as_bytes(), places, &mut Vec::new());
        assert!(
            copies("2016-11-04 11:51:30+00", 0) && copies("2016-11-04 11:51:30.5+00", 6) && copies("2016-11-04 23:59:59+00", 3)
        );
        for text in [
            "2016-11-04 11:51:30+02",
            "2016-11-04 11:51:30-00",
            "12016-11-04 11:51:30+00",
            "2016-11-04 24:00:00+00",
            "2016-11-04 11:51:60+00",
            "0044-03-15 11:51:30+00 BC",
            "2016-11-04T11:51:30+00",
            "2016-11-04 11:51:30.1234567+00",
            "2016-11-04 11:51:3+00",
            "infinity",
            "",
        ] {
            assert!(!copies(text, 6), "{text}");
        }
        assert!(!copies("2016-11-04 11:51:30.5+00", 0));
    }
}
