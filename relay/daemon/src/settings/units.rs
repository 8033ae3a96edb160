//! Turns `"5s"` and `"64MiB"` into durations and sizes; a number without a unit is refused with the fix.

use std::fmt;
use std::time::Duration;

use super::field::Optional;
use super::schema::{Fault, Field, Form};
use super::source_text::printable;
use super::tree::Value;

/// An amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

const TIME_UNITS: &[(&str, u64)] =
    &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

// === impl Size ===

impl Size {
    /// The number of bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, cut at what the machine can address.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS.iter().rev().filter(|(unit, _)| unit.ends_with("iB") || *unit == "B");
        for (unit, bytes) in unit {
            if self.0.is_multiple_of(*bytes) && (self.0 > 0 || *bytes == 1) {
                return write!(out, "{}{unit}", self.0 / bytes);
            }
        }
        Ok(())
    }
}

impl Field for Size {
    const FORM: Form = Form::Size(false);

    fn read(value: &Value) -> Result<Self, Fault> {
        measure(value, "a size", "\"64MiB\"", "MiB", SIZE_UNITS).map(Self)
    }
}

impl Optional for Size {
    const OPTIONAL_FORM: Form = Form::Size(true);
    const NONE: Option<&'static str> = Some("none");
}

// === impl Field for Duration ===

impl Field for Duration {
    const FORM: Form = Form::Duration(false);

    fn read(value: &Value) -> Result<Self, Fault> {
        measure(value, "a duration", "\"5s\"", "s", TIME_UNITS).map(Duration::from_micros)
    }
}

impl Optional for Duration {
    const OPTIONAL_FORM: Form = Form::Duration(true);
    const NONE: Option<&'static str> = Some("none");
}

/// Reads a duration as a command line gives it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::read(&Value::Text(text.to_owned())).map_err(|fault| fault.message)
}

/// Reads a number and its unit.
fn measure(value: &Value, what: &str, example: &str, unit: &str, units: &[(&str, u64)]) -> Result<u64, Fault> {
    let text = match value {
        Value::Text(text) => text,
        Value::Integer(number) => {
            return Err(Fault::new(format!("expected {what} with a unit, found the number {number}"))
                .hint(format!("write it in quotes with its unit: `\"{number}{unit}\"`")));
        }
        other => return Err(Fault::expected(&format!("{what} such as {example}"), other)),
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    let list = units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
    if number.is_empty() {
        return Err(Fault::new(format!("`{}` is not {what}", printable(text)))
            .hint(format!("write a whole number and a unit ({list}): `{example}`")));
    }
    if rest.is_empty() {
        return Err(Fault::new(format!("`{}` has no unit", printable(text))).hint(format!("add the unit: `\"{number}{unit}\"`")));
    }
    let Some((_, factor)) = units.iter().find(|(unit, _)| *unit == rest) else {
        let fault = Fault::new(format!("`{}` is not a unit of {what}", printable(rest)));
        let similar = units.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(rest));
        return Err(match similar {
            Some((unit, _)) => fault.hint(format!("did you mean `\"{number}{unit}\"`?")),
            None => fault.hint(format!("the units are {list}: `{example}`")),
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| Fault::new(format!("`{}` is too large", printable(text))))
}

/// Whether two texts are the same duration, or the same size.
pub(crate) fn same_amount(left: &str, right: &str) -> bool {
    let value = |text: &str| Value::Text(text.to_owned());
    let is_same_time = Duration::read(&value(left)).is_ok_and(|time| Duration::read(&value(right)) == Ok(time));
    is_same_time || Size::read(&value(left)).is_ok_and(|size| Size::read(&value(right)) == Ok(size))
}
