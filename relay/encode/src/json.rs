//! Finds raw slices in JSON text without building values, and writes JSON strings; strict, iterative, never panics.

use std::fmt::Write as _;

/// The text is not JSON; what and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    /// What was expected.
    pub(crate) expected: &'static str,
    /// Byte offset in the text.
    pub(crate) at: usize,
}

/// One member of an object: the name between its quotes, still escaped, and the raw text of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where the value begins in the text.
    pub(crate) start: usize,
}

/// Walks the members of an object.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

/// Walks the elements of an array.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Next,
    Done,
}

type Found<T> = Result<T, NotJson>;

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

// === finding ===

/// The one value that `text` is, without the white space around it.
pub(crate) fn document(text: &[u8]) -> Found<&[u8]> {
    let start = skip_space(text, 0);
    let end = value_end(text, start)?;
    let rest = skip_space(text, end);
    if rest != text.len() {
        return Err(NotJson { expected: "the end of the text", at: rest });
    }
    Ok(text.get(start..end).unwrap_or_default())
}

/// The members of the object `text`; `None` when the value is not an object.
pub(crate) fn members(text: &[u8]) -> Option<Members<'_>> {
    let at = skip_space(text, 0);
    (text.get(at) == Some(&b'{')).then_some(Members { text, at: at + 1, state: State::First })
}

/// The elements of the array `text`; `None` when the value is not an array.
pub(crate) fn elements(text: &[u8]) -> Option<Elements<'_>> {
    let at = skip_space(text, 0);
    (text.get(at) == Some(&b'[')).then_some(Elements { text, at: at + 1, state: State::First })
}

/// The inside of the raw JSON string `raw`; `None` when the value is not a string.
pub(crate) fn string_inside(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Where the value that starts at `at` ends. Nesting is kept as one bit a level, so depth costs no stack.
fn value_end(text: &[u8], start: usize) -> Found<usize> {
    let mut open = Nesting::default();
    let mut at = start;
    loop {
        // A value is expected here.
        at = skip_space(text, at);
        match text.get(at) {
            Some(b'{') => {
                at = skip_space(text, at + 1);
                if text.get(at) == Some(&b'}') {
                    at += 1;
                } else {
                    at = name_end(text, at)?;
                    open.push(true);
                    continue;
                }
            }
            Some(b'[') => {
                at = skip_space(text, at + 1);
                if text.get(at) == Some(&b']') {
                    at += 1;
                } else {
                    open.push(false);
                    continue;
                }
            }
            Some(b'"') => at = string_end(text, at + 1)?,
            Some(b't') => at = word_end(text, at, b"true")?,
            Some(b'f') => at = word_end(text, at, b"false")?,
            Some(b'n') => at = word_end(text, at, b"null")?,
            _ => at = number_end(text, at)?,
        }
        // A value has ended: close what it completes.
        loop {
            let Some(is_object) = open.top() else { return Ok(at) };
            at = skip_space(text, at);
            match (text.get(at), is_object) {
                (Some(b','), true) => {
                    at = name_end(text, skip_space(text, at + 1))?;
                    break;
                }
                (Some(b','), false) => {
                    at += 1;
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    at += 1;
                    open.pop();
                }
                _ => return Err(NotJson { expected: "`,` or the closing bracket", at }),
            }
        }
    }
}

/// Behind `"name" :`.
fn name_end(text: &[u8], at: usize) -> Found<usize> {
    if text.get(at) != Some(&b'"') {
        return Err(NotJson { expected: "a member name", at });
    }
    let at = skip_space(text, string_end(text, at + 1)?);
    if text.get(at) != Some(&b':') {
        return Err(NotJson { expected: "`:`", at });
    }
    Ok(at + 1)
}

/// Behind the closing quote of the string whose inside starts at `at`.
fn string_end(text: &[u8], mut at: usize) -> Found<usize> {
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

fn word_end(text: &[u8], at: usize, word: &[u8]) -> Found<usize> {
    let end = at + word.len();
    if text.get(at..end) == Some(word) { Ok(end) } else { Err(NotJson { expected: "a JSON value", at }) }
}

fn number_end(text: &[u8], start: usize) -> Found<usize> {
    let digits = |mut at: usize| {
        let from = at;
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from { Err(NotJson { expected: "a JSON value", at }) } else { Ok(at) }
    };
    let first = if text.get(start) == Some(&b'-') { start + 1 } else { start };
    let mut at = digits(first)?;
    if text.get(first) == Some(&b'0') && at > first + 1 {
        return Err(NotJson { expected: "a number without leading zeros", at: first });
    }
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let signed = if let Some(b'+' | b'-') = text.get(at + 1) { at + 2 } else { at + 1 };
        at = digits(signed)?;
    }
    Ok(at)
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits?;
    if digits.len() != 4 {
        return None;
    }
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

/// One bit a level: whether it is an object. The first 64 levels need no memory.
#[derive(Default)]
struct Nesting {
    depth: usize,
    near: u64,
    far: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.far.push(self.near);
        }
        self.near = self.near << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.near & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.near >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.near = self.far.pop().unwrap_or_default();
        }
    }
}

