//! numeric and money: digits become the two's complement of the unscaled value, text or a float.

use super::number::write_integer;
use super::{Refusal, Written, float};
use crate::binary;

const NOT_A_NUMERIC: Refusal = "is not a numeric";

/// The digits of a number: `whole` and `fraction` side by side, then `zeros` more.
#[derive(Clone, Copy, Debug)]
struct Digits<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    zeros: usize,
}

/// numeric(p, s): the unscaled value as base64.
pub(super) fn write_decimal(text: &[u8], scale: i32, out: &mut Vec<u8>) -> Written {
    if let Some(unscaled) = small(text, scale) {
        out.push(b'"');
        write_twos_complement(&unscaled.to_be_bytes(), out);
        out.push(b'"');
        return Ok(());
    }
    out.push(b'"');
    parse(text)?.at_scale(scale)?.write_base64(out);
    out.push(b'"');
    Ok(())
}

/// numeric without modifier: `{"scale":4,"value":"AYr3"}`, trailing zeros stripped.
pub(super) fn write_variable(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut digits = parse(text)?;
    while let [rest @ .., b'0'] = digits.fraction {
        digits.fraction = rest;
    }
    out.extend_from_slice(b"{\"scale\":");
    write_integer(digits.fraction.len() as i64, out);
    out.extend_from_slice(b",\"value\":\"");
    digits.write_base64(out);
    out.extend_from_slice(b"\"}");
    Ok(())
}

/// Plain digits in quotes, padded to the column's scale.
pub(super) fn write_text(text: &[u8], scale: Option<i32>, out: &mut Vec<u8>) -> Written {
    out.push(b'"');
    match text {
        b"NaN" => out.extend_from_slice(b"NAN"),
        b"Infinity" => out.extend_from_slice(b"POSITIVE_INFINITY"),
        b"-Infinity" => out.extend_from_slice(b"NEGATIVE_INFINITY"),
        _ => {
            let digits = parse(text)?;
            out.extend_from_slice(text);
            let missing = usize::try_from(scale.unwrap_or(0)).unwrap_or(0).saturating_sub(digits.fraction.len());
            if missing > 0 && digits.fraction.is_empty() {
                out.push(b'.');
            }
            out.extend(std::iter::repeat_n(b'0', missing));
        }
    }
    out.push(b'"');
    Ok(())
}

/// The text without the decimals beyond a column's scale; `None` unless they are zeros.
pub(super) fn at_scale(text: &str, scale: Option<i32>) -> Option<&str> {
    let digits = parse(text.as_bytes()).ok()?;
    let Some(scale) = scale else { return Some(text) };
    let digits = digits.at_scale(scale).ok()?;
    let kept = if digits.fraction.is_empty() { 0 } else { digits.fraction.len() + 1 };
    let point = text.find('.').unwrap_or(text.len());
    text.get(..point + kept)
}

/// The nearest float8.
pub(super) fn write_double(text: &[u8], out: &mut Vec<u8>) -> Written {
    if !matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        parse(text)?;
    }
    float::write_f64(text, out)
}

/// The stored integer of `$1,234.11`, whatever the decimals of lc_monetary.
fn money(text: &[u8]) -> Result<i64, Refusal> {
    const NOT_MONEY: Refusal = "is not money (lc_monetary must be C)";
    let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let text = text.strip_prefix(b"$").ok_or(NOT_MONEY)?;
    let mut number: i128 = 0;
    let mut count = 0;
    for byte in text {
        match byte {
            b'0'..=b'9' if count < 20 => {
                number = number * 10 + i128::from(byte - b'0');
                count += 1;
            }
            b',' | b'.' => {}
            _ => return Err(NOT_MONEY),
        }
    }
    let number = if is_negative { -number } else { number };
    if count == 0 { Err(NOT_MONEY) } else { i64::try_from(number).map_err(|_| NOT_MONEY) }
}

