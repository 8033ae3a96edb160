//! What stands between the quotes of a JSON string: its end, what it stands for, and how text is written there.

use super::{Found, NotJson};

/// What a byte means inside a string.
const PLAIN: u8 = 0;
const QUOTE: u8 = 1;
const ESCAPE: u8 = 2;
const CONTROL: u8 = 3;
const IN_STRING: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = CONTROL;
        byte += 1;
    }
    table[b'"' as usize] = QUOTE;
    table[b'\\' as usize] = ESCAPE;
    table
};

// === reading ===

/// Behind the closing quote of the string whose inside starts at `at`.
pub(super) fn string_end(text: &[u8], mut at: usize) -> Found<usize> {
    while let Some(&byte) = text.get(at) {
        match IN_STRING[byte as usize] {
            PLAIN => at += 1,
            QUOTE => return Ok(at + 1),
            ESCAPE => {
                at += match text.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                    Some(b'u') if hex4(text.get(at + 2..at + 6)).is_some() => 6,
                    _ => return Err(NotJson { expected: "a legal escape", at }),
                }
            }
            _ => return Err(NotJson { expected: "an escaped control character", at }),
        }
    }
    Err(NotJson { expected: "the string's closing quote", at })
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits?;
    if digits.len() != 4 {
        return None;
    }
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

/// Appends what the inside of a JSON string stands for; false when it has half a surrogate pair or a wrong escape.
#[must_use]
pub(crate) fn unescape(inside: &[u8], out: &mut Vec<u8>) -> bool {
    unescape_to(inside, |piece| {
        out.extend_from_slice(piece);
        true
    })
}

/// Whether the inside of a JSON string stands for `wanted`.
pub(crate) fn stands_for(inside: &[u8], wanted: &[u8]) -> bool {
    if inside.len() == wanted.len() && inside == wanted && memchr::memchr(b'\\', inside).is_none() {
        return true;
    }
    if inside.len() <= wanted.len() {
        return false;
    }
    let mut rest = wanted;
    unescape_to(inside, |piece| {
        let matches = rest.strip_prefix(piece);
        rest = matches.unwrap_or(rest);
        matches.is_some()
    }) && rest.is_empty()
}

/// Hands out the string piece by piece until `take` says no.
fn unescape_to(inside: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
    let mut rest = inside;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escaped) = rest.split_at(at);
        if !plain.is_empty() && !take(plain) {
            return false;
        }
        let (piece, length): (&[u8], usize) = match escaped.get(1) {
            Some(b'"') => (b"\"", 2),
            Some(b'\\') => (b"\\", 2),
            Some(b'/') => (b"/", 2),
            Some(b'b') => (b"\x08", 2),
            Some(b'f') => (b"\x0C", 2),
            Some(b'n') => (b"\n", 2),
            Some(b'r') => (b"\r", 2),
            Some(b't') => (b"\t", 2),
            Some(b'u') => {
                let Some((character, length)) = utf16(escaped) else { return false };
                let mut utf8 = [0; 4];
                if !take(character.encode_utf8(&mut utf8).as_bytes()) {
                    return false;
                }
                (b"", length)
            }
            _ => return false,
        };
        if !piece.is_empty() && !take(piece) {
            return false;
        }
        rest = escaped.get(length..).unwrap_or_default();
    }
    rest.is_empty() || take(rest)
}

/// The character at the start of `\uXXXX` or `\uXXXX\uXXXX`, and the length of its escape.
pub(crate) fn utf16(escaped: &[u8]) -> Option<(char, usize)> {
    let first = hex4(escaped.get(2..6))?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = if escaped.get(6..8) == Some(b"\\u") { hex4(escaped.get(8..12))? } else { return None };
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))?, 12))
}

/// Whether the bytes are ASCII of which a JSON string escapes nothing: then they are UTF-8, and the string.
#[inline]
pub(crate) fn is_plain_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = (u64::MAX / 255) << 7;
    let is_plain = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        special_bytes(word, NO_BYTE) | word & HIGH == 0
    };
    let (words, rest) = bytes.as_chunks();
    match bytes.last_chunk() {
        // The last word overlaps the one before it.
        Some(last) => words.iter().all(is_plain) && (rest.is_empty() || is_plain(last)),
        None => rest.iter().all(|&byte| IN_STRING[byte as usize] == PLAIN && byte < 0x80),
    }
}

/// Appends `text` as a JSON string, escaped as event-format.md section 1 says: characters above U+FFFF as two escapes.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    write_escaped(text, FOUR_BYTES, out);
}

/// As [`write_string`], with characters above U+FFFF as they are: so Jackson prints text, where it prints bytes otherwise.
pub(crate) fn write_string_raw(text: &str, out: &mut Vec<u8>) {
    write_escaped(text, NO_BYTE, out);
}

/// The first byte of UTF-8 for a character above U+FFFF, or more.
const FOUR_BYTES: u8 = 0xF0;
/// More than any byte of UTF-8.
const NO_BYTE: u8 = 0xFF;

/// Escapes what JSON demands, and every character that begins with the byte `escaped_from` or a higher one.
fn write_escaped(text: &str, escaped_from: u8, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    let mut at = 0;
    loop {
        while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let special = special_bytes(u64::from_le_bytes(*word), escaped_from);
            if special != 0 {
                at += special.trailing_zeros() as usize / 8;
                break;
            }
            at += word.len();
        }
        let Some(&byte) = bytes.get(at) else { break };
        if IN_STRING[byte as usize] == PLAIN && byte < escaped_from {
            // Fewer than a word are left.
            at += 1;
            continue;
        }
        out.extend_from_slice(bytes.get(plain..at).unwrap_or_default());
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0C => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 => write_unit(u16::from(byte), out),
            _ => {
                let character = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER);
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write_unit(*unit, out);
                }
                at += character.len_utf8() - 1;
            }
        }
        at += 1;
        plain = at;
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
    out.push(b'"');
}

/// The bytes of a word that are escaped, as their highest bits; above the lowest of them there may be false ones, from borrows.
#[inline]
fn special_bytes(word: u64, escaped_from: u8) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let equals = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    // From 0xF0 on the four highest bits are set; none of a text's bytes is 0xFF.
    let high = if escaped_from == FOUR_BYTES { word & word << 1 & word << 2 & word << 3 & HIGH } else { 0 };
    below(word, 0x20) | equals(b'"') | equals(b'\\') | high
}

fn write_unit(unit: u16, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[usize::from(unit >> shift & 15)]);
    }
}
