//! Integers: checked and copied, or written from a number.

use super::Written;
pub(super) use relay_core::decimal::write_i64 as write_integer;

/// Longer than any int8 or oid.
const MOST_DIGITS: usize = 19;

/// Copies an integer as it is; what is not one is refused, or the JSON would be broken.
#[inline]
pub(super) fn copy_integer(text: &[u8], out: &mut Vec<u8>) -> Written {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let has_zero = digits.first() == Some(&b'0') && digits.len() > 1;
    if digits.is_empty() || digits.len() > MOST_DIGITS || has_zero || !digits.iter().all(u8::is_ascii_digit) {
        return Err("is not an integer");
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Appends two digits.
#[inline]
pub(super) fn write_two(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_copied_or_refused() {
        let mut out = Vec::new();
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808", "4294967295"] {
            out.clear();
            assert_eq!((copy_integer(text.as_bytes(), &mut out), out.as_slice()), (Ok(()), text.as_bytes()));
        }
        for text in ["", "-", "01", "1.0", "1e3", "--1", "99999999999999999999"] {
            assert!(copy_integer(text.as_bytes(), &mut out).is_err(), "{text}");
        }
        for number in [0, 7, -10, i64::MAX, i64::MIN] {
            out.clear();
            write_integer(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
