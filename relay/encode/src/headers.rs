//! The header list of a route, resolved, and the rules for names that a row brings.

use crate::array;
use crate::field::{Field, Piece};
use crate::json;
use crate::properties;
use crate::template::TimeForm;
use crate::timestamp;
use crate::types::ColumnType;
use relay_core::{Event, Poison, PoisonReason, Row};

/// One step that writes headers.
#[derive(Debug)]
pub(crate) enum HeaderStep {
    /// A column under a name. With `keeps_null`, NULL is a header with null value; else it leaves the header out.
    Field { name: Box<str>, field: Field, keeps_null: bool },
    /// As [`HeaderStep::Field`], with the Connect value as text (D32).
    Connect { name: Box<str>, field: Field, kind: ColumnType },
    /// The same for every row.
    Constant { name: Box<str>, value: Box<str> },
    /// Every entry of an object, but for names that are refused.
    Entries { field: Field, reserved: Box<[Box<str>]> },
    /// Names and values of two arrays.
    Arrays { names: Field, values: Field },
    /// An integer as 8 bytes.
    Int64 { name: Box<str>, field: Field },
    /// A time in a form of its own.
    Time { name: Box<str>, field: Field, form: TimeForm },
    /// The trace context in java.util.Properties text.
    Trace(Field),
}

/// Buffers that steps need now and then.
#[derive(Debug, Default)]
pub(crate) struct HeaderScratch {
    name: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    trace: [Vec<u8>; 3],
}

const TRACE_NAMES: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Whether Kafka and relay allow the name for a header that configuration or a row brings.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 255 {
        return Err("a header name must have 1 to 255 bytes");
    }
    if name.bytes().any(|byte| byte < 0x20 || byte == 0x7F) || (!name.is_ascii() && name.chars().any(char::is_control)) {
        return Err("a header name must not have control characters");
    }
    if name.starts_with("relay-") || name.starts_with("__connect.") {
        return Err("header names that begin with `relay-` or `__connect.` are kept for relay");
    }
    Ok(())
}

// === impl HeaderStep ===

impl HeaderStep {
    /// Appends what the row has to say.
    #[inline]
    pub(crate) fn write(&self, row: &Row<'_>, event: &mut Event, scratch: &mut HeaderScratch) -> Result<(), Poison> {
        match self {
            HeaderStep::Field { name, field, keeps_null } => {
                match field.read(row)? {
                    Piece::Null if *keeps_null => event.header(name, None),
                    Piece::Null | Piece::Absent => {}
                    Piece::Text(text) if !field.is_base64 => event.header(name, Some(field.check(text)?.as_bytes())),
                    piece => {
                        field.write_text(piece, event.out())?;
                        event.end_header(name);
                    }
                }
                Ok(())
            }
            HeaderStep::Connect { name, field, kind } => {
                match field.read(row)? {
                    Piece::Text(text) => {
                        kind.write_connect_header(text, event.out()).map_err(|poison| field.poison(&poison.message))?;
                        event.end_header(name);
                    }
                    _ => event.header(name, None),
                }
                Ok(())
            }
            HeaderStep::Constant { name, value } => {
                event.header(name, Some(value.as_bytes()));
                Ok(())
            }
            HeaderStep::Arrays { names, values } => arrays(names, values, row, event, scratch),
            HeaderStep::Int64 { name, field } => match field.read(row)? {
                Piece::Null | Piece::Absent => Ok(()),
                Piece::Text(text) | Piece::Json(text) => {
                    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
                    let number = number.ok_or_else(|| field.poison("is not an integer of 64 bits"))?;
                    event.header(name, Some(&number.to_be_bytes()));
                    Ok(())
                }
                _ => Err(field.poison("is not an integer of 64 bits")),
            },
            HeaderStep::Time { name, field, form } => match field.read(row)? {
                Piece::Null | Piece::Absent => Ok(()),
                Piece::Text(text) => {
                    let ms = timestamp::parse(text).map_err(|_| field.poison("is not a time that can be written"))?;
                    timestamp::write(ms, *form, event.out());
                    event.end_header(name);
                    Ok(())
                }
                _ => Err(field.poison("is not a timestamp")),
            },
            HeaderStep::Entries { field, reserved } => match field.read(row)? {
                Piece::Null | Piece::Absent | Piece::Text(b"{}") => Ok(()),
                Piece::Text(object) | Piece::Json(object) => entries(field, reserved, object, event, scratch),
                Piece::Hex(_) | Piece::Bytes(_) => Err(not_an_object(field)),
            },
            HeaderStep::Trace(field) => match field.read(row)? {
                Piece::Text(text) => trace(field, text, event, scratch),
                Piece::Json(raw) => {
                    scratch.value.clear();
                    field.write_text(Piece::Json(raw), &mut scratch.value)?;
                    let text = std::mem::take(&mut scratch.value);
                    trace(field, &text, event, scratch)
                }
                _ => Ok(()),
            },
        }
    }
}

#[cold]
fn not_an_object(field: &Field) -> Poison {
    Poison::new(PoisonReason::Header, format!("column `{}` is not a JSON object", field.name))
}

