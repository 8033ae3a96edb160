//! Two numbers in text are held against each other.

use std::cmp::Ordering;

/// Exact for plain decimals of any length; through f64 with an exponent. NaN is the greatest, as in PostgreSQL.
pub(super) fn compare_numbers(left: &[u8], right: &[u8]) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (Decimal::parse(left), Decimal::parse(right)) {
        return Some(left.compare(&right));
    }
    let [left, right] = [left, right].map(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
    let (left, right) = (left?, right?);
    Some(left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan())))
}

/// A plain decimal without leading and trailing zeros.
pub(super) struct Decimal<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (is_negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
        let dot = memchr::memchr(b'.', digits).unwrap_or(digits.len());
        let (mut whole, mut fraction) = (&digits[..dot], digits.get(dot + 1..).unwrap_or_default());
        let is_plain = whole.iter().chain(fraction).all(u8::is_ascii_digit) && whole.len() + fraction.len() > 0;
        while let Some((b'0', rest)) = whole.split_first() {
            whole = rest;
        }
        while let Some((b'0', rest)) = fraction.split_last() {
            fraction = rest;
        }
        let is_zero = whole.is_empty() && fraction.is_empty();
        is_plain.then_some(Self { is_negative: is_negative && !is_zero, whole, fraction })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = |decimal: &Self| decimal.whole.len();
        let magnitude = || size(self).cmp(&size(other)).then(self.whole.cmp(other.whole)).then(self.fraction.cmp(other.fraction));
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
        }
    }
}