/// money as the base64 of its integer.
pub(super) fn write_money(text: &[u8], out: &mut Vec<u8>) -> Written {
    out.push(b'"');
    write_twos_complement(&i128::from(money(text)?).to_be_bytes(), out);
    out.push(b'"');
    Ok(())
}

/// money as plain digits with `scale` decimals, without quotes.
pub(super) fn write_money_plain(text: &[u8], scale: u32, out: &mut Vec<u8>) -> Written {
    let number = money(text)?;
    let (start, scale) = (out.len(), scale as usize);
    write_integer(number, out);
    if scale > 0 {
        let first = start + usize::from(number < 0);
        let missing = (scale + 1).saturating_sub(out.len() - first);
        out.splice(first..first, std::iter::repeat_n(b'0', missing));
        out.insert(out.len() - scale, b'.');
    }
    Ok(())
}

/// money as the nearest float8.
pub(super) fn write_money_double(text: &[u8], scale: u32, out: &mut Vec<u8>) -> Written {
    let start = out.len();
    write_money_plain(text, scale, out)?;
    let number = float::parse_f64(out.get(start..).unwrap_or_default())?;
    out.truncate(start);
    float::write_number(number, out);
    Ok(())
}

/// Number and scale as `BigDecimal.toString` prints them: Connect's text of a Decimal.
pub(super) fn write_connect(text: &[u8], scale: Option<i32>, out: &mut Vec<u8>) -> Written {
    let mut digits = parse(text)?;
    let scale = match scale {
        Some(scale) => {
            digits = digits.at_scale(scale)?;
            scale
        }
        None => digits.fraction.len() as i32,
    };
    let mut all = digits.bytes().skip_while(|&byte| byte == b'0').peekable();
    let mut significant: Vec<u8> = Vec::new();
    if all.peek().is_some() {
        significant.extend(all);
    } else {
        significant.push(b'0');
    }
    if digits.is_negative && significant != b"0" {
        out.push(b'-');
    }
    let exponent = significant.len() as i64 - 1 - i64::from(scale);
    if scale >= 0 && exponent >= -6 {
        let scale = scale as usize;
        let missing = (scale + 1).saturating_sub(significant.len());
        significant.splice(0..0, std::iter::repeat_n(b'0', missing));
        if scale > 0 {
            significant.insert(significant.len() - scale, b'.');
        }
        out.extend_from_slice(&significant);
        return Ok(());
    }
    if significant.len() > 1 {
        significant.insert(1, b'.');
    }
    out.extend_from_slice(&significant);
    if exponent != 0 {
        out.push(b'E');
        if exponent > 0 {
            out.push(b'+');
        }
        write_integer(exponent, out);
    }
    Ok(())
}

/// The unscaled value of a number with all decimals of its column and few digits: almost every one.
#[inline]
fn small(text: &[u8], scale: i32) -> Option<i64> {
    let (is_negative, digits) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let (whole, fraction) = match usize::try_from(scale).ok()? {
        0 => (digits, &b""[..]),
        scale => {
            let (whole, fraction) = digits.split_at_checked(digits.len().checked_sub(scale)?)?;
            (whole.strip_suffix(b".")?, fraction)
        }
    };
    if whole.is_empty() || whole.len() + fraction.len() > 18 {
        return None;
    }
    let mut number = 0;
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if is_negative { -number } else { number })
}

fn parse(text: &[u8]) -> Result<Digits<'_>, Refusal> {
    let (is_negative, digits) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let point = memchr::memchr(b'.', digits);
    let (whole, fraction) = match point {
        Some(point) => (digits.get(..point).unwrap_or_default(), digits.get(point + 1..).unwrap_or_default()),
        None => (digits, &b""[..]),
    };
    let is_legal = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_legal(whole) && (point.is_none() || is_legal(fraction)) {
        return Ok(Digits { is_negative, whole, fraction, zeros: 0 });
    }
    Err(match text {
        b"NaN" => "is NaN, which a Decimal cannot be",
        b"Infinity" | b"-Infinity" => "is infinite, which a Decimal cannot be",
        _ => NOT_A_NUMERIC,
    })
}