/// String values raw, others as their JSON text, null as a null value; a column that is null altogether has no entries.
fn entries(
    field: &Field,
    reserved: &[Box<str>],
    object: &[u8],
    event: &mut Event,
    scratch: &mut HeaderScratch,
) -> Result<(), Poison> {
    field.check(object)?;
    // A JSON null says what NULL says: there are none. So a Go map that was never made is stored.
    if object.trim_ascii() == b"null" {
        return Ok(());
    }
    let Some(members) = json::members(object) else { return Err(not_an_object(field)) };
    for member in members {
        let member =
            member.map_err(|error| Poison::new(PoisonReason::Header, error.words(&format!("column `{}`", field.name))))?;
        let plain = memchr::memchr(b'\\', member.name).is_none();
        if !plain {
            scratch.name.clear();
            if !json::unescape(member.name, &mut scratch.name) {
                return Err(field.poison("has a header name with half a surrogate pair"));
            }
        }
        let name = std::str::from_utf8(if plain { member.name } else { &scratch.name }).unwrap_or_default();
        check_name(name).map_err(|message| Poison::new(PoisonReason::Header, format!("column `{}`: {message}", field.name)))?;
        if reserved.iter().any(|reserved| **reserved == *name) {
            let message = format!("column `{}`: the header `{name}` is not the row's to set", field.name);
            return Err(Poison::new(PoisonReason::Header, message));
        }
        match json::string_inside(member.value) {
            Some(inside) if memchr::memchr(b'\\', inside).is_none() => event.header(name, Some(inside)),
            Some(inside) => {
                if !json::unescape(inside, event.out()) {
                    return Err(field.poison("has a header value with half a surrogate pair"));
                }
                event.end_header(name);
            }
            None if member.value == b"null" => event.header(name, None),
            None => event.header(name, Some(member.value)),
        }
    }
    Ok(())
}

/// Names and values of two arrays, in order.
fn arrays(names: &Field, values: &Field, row: &Row<'_>, event: &mut Event, scratch: &mut HeaderScratch) -> Result<(), Poison> {
    let (names_text, values_text) = match (names.read(row)?, values.read(row)?) {
        (Piece::Null | Piece::Absent, Piece::Null | Piece::Absent) => return Ok(()),
        (Piece::Text(names), Piece::Text(values)) => (names, values),
        _ => return Err(unequal(names, values)),
    };
    let mut list: Vec<Option<Vec<u8>>> = Vec::new();
    let is_array = array::read(values_text, &mut scratch.value, |value| {
        list.push(value.map(<[u8]>::to_vec));
        true
    });
    if !is_array {
        return Err(values.poison("is not a one-dimensional array"));
    }
    let mut values_left = list.iter();
    let mut failed = None;
    let is_array = array::read(names_text, &mut scratch.key, |name| {
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        match (check_name(name), values_left.next()) {
            (Ok(()), Some(value)) => event.header(name, value.as_deref()),
            (Ok(()), None) => failed = Some(unequal(names, values)),
            (Err(message), _) => {
                failed = Some(Poison::new(PoisonReason::Header, format!("column `{}`: {message}", names.name)));
            }
        }
        failed.is_none()
    });
    match failed {
        Some(poison) => Err(poison),
        None if !is_array => Err(names.poison("is not a one-dimensional array")),
        None if values_left.next().is_some() => Err(unequal(names, values)),
        None => Ok(()),
    }
}

#[cold]
fn unequal(names: &Field, values: &Field) -> Poison {
    let message = format!("columns `{}` and `{}` have different numbers of elements", names.name, values.name);
    Poison::new(PoisonReason::Header, message)
}

/// Those of traceparent, tracestate and baggage that the text has; the last of equal keys counts, as in Java.
fn trace(field: &Field, text: &[u8], event: &mut Event, scratch: &mut HeaderScratch) -> Result<(), Poison> {
    let text = field.check(text)?;
    let HeaderScratch { key, value, trace, .. } = scratch;
    let mut is_there = [false; 3];
    let is_legal = properties::read(text, key, value, |key, value| {
        if let Some(at) = TRACE_NAMES.iter().position(|name| name.as_bytes() == key) {
            is_there[at] = true;
            trace[at].clear();
            trace[at].extend_from_slice(value);
        }
    });
    if !is_legal {
        let message = format!("column `{}` is not java.util.Properties text", field.name);
        return Err(Poison::new(PoisonReason::Header, message));
    }
    for ((name, value), is_there) in TRACE_NAMES.into_iter().zip(trace).zip(is_there) {
        if is_there {
            event.header(name, Some(value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_printable_and_not_ours() {
        let long = "x".repeat(256);
        for wrong in ["", "a\n", "\u{7f}", "\u{85}", "relay-pos", "__connect.errors.topic", &long] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        for legal in ["a", "ä b", "relay", "Relay-x", &long[1..]] {
            assert_eq!(check_name(legal), Ok(()), "{legal:?}");
        }
    }
}
