//! The DEFAULT of a column as Debezium reads it, which evaluates nothing: it takes the first text in quotes, or else the whole expression.

use super::ColumnType;
use super::form::{Form, TimeUnit};
use super::{civil, numeric, timestamp};
use std::borrow::Cow;

// === impl ColumnType ===

impl ColumnType {
    /// The default as JSON: what Java's parser of the type makes of the text, the type's zero for calls, `None` where it refuses.
    pub(crate) fn debezium_default(&self, expression: &str) -> Option<Box<[u8]>> {
        if !self.takes_defaults() {
            return None;
        }
        let is_text = matches!(self.form, Form::Text(None | Some("Json" | "Xml")) | Form::Char);
        let expression = if is_text { expression } else { expression.trim() };
        let mut out = Vec::new();
        match &self.form {
            Form::Enum(_) => self.write(label(expression)?.as_bytes(), &mut out).ok()?,
            _ if is_function(expression) => self.write_debezium_zero(&mut out),
            form => match (text(expression), form) {
                (Some(text), _) => self.write_java(&text, &mut out)?,
                // The parser of intervals alone takes null.
                (None, Form::Interval | Form::IntervalText) => self.write_debezium_zero(&mut out),
                (None, _) => return None,
            },
        }
        Some(out.into())
    }

    /// The zero is a text that is parsed, too; of a number without modifier it keeps its decimal.
    fn write_debezium_zero(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::NumericText(None) => out.extend_from_slice(b"\"0.0\""),
            _ => self.write_zero(out),
        }
    }

    /// Appends the value of a text that Java's parser of the type takes.
    fn write_java(&self, text: &str, out: &mut Vec<u8>) -> Option<()> {
        let value: Cow<'_, str> = match &self.form {
            Form::Bool => if text.eq_ignore_ascii_case("true") { "t" } else { "f" }.into(),
            Form::Bit => if i32::from_str_radix(text, 2).ok()? == 0 { "0" } else { "1" }.into(),
            Form::Bits(_) => text.chars().map(|bit| if bit == '1' { '1' } else { '0' }).collect(),
            Form::Int16 => text.parse::<i16>().ok()?.to_string().into(),
            Form::Int32 => text.parse::<i32>().ok()?.to_string().into(),
            Form::Int64 => text.parse::<i64>().ok()?.to_string().into(),
            Form::Decimal { scale, .. } => numeric::at_scale(text, Some(*scale))?.into(),
            Form::NumericText(scale) | Form::NumericDouble(scale) => numeric::at_scale(text, *scale)?.into(),
            Form::Text(Some("Uuid")) => uuid(text)?.into(),
            Form::Date(_) if !is_infinite(text) => {
                let moment = Moment::parse(text)?;
                [moment.day, moment.era].concat().into()
            }
            Form::Timestamp(unit) if is_infinite(text) => {
                out.extend_from_slice(infinity(text, *unit)?);
                return Some(());
            }
            Form::Timestamp(_) => {
                let moment = Moment::parse(text)?;
                let is_utc = matches!(moment.offset, "" | "+00");
                is_utc.then(|| [moment.day, " ", moment.clock, moment.era].concat())?.into()
            }
            Form::TimestampTz(places) => {
                let moment = Moment::parse(text)?;
                let offset = if moment.offset.is_empty() { "+00" } else { moment.offset };
                let text = [moment.day, " ", moment.clock, offset, moment.era].concat();
                let places = if *places == 0 { moment.places() } else { *places };
                return timestamp::write_timestamptz(text.as_bytes(), places, out).ok();
            }
            _ => text.into(),
        };
        self.write(value.as_bytes(), out).ok()
    }
}

/// `'it''s'` where it is all that stands before the cast, as it is spelt there.
fn label(expression: &str) -> Option<&str> {
    expression.rsplit_once("::")?.0.strip_prefix('\'')?.strip_suffix('\'')
}

/// `^[(]?[A-Za-z0-9_.]+\((?:.+(?:, ?.+)*)?\)`, of which the last part is anything up to a bracket on the same line.
fn is_function(expression: &str) -> bool {
    const WORDS: [&str; 5] = ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"];
    let call = expression.strip_prefix('(').unwrap_or(expression);
    let (name, rest) =
        call.split_at(call.find(|of_name| !matches!(of_name, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.')).unwrap_or(0));
    let line = rest.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).next().unwrap_or_default();
    (!name.is_empty() && line.starts_with('(') && line.contains(')'))
        || WORDS.iter().any(|word| word.eq_ignore_ascii_case(expression))
}

/// Group 1 of `'([^']*(?:''[^']*)*)'`, or all of an expression without quotes; `None` for a NULL with its cast.
fn text(expression: &str) -> Option<Cow<'_, str>> {
    match expression.split_once('\'') {
        Some((_, quoted)) => super::default::quoted(quoted).map(|(text, _)| text.into()),
        None => (!expression.starts_with("NULL::")).then(|| expression.into()),
    }
}

/// Groups of hexadecimal digits, which Java prints in lower case.
fn uuid(text: &str) -> Option<String> {
    let groups = text.split('-').map(|group| group.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(group.len()));
    groups.eq([8, 4, 4, 4, 12].map(Some)).then(|| text.to_ascii_lowercase())
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity")
}

/// The ends of Java's calendar, wrapped round where microseconds are counted; in milliseconds they overflow.
fn infinity(text: &str, unit: TimeUnit) -> Option<&'static [u8]> {
    Some(match (text, unit) {
        ("infinity", TimeUnit::Micros) => b"-9223372036853775810",
        (_, TimeUnit::Micros) => b"-9223372036854775808",
        ("infinity", TimeUnit::Iso) => b"\"+999999999-12-31T23:59:59.999999999Z\"",
        (_, TimeUnit::Iso) => b"\"-999999999-01-01T00:00:00Z\"",
        _ => return None,
    })
}

/// A day, and what may follow it: a driver's parser takes each where another is asked for.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    day: &'a str,
    clock: &'a str,
    offset: &'a str,
    era: &'a str,
}

// === impl Moment ===

impl<'a> Moment<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (plain, era) = text.split_at(text.len() - if text.ends_with(" BC") { 3 } else { 0 });
        let behind_day = civil::day(plain.as_bytes(), false)?.1.len();
        let (day, rest) = plain.split_at_checked(plain.len() - behind_day)?;
        let Some(time) = rest.strip_prefix(' ') else {
            return rest.is_empty().then_some(Self { day, clock: "00:00:00", offset: "", era });
        };
        let behind_clock = civil::clock(time.as_bytes())?.1.len();
        let (clock, offset) = time.split_at_checked(time.len() - behind_clock)?;
        Some(Self { day, clock, offset, era })
    }

    /// Digits of the fraction, without zeros at its end.
    fn places(&self) -> u8 {
        let fraction = self.clock.split_once('.').map_or("", |(_, fraction)| fraction);
        u8::try_from(fraction.trim_end_matches('0').len()).unwrap_or(6)
    }
}
