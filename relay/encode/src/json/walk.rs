//! Finds raw slices in JSON text without building values.

use super::string::string_end;
use super::{Found, NotJson};

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
