//! Floats as Java prints them: the shortest digits that read back, of those the nearest, two at least (section 1).

use super::Written;
use std::fmt::{self, Write as _};

const NOT_A_NUMBER: &str = "is not a floating point number";

/// A float8, or the text of any number read as one.
#[inline]
pub(super) fn write_f64(text: &[u8], out: &mut Vec<u8>) -> Written {
    if copy_plain(text, 15, out) {
        return Ok(());
    }
    let number = parse::<f64>(text)?;
    if !write_special(number.is_nan(), number.is_infinite(), number.is_sign_negative(), out) {
        write_finite(&number, out);
    }
    Ok(())
}

/// A float4.
#[inline]
pub(super) fn write_f32(text: &[u8], out: &mut Vec<u8>) -> Written {
    if copy_plain(text, 6, out) {
        return Ok(());
    }
    let number = parse::<f32>(text)?;
    if !write_special(number.is_nan(), number.is_infinite(), number.is_sign_negative(), out) {
        write_finite(&number, out);
    }
    Ok(())
}

/// The number as an f64, as [`write_f64`] reads it.
pub(super) fn parse_f64(text: &[u8]) -> Result<f64, super::Refusal> {
    parse(text)
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Result<T, super::Refusal> {
    // What Rust reads beyond what PostgreSQL prints (`+1`, `inf`) does no harm.
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NOT_A_NUMBER)
}

/// Digits that are the answer as they stand: plain, in the plain range, and so few that no shorter ones read back the same.
#[inline]
fn copy_plain(text: &[u8], most_digits: usize, out: &mut Vec<u8>) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.len() > most_digits || digits.is_empty() {
        return false;
    }
    let mut point = digits.len();
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {}
            b'.' if point == digits.len() => point = at,
            _ => return false,
        }
    }
    let whole = digits.get(..point).unwrap_or_default();
    let is_in_range = match whole {
        [b'0'] => digits.iter().skip(2).take(3).any(|&digit| digit != b'0'),
        [b'1'..=b'9', ..] => whole.len() <= 7,
        _ => false,
    };
    let is_shortest = point == digits.len() || matches!(digits, [.., b'.', b'0'..=b'9'] | [.., b'1'..=b'9']);
    if !is_in_range || !is_shortest {
        return false;
    }
    out.extend_from_slice(text);
    if point == digits.len() {
        out.extend_from_slice(b".0");
    }
    true
}

fn write_special(is_nan: bool, is_infinite: bool, is_negative: bool, out: &mut Vec<u8>) -> bool {
    let word: &[u8] = match (is_nan, is_infinite, is_negative) {
        (true, ..) => b"\"NaN\"",
        (_, true, false) => b"\"Infinity\"",
        (_, true, true) => b"\"-Infinity\"",
        _ => return false,
    };
    out.extend_from_slice(word);
    true
}

/// Appends an f64.
pub(super) fn write_number(number: f64, out: &mut Vec<u8>) {
    if !write_special(number.is_nan(), number.is_infinite(), number.is_sign_negative(), out) {
        write_finite(&number, out);
    }
}

/// Lays out the shortest digits as `Double.toString` does.
fn write_finite<T: fmt::LowerExp>(number: &T, out: &mut Vec<u8>) {
    let mut shortest = Digits::default();
    let _ = write!(shortest, "{number:e}");
    if memchr::memchr(b'.', shortest.text()).is_none() {
        // One digit alone: Java takes the nearest of those with two.
        shortest = Digits::default();
        let _ = write!(shortest, "{number:.1e}");
    }
    let text = shortest.text();
    let (mantissa, exponent) = match memchr::memchr(b'e', text) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &b"0"[..]),
    };
    let (sign, mantissa) = match mantissa.strip_prefix(b"-") {
        Some(mantissa) => (&b"-"[..], mantissa),
        None => (&b""[..], mantissa),
    };
    out.extend_from_slice(sign);
    // `d.ddd`: the digits are the first byte and what follows the point.
    let first = mantissa.get(..1).unwrap_or_default();
    let rest = mantissa.get(2..).unwrap_or_default();
    let is_zero = first == b"0";
    let power = std::str::from_utf8(exponent).ok().and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    match power {
        _ if is_zero => out.extend_from_slice(b"0.0"),
        -3..=-1 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-1 - power) as usize));
            out.extend_from_slice(first);
            if rest != b"0" {
                out.extend_from_slice(rest);
            }
        }
        0..=6 => {
            let whole = (power as usize).min(rest.len());
            out.extend_from_slice(first);
            out.extend_from_slice(rest.get(..whole).unwrap_or_default());
            out.extend(std::iter::repeat_n(b'0', power as usize - whole));
            out.push(b'.');
            out.extend_from_slice(match rest.get(whole..) {
                Some(fraction) if !fraction.is_empty() => fraction,
                _ => b"0",
            });
        }
        _ => {
            out.extend_from_slice(mantissa);
            out.push(b'E');
            out.extend_from_slice(exponent);
        }
    }
}