// === impl Digits ===

impl Digits<'_> {
    /// The digits of the value times 10^scale; refused where that is no integer.
    fn at_scale(self, scale: i32) -> Result<Self, Refusal> {
        const TOO_FINE: Refusal = "has more decimals than its column";
        let Self { mut whole, mut fraction, .. } = self;
        let mut zeros = 0;
        match usize::try_from(scale) {
            Ok(scale) if scale >= fraction.len() => zeros = scale - fraction.len(),
            Ok(scale) => {
                let (kept, cut) = fraction.split_at(scale);
                if cut.iter().any(|&digit| digit != b'0') {
                    return Err(TOO_FINE);
                }
                fraction = kept;
            }
            Err(_) => {
                let (kept, cut) = whole.split_at(whole.len().saturating_sub(scale.unsigned_abs() as usize));
                if cut.iter().chain(fraction).any(|&digit| digit != b'0') {
                    return Err(TOO_FINE);
                }
                (whole, fraction) = (kept, b"");
            }
        }
        Ok(Self { whole, fraction, zeros, ..self })
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied().chain(std::iter::repeat_n(b'0', self.zeros))
    }

    /// Appends the shortest two's complement of the digits as base64.
    fn write_base64(&self, out: &mut Vec<u8>) {
        let count = self.whole.len() + self.fraction.len() + self.zeros;
        if count <= 18 {
            let number = self.bytes().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'));
            write_twos_complement(&(if self.is_negative { -number } else { number }).to_be_bytes(), out);
        } else if count <= 38 {
            let number = self.bytes().fold(0i128, |number, digit| number * 10 + i128::from(digit - b'0'));
            write_twos_complement(&(if self.is_negative { -number } else { number }).to_be_bytes(), out);
        } else {
            write_twos_complement(&self.big_bytes(), out);
        }
    }

    /// The two's complement, big-endian with a sign byte to spare. Groups of 19 digits are multiplied in, so that even the longest
    /// numeric takes thousands, not hundreds of thousands, of passes.
    fn big_bytes(&self) -> Vec<u8> {
        let count = self.whole.len() + self.fraction.len() + self.zeros;
        let mut limbs: Vec<u64> = Vec::with_capacity(count / 19 + 2);
        let (mut group, mut factor, mut left) = (0u64, 1u64, count);
        for digit in self.bytes() {
            group = group * 10 + u64::from(digit - b'0');
            factor *= 10;
            left -= 1;
            // The last digit of a group is where those that remain are a multiple of 19.
            if left.is_multiple_of(19) {
                let mut carry = u128::from(group);
                for limb in &mut limbs {
                    carry += u128::from(*limb) * u128::from(factor);
                    *limb = carry as u64;
                    carry >>= 64;
                }
                if carry > 0 {
                    limbs.push(carry as u64);
                }
                (group, factor) = (0, 1);
            }
        }
        let mut bytes = vec![0];
        bytes.extend(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()));
        if self.is_negative {
            let mut carry = true;
            for byte in bytes.iter_mut().rev() {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }
        bytes
    }
}

