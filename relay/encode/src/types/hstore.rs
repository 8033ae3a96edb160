//! hstore: pairs in print order, as one JSON object or as the text of one.

use super::modes::InvalidUtf8;
use super::text::NOT_UTF8;
use super::{Refusal, Written};
use crate::binary;

const NOT_AN_HSTORE: Refusal = "is not an hstore";

/// How the object's strings are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// The object itself.
    Object,
    /// The object inside a JSON string: Jackson writes characters above U+FFFF raw inside, escaped outside.
    Text,
}

/// `{"key1":"val1","key2":null}`.
pub(super) fn write_map(text: &[u8], policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    write_pairs(text, Layer::Object, policy, out)
}

/// The same as the text of a JSON string.
pub(super) fn write_json(text: &[u8], policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    out.push(b'"');
    write_pairs(text, Layer::Text, policy, out)?;
    out.push(b'"');
    Ok(())
}

fn write_pairs(text: &[u8], layer: Layer, policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    if simdutf8::basic::from_utf8(text).is_err() {
        match policy {
            InvalidUtf8::Poison => return Err(NOT_UTF8),
            // Rare enough to allocate for; quotes and backslashes are never part of a wrong sequence.
            InvalidUtf8::Replace | InvalidUtf8::Base64 => {
                return write_valid(&String::from_utf8_lossy(text), layer, out);
            }
        }
    }
    write_valid(std::str::from_utf8(text).map_err(|_| NOT_UTF8)?, layer, out)
}

fn write_valid(text: &str, layer: Layer, out: &mut Vec<u8>) -> Written {
    let mut rest = text;
    out.push(b'{');
    while !rest.is_empty() {
        rest = layer.write_string(rest, out)?.strip_prefix("=>").ok_or(NOT_AN_HSTORE)?;
        out.push(b':');
        rest = match rest.strip_prefix("NULL") {
            Some(rest) => {
                out.extend_from_slice(b"null");
                rest
            }
            None => layer.write_string(rest, out)?,
        };
        if let Some(more) = rest.strip_prefix(", ") {
            out.push(b',');
            if more.is_empty() {
                return Err(NOT_AN_HSTORE);
            }
            rest = more;
        } else if !rest.is_empty() {
            return Err(NOT_AN_HSTORE);
        }
    }
    out.push(b'}');
    Ok(())
}

// === impl Layer ===

impl Layer {
    /// Writes the quoted string at the start of `text` and gives what follows it.
    fn write_string<'a>(self, text: &'a str, out: &mut Vec<u8>) -> Result<&'a str, Refusal> {
        let inside = text.strip_prefix('"').ok_or(NOT_AN_HSTORE)?;
        self.quote(out);
        let mut characters = inside.chars();
        loop {
            let character = match characters.next().ok_or(NOT_AN_HSTORE)? {
                '"' => break,
                '\\' => characters.next().ok_or(NOT_AN_HSTORE)?,
                other => other,
            };
            self.write(character, out);
        }
        self.quote(out);
        Ok(characters.as_str())
    }

    fn quote(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self == Layer::Text { b"\\\"" } else { b"\"" });
    }

    fn write(self, character: char, out: &mut Vec<u8>) {
        let is_text = self == Layer::Text;
        let escape: &[u8] = match character {
            '"' if is_text => b"\\\\\\\"",
            '\\' if is_text => b"\\\\\\\\",
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\u{8}' => b"\\b",
            '\t' => b"\\t",
            '\n' => b"\\n",
            '\u{c}' => b"\\f",
            '\r' => b"\\r",
            '\0'..'\u{20}' => {
                out.extend_from_slice(if is_text { b"\\\\u00" } else { b"\\u00" });
                binary::write_hex_upper(character as u8, out);
                return;
            }
            '\u{1_0000}'.. => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.extend_from_slice(b"\\u");
                    binary::write_hex_upper((*unit >> 8) as u8, out);
                    binary::write_hex_upper(*unit as u8, out);
                }
                return;
            }
            _ => {
                let mut utf8 = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                return;
            }
        };
        if is_text && !matches!(character, '"' | '\\') {
            out.push(b'\\');
        }
        out.extend_from_slice(escape);
    }
}
