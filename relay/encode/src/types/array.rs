//! Arrays: nested as deep as their dimensions, elements by the rule of the element type, lower bounds dropped.

use super::form::ArrayForm;
use super::{Refusal, Written, timestamp};

const NOT_AN_ARRAY: Refusal = "is not an array";
/// PostgreSQL has six dimensions at most.
const MOST_DIMENSIONS: usize = 6;

/// What an element does that its type refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is a reason to refuse the array.
    Array,
    /// It becomes NULL if it is a timestamp that its unit cannot count, as Debezium has it.
    Element,
}

/// Appends the JSON of an array's text.
pub(super) fn write(text: &[u8], form: &ArrayForm, refused: Refused, out: &mut Vec<u8>) -> Written {
    let mut rest = skip_bounds(text)?;
    if form.is_flat && rest.starts_with(b"{{") {
        return Err("is an array of several dimensions, which no Connect schema has");
    }
    let mut depth = 0;
    loop {
        // An array or an element is expected here.
        match rest {
            [b'{', b'}', more @ ..] if depth < MOST_DIMENSIONS => {
                out.extend_from_slice(b"[]");
                rest = more;
            }
            [b'{', more @ ..] if depth < MOST_DIMENSIONS => {
                out.push(b'[');
                depth += 1;
                rest = more;
                continue;
            }
            _ if depth > 0 => rest = write_element(rest, form, refused, out)?,
            _ => return Err(NOT_AN_ARRAY),
        }
        // It has ended: close what it completes.
        loop {
            match (depth, rest) {
                (0, []) => return Ok(()),
                (1.., [b'}', more @ ..]) => {
                    out.push(b']');
                    depth -= 1;
                    rest = more;
                }
                (1.., [byte, more @ ..]) if *byte == form.delimiter => {
                    out.push(b',');
                    rest = more;
                    break;
                }
                _ => return Err(NOT_AN_ARRAY),
            }
        }
    }
}

/// Behind `[2:4][-1:0]=`, where lower bounds are not 1.
fn skip_bounds(text: &[u8]) -> Result<&[u8], Refusal> {
    if text.first() != Some(&b'[') {
        return Ok(text);
    }
    let at = memchr::memchr(b'=', text).ok_or(NOT_AN_ARRAY)?;
    Ok(text.get(at + 1..).unwrap_or_default())
}

/// Appends one element and gives what follows it.
fn write_element<'a>(text: &'a [u8], form: &ArrayForm, refused: Refused, out: &mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    if let Some(inside) = text.strip_prefix(b"\"") {
        return write_quoted(inside, form, refused, out);
    }
    let end = text.iter().position(|&byte| byte == form.delimiter || matches!(byte, b'}' | b'{' | b'"')).ok_or(NOT_AN_ARRAY)?;
    let (element, rest) = text.split_at(end);
    if element.is_empty() {
        return Err(NOT_AN_ARRAY);
    }
    if element.eq_ignore_ascii_case(b"null") {
        if form.has_required_items {
            return Err("has a NULL element, which Debezium's schema of it has not");
        }
        out.extend_from_slice(b"null");
    } else {
        write_item(element, form, refused, out)?;
    }
    Ok(rest)
}

fn write_quoted<'a>(inside: &'a [u8], form: &ArrayForm, refused: Refused, out: &mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    let plain = memchr::memchr2(b'"', b'\\', inside).ok_or(NOT_AN_ARRAY)?;
    let (element, rest) = inside.split_at(plain);
    if let Some(rest) = rest.strip_prefix(b"\"") {
        write_item(element, form, refused, out)?;
        return Ok(rest);
    }
    // With escapes it is put together in a buffer that stays for the next one.
    let mut scratch = form.scratch.take();
    scratch.clear();
    let rest = unescape(inside, &mut scratch);
    let written = match rest {
        Some(_) => write_item(&scratch, form, refused, out),
        None => Err(NOT_AN_ARRAY),
    };
    form.scratch.replace(scratch);
    written?;
    rest.ok_or(NOT_AN_ARRAY)
}

fn write_item(element: &[u8], form: &ArrayForm, refused: Refused, out: &mut Vec<u8>) -> Written {
    let start = out.len();
    let written = form.item.write_form(element, out);
    if written == Err(timestamp::OUT_OF_RANGE) && refused == Refused::Element {
        out.truncate(start);
        out.extend_from_slice(b"null");
        return Ok(());
    }
    written
}

/// What follows the closing quote.
fn unescape<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        match special {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, more @ ..] => {
                out.push(*byte);
                rest = more;
            }
            _ => return None,
        }
    }
}