/// Room for the digits of one number.
struct Digits {
    bytes: [u8; 40],
    used: usize,
}

// === impl Digits ===

impl Digits {
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

impl Default for Digits {
    fn default() -> Self {
        Self { bytes: [0; 40], used: 0 }
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn double(text: &str) -> String {
        let mut out = Vec::new();
        write_f64(text.as_bytes(), &mut out).expect("a number");
        String::from_utf8(out).expect("ASCII")
    }

    fn single(text: &str) -> String {
        let mut out = Vec::new();
        write_f32(text.as_bytes(), &mut out).expect("a number");
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn floats_are_written_as_java_writes_them() {
        let cases = [
            ("0", "0.0"),
            ("-0", "-0.0"),
            ("3.3", "3.3"),
            ("1", "1.0"),
            ("100", "100.0"),
            ("0.001", "0.001"),
            ("0.002", "0.002"),
            ("0.0123", "0.0123"),
            ("9999999", "9999999.0"),
            ("10000000", "1.0E7"),
            ("12345678.9", "1.23456789E7"),
            ("0.00099", "9.9E-4"),
            ("1e-05", "1.0E-5"),
            ("1e+21", "1.0E21"),
            ("1e+23", "1.0E23"),
            ("5e-324", "4.9E-324"),
            ("2e-323", "2.0E-323"),
            ("1.7976931348623157e+308", "1.7976931348623157E308"),
            ("1.50", "1.5"),
            ("22.2200", "22.22"),
            ("1000000.5", "1000000.5"),
            ("1234567.1234567891", "1234567.1234567892"),
            ("NaN", "\"NaN\""),
            ("Infinity", "\"Infinity\""),
            ("-Infinity", "\"-Infinity\""),
            ("0.5", "0.5"),
            ("-200000", "-200000.0"),
        ];
        for (text, want) in cases {
            assert_eq!(double(text), want, "{text}");
        }
        for (text, want) in
            [("1e-45", "1.4E-45"), ("3.4028235e+38", "3.4028235E38"), ("16777216", "1.6777216E7"), ("0.1", "0.1"), ("3.3", "3.3")]
        {
            assert_eq!(single(text), want, "{text}");
        }
        for wrong in ["", "x", "1.2.3", "-", "\u{ff}"] {
            assert!(write_f64(wrong.as_bytes(), &mut Vec::new()).is_err(), "{wrong}");
        }
    }

    fn is_lawful(text: &str, magnitude: f64) -> bool {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, power) = digits.split_once('E').map_or((digits, None), |(mantissa, power)| (mantissa, Some(power)));
        let Some((whole, fraction)) = mantissa.split_once('.') else { return false };
        let is_plain = magnitude == 0.0 || (1e-3..1e7).contains(&magnitude);
        let is_trimmed = fraction == "0" || !fraction.ends_with('0');
        is_trimmed && is_plain == power.is_none() && (is_plain || (whole.len() == 1 && whole != "0"))
    }

    proptest! {
        #[test]
        fn doubles_read_back_to_the_same_bits(bits: u64, small in -1_000_000_000i64..1_000_000_000, places in 0u32..9) {
            for number in [f64::from_bits(bits), small as f64 / 10f64.powi(places as i32)] {
                prop_assume!(number.is_finite());
                let text = double(&format!("{number:e}"));
                prop_assert_eq!(text.parse::<f64>().expect("a number").to_bits(), number.to_bits());
                prop_assert!(is_lawful(&text, number.abs()), "{}", text);
                // The plain form that PostgreSQL prints leads to the same text.
                if number.abs() < 1e15 && number.abs() > 1e-4 {
                    prop_assert_eq!(double(&number.to_string()), text);
                }
            }
        }

        #[test]
        fn singles_read_back_to_the_same_bits(bits: u32) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_finite());
            let text = single(&number.to_string());
            prop_assert_eq!(text.parse::<f32>().expect("a number").to_bits(), number.to_bits());
            let magnitude = text.parse::<f64>().expect("a number").abs();
            prop_assert!(is_lawful(&text, magnitude), "{}", text);
        }
    }
}