// === impl Members ===

impl<'a> Members<'a> {
    fn step(&mut self) -> Found<Option<Member<'a>>> {
        let mut at = skip_space(self.text, self.at);
        match (self.text.get(at), self.state) {
            (Some(b'}'), _) => {
                self.state = State::Done;
                let rest = skip_space(self.text, at + 1);
                let is_end = rest == self.text.len();
                return if is_end { Ok(None) } else { Err(NotJson { expected: "the end of the text", at: rest }) };
            }
            (Some(b','), State::Next) => at = skip_space(self.text, at + 1),
            (_, State::Next) => return Err(NotJson { expected: "`,` or `}`", at }),
            _ => {}
        }
        let behind_name = name_end(self.text, at)?;
        let name = self.text.get(at..behind_name).unwrap_or_default();
        let name_close = memchr::memrchr(b'"', name).unwrap_or(0);
        let start = skip_space(self.text, behind_name);
        let end = value_end(self.text, start)?;
        self.at = end;
        self.state = State::Next;
        let value = self.text.get(start..end).unwrap_or_default();
        Ok(Some(Member { name: name.get(1..name_close).unwrap_or_default(), value, start }))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Found<Member<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.state = State::Done;
        }
        step.transpose()
    }
}

// === impl Elements ===

impl<'a> Elements<'a> {
    fn step(&mut self) -> Found<Option<&'a [u8]>> {
        let mut at = skip_space(self.text, self.at);
        match (self.text.get(at), self.state) {
            (Some(b']'), _) => {
                self.state = State::Done;
                return Ok(None);
            }
            (Some(b','), State::Next) => at = skip_space(self.text, at + 1),
            (_, State::Next) => return Err(NotJson { expected: "`,` or `]`", at }),
            _ => {}
        }
        let end = value_end(self.text, at)?;
        self.at = end;
        self.state = State::Next;
        Ok(Some(self.text.get(at..end).unwrap_or_default()))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Found<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.state = State::Done;
        }
        step.transpose()
    }
}

// === strings ===

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

// === impl NotJson ===