/// Appends a two's complement without the bytes that only repeat its sign.
fn write_twos_complement(bytes: &[u8], out: &mut Vec<u8>) {
    let mut shortest = bytes;
    while let [first, next, ..] = shortest
        && ((*first == 0 && *next < 0x80) || (*first == 0xFF && *next >= 0x80))
    {
        shortest = shortest.get(1..).unwrap_or_default();
    }
    binary::write_base64(shortest, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str, scale: i32) -> Result<String, Refusal> {
        let mut out = Vec::new();
        write_decimal(text.as_bytes(), scale, &mut out)?;
        Ok(String::from_utf8(out).expect("ASCII"))
    }

    /// Horner in base 256, one digit after the other: slow and plainly right.
    fn naive(digits: &str, is_negative: bool) -> Vec<u8> {
        let mut bytes: Vec<u8> = vec![0];
        for digit in digits.bytes() {
            let mut carry = u32::from(digit - b'0');
            for byte in bytes.iter_mut().rev() {
                carry += u32::from(*byte) * 10;
                *byte = carry as u8;
                carry >>= 8;
            }
            if carry > 0 {
                bytes.insert(0, carry as u8);
            }
        }
        bytes.insert(0, 0);
        if is_negative {
            let first = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = if at < first {
                    !*byte
                } else if at == first {
                    byte.wrapping_neg()
                } else {
                    0
                };
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_numeric_is_its_twos_complement(digits in "[1-9][0-9]{0,120}", is_negative: bool, places in 0usize..30, zeros in 0usize..5) {
            let places = places.min(digits.len() - 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let sign = if is_negative { "-" } else { "" };
            let text = if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            let unscaled = format!("{digits}{}", "0".repeat(zeros));
            let mut want = b"\"".to_vec();
            write_twos_complement(&naive(&unscaled, is_negative), &mut want);
            want.push(b'"');
            let got = decimal(&text, (places + zeros) as i32).expect("a numeric");
            prop_assert_eq!(got.as_bytes(), &want);
            if unscaled.len() <= 38 {
                let number: i128 = format!("{sign}{unscaled}").parse().expect("fits");
                let mut small = Vec::new();
                write_twos_complement(&number.to_be_bytes(), &mut small);
                prop_assert_eq!(&small, &want[1..want.len() - 1]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_small_numeric_is_what_a_long_one_would_be(text in "-?[0-9]{1,12}(\\.[0-9]{1,8})?", scale in -2i32..9) {
            if let Some(unscaled) = small(text.as_bytes(), scale) {
                let digits = parse(text.as_bytes()).and_then(|digits| digits.at_scale(scale)).expect("a numeric");
                let (mut long, mut short) = (Vec::new(), Vec::new());
                digits.write_base64(&mut long);
                write_twos_complement(&unscaled.to_be_bytes(), &mut short);
                prop_assert_eq!(short, long);
            }
        }
    }

    #[test]
    fn the_longest_numeric_takes_no_long_time() {
        let start = std::time::Instant::now();
        let text = format!("{}.{}", "9".repeat(131_072), "7".repeat(16_383));
        assert!(decimal(&text, 16_383).is_ok());
        assert!(start.elapsed() < std::time::Duration::from_secs(3), "{:?}", start.elapsed());
    }

    #[test]
    fn scales_are_met_or_refused() {
        assert_eq!(decimal("12300", -2).as_deref(), Ok(r#""ew==""#));
        assert_eq!(decimal("12345", -2), Err("has more decimals than its column"));
        assert_eq!(decimal("1.100", 2).as_deref(), Ok(r#""bg==""#));
        assert_eq!(decimal("0", -5).as_deref(), Ok(r#""AA==""#));
        assert!(
            decimal("1.101", 2).is_err() && decimal("NaN", 2).is_err() && decimal("1.", 2).is_err() && decimal("", 2).is_err()
        );
    }

    #[test]
    fn connect_prints_a_big_decimal() {
        let connect = |text: &str, scale| {
            let mut out = Vec::new();
            write_connect(text.as_bytes(), scale, &mut out).expect("a numeric");
            String::from_utf8(out).expect("ASCII")
        };
        for (text, scale, want) in [
            ("1.5", Some(2), "1.50"),
            ("-0.05", Some(2), "-0.05"),
            ("0.0000001", Some(7), "1E-7"),
            ("0.00000012", Some(8), "1.2E-7"),
            ("12300", Some(-2), "1.23E+4"),
            ("0", Some(0), "0"),
            ("0.00", Some(2), "0.00"),
            ("120", None, "120"),
        ] {
            assert_eq!(connect(text, scale), want, "{text}");
        }
    }
}
