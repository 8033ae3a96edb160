//! Connect's own text of a value, as `Values.convertToString` makes it: header values of Debezium (D28, D32).

use super::form::{DateUnit, Form, TimeUnit};
use super::{ColumnType, Written, civil, numeric, poison, text as words};
use relay_core::Poison;

const MILLIS_PER_DAY: i64 = 86_400_000;

// === impl ColumnType ===

impl ColumnType {
    /// Appends the text as it stands inside a struct (D28): strings in quotes, of which only `"` and `\` are escaped.
    ///
    /// # Errors
    /// As [`ColumnType::write`].
    pub(crate) fn write_connect_text(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        self.connect(text, true, out)
    }

    /// Appends the text as it stands alone (D32): a string as it is.
    ///
    /// # Errors
    /// As [`ColumnType::write`].
    pub(crate) fn write_connect_header(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        self.connect(text, false, out)
    }

    fn connect(&self, text: &[u8], is_embedded: bool, out: &mut Vec<u8>) -> Result<(), Poison> {
        let start = out.len();
        self.connect_form(text, is_embedded, out).map_err(|refusal| {
            out.truncate(start);
            poison(refusal)
        })
    }

    fn connect_form(&self, text: &[u8], is_embedded: bool, out: &mut Vec<u8>) -> Written {
        let start = out.len();
        match &self.form {
            Form::Text(_) | Form::Char | Form::Enum(_) => {
                words::write_bare(text, self.utf8, out)?;
                if is_embedded {
                    quote(start, out);
                }
                return Ok(());
            }
            Form::Decimal { scale, .. } => return numeric::write_connect(text, Some(*scale), out),
            Form::Money(scale) => {
                let mut plain = Vec::new();
                numeric::write_money_plain(text, *scale, &mut plain)?;
                return numeric::write_connect(&plain, Some(*scale as i32), out);
            }
            _ => self.write_form(text, out)?,
        }
        let millis_per_unit = match &self.form {
            Form::Date(DateUnit::Connect) => MILLIS_PER_DAY,
            Form::Time(TimeUnit::Connect) | Form::Timestamp(TimeUnit::Connect) => 1,
            _ => {
                let is_bare = |form: &Form| matches!(form, Form::Float32 | Form::Float64 | Form::NumericDouble(_));
                if !is_embedded || is_bare(&self.form) || matches!(self.form, Form::MoneyDouble(_)) {
                    unquote(start, out);
                }
                return Ok(());
            }
        };
        let number = out.get(start..).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse::<i64>().ok());
        if let Some(millis) = number.and_then(|number| number.checked_mul(millis_per_unit)) {
            out.truncate(start);
            write_date(millis, out);
        }
        Ok(())
    }
}

/// A `java.util.Date`: the day alone at midnight, the time alone on the first day.
fn write_date(millis: i64, out: &mut Vec<u8>) {
    let (day, rest) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
    let has_day = millis >= MILLIS_PER_DAY;
    if has_day {
        let start = out.len();
        civil::write_day(civil::Day::from_number(day), out);
        // Connect's format has no sign for years of five digits.
        if out.get(start) == Some(&b'+') {
            out.remove(start);
        }
    }
    if !has_day || rest != 0 {
        if has_day {
            out.push(b'T');
        }
        civil::write_clock(rest * 1_000, out);
        civil::write_places(rest * 1_000, 3, out);
        out.push(b'Z');
    }
}

/// Takes the quotes off what stands from `start` on, if it is a string.
fn unquote(start: usize, out: &mut Vec<u8>) {
    if out.get(start) == Some(&b'"') && out.last() == Some(&b'"') && out.len() > start + 1 {
        out.pop();
        out.remove(start);
    }
}

/// Puts what stands from `start` on into quotes.
fn quote(start: usize, out: &mut Vec<u8>) {
    let mut at = start;
    while let Some(found) = out.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        out.insert(at + found, b'\\');
        at += found + 2;
    }
    out.insert(start, b'"');
    out.push(b'"');
}