impl NotJson {
    /// Words for a poison message: no text of the document.
    pub(crate) fn words(self, subject: &str) -> String {
        let mut words = String::new();
        let _ = write!(words, "{subject} is not JSON: {} expected at byte {}", self.expected, self.at);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(inside: &str) -> Option<String> {
        let mut out = Vec::new();
        unescape(inside.as_bytes(), &mut out).then(|| String::from_utf8(out).expect("UTF-8 in, UTF-8 out"))
    }

    #[test]
    fn members_come_in_their_order_as_raw_slices() {
        let doc = br#" { "a" : {"x": [1, 2.50, "]}"]}, "b\n": null ,"":"q\"" } "#;
        let found: Vec<_> = members(doc).expect("an object").map(|m| m.expect("legal")).map(|m| (m.name, m.value)).collect();
        assert_eq!(
            found,
            [(&b"a"[..], &br#"{"x": [1, 2.50, "]}"]}"#[..]), (&b"b\\n"[..], &b"null"[..]), (&b""[..], &br#""q\"""#[..]),]
        );
        assert!(members(b"[1]").is_none() && members(b"").is_none());
        assert_eq!(elements(b"[ 1 , [2] ]").expect("an array").flatten().collect::<Vec<_>>(), [&b"1"[..], b"[2]"]);
    }

    #[test]
    fn ten_thousand_levels_need_no_stack() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            assert_eq!(document(deep.as_bytes()).map(<[u8]>::len), Ok(deep.len()));
            assert!(document(&deep.as_bytes()[..deep.len() - 1]).is_err());
        }
        let mixed = format!("{}1{}", r#"[{"a":"#.repeat(300), "}]".repeat(300));
        assert!(document(mixed.as_bytes()).is_ok());
        let crossed = format!("{}1{}", r#"[{"a":"#.repeat(300), "]}".repeat(300));
        assert!(document(crossed.as_bytes()).is_err());
    }

    #[test]
    fn strings_are_unescaped_and_compared() {
        assert_eq!(text(r#"a\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00z"#).as_deref(), Some("a\"\\/\u{8}\u{c}\n\r\tä😀z"));
        for wrong in [r"\uD83D", r"\uDE00", r"\uD83D\u0041", r"\x", "\\", r"\u12"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert!(stands_for(br"tr\u0061ce", b"trace") && stands_for(b"trace", b"trace"));
        assert!(!stands_for(br"tr\u0061c", b"trace") && !stands_for(br"a\n", b"a\\n") && !stands_for(b"b", b"a"));
    }

    #[test]
    fn strings_are_written_as_the_format_says() {
        let mut out = Vec::new();
        write_string("q\"\\/\u{1}\u{1f}\u{8}\t\n\u{c}\r\u{7f}\u{2028}ä😀", &mut out);
        let want = "\"q\\\"\\\\/\\u0001\\u001F\\b\\t\\n\\f\\r\u{7f}\u{2028}ä\\uD83D\\uDE00\"";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), want);
        let mut raw = Vec::new();
        write_string_raw("\"😀\u{1f}\u{10ffff}é", &mut raw);
        assert_eq!(String::from_utf8(raw).expect("UTF-8"), "\"\\\"😀\\u001F\u{10ffff}é\"");
    }

    proptest! {
        #[test]
        fn plain_ascii_is_what_is_written_as_it_is(bytes in prop::collection::vec(prop_oneof![8 => 0x20u8..0x7F, 1 => any::<u8>()], 0..30)) {
            let mut out = Vec::new();
            let is_plain = std::str::from_utf8(&bytes).is_ok_and(|text| {
                write_string(text, &mut out);
                out.len() == bytes.len() + 2 && bytes.is_ascii()
            });
            prop_assert_eq!(is_plain_ascii(&bytes), is_plain);
        }

        #[test]
        fn random_bytes_never_panic_and_agree_with_serde_json(doc in "[\\[\\]{}\",:0-9a-f.eE+\\-\\\\untrlse ]{0,24}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&doc);
            prop_assert_eq!(document(doc.as_bytes()).is_ok(), theirs.is_ok(), "{}", doc);
        }

        #[test]
        fn a_string_comes_back(text in any::<String>()) {
            let mut json = Vec::new();
            write_string(&text, &mut json);
            prop_assert_eq!(&serde_json::from_slice::<String>(&json).expect("legal"), &text);
            let mut back = Vec::new();
            prop_assert!(unescape(string_inside(document(&json).expect("legal")).expect("a string"), &mut back));
            prop_assert_eq!(back, text.as_bytes());
        }
    }
}
