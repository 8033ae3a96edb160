//! Turns a byte range of a file into line, column and the line as it may be shown: secrets hidden, control characters too.

use std::ops::Range;

use super::dsn::secret_ranges;
use super::secret::MASK;
use super::suggest::names_a_secret;
use super::tree::{Node, Origin, Table};

/// A file, or a block of one, that findings point into.
#[derive(Clone)]
pub(crate) struct SourceText {
    /// The path as it was given.
    pub(crate) name: String,
    text: String,
    masks: Vec<Range<usize>>,
    /// Its TOML is broken, so that the tree does not tell where secrets are.
    is_broken: bool,
    /// Somewhere in it stands a word that names a secret.
    names_secrets: bool,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// The line as it may be shown.
    pub(crate) shown: String,
    /// The columns of `shown` that carets stand under, counted from 0.
    pub(crate) carets: Range<usize>,
}

/// The longest line that is shown whole.
const SHOWN_MAX: usize = 240;

// === impl SourceText ===

impl SourceText {
    pub(crate) fn new(name: String, text: String) -> Self {
        Self { name, text, masks: Vec::new(), is_broken: false, names_secrets: false }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Notes that its TOML is broken.
    pub(crate) fn mark_broken(&mut self) {
        self.is_broken = true;
        self.names_secrets = names_one(&self.text);
    }

    /// Notes where in the tree's text secrets stand, or what looks like one.
    pub(crate) fn hide_secrets(&mut self, table: &Table) {
        let mut masks = Vec::new();
        for entry in table.entries() {
            entry.node.leaves(&entry.key, &mut |key, node| self.hide_leaf(key, node, &mut masks));
        }
        self.masks.append(&mut masks);
        self.masks.sort_by_key(|mask| mask.start);
    }

    fn hide_leaf(&self, key: &str, node: &Node, masks: &mut Vec<Range<usize>>) {
        let Origin::File(_, span) = &node.at else { return };
        let Some(raw) = self.text.get(span.clone()) else { return };
        let inner = inside_quotes(span, raw);
        let Some(text) = self.text.get(inner.clone()) else { return };
        let has_escapes = raw.contains('\\') && node.value.as_text().is_some_and(|text| !secret_ranges(text).is_empty());
        // What stands at `url` and is none may be anything, `host=… password=…` for one.
        let is_odd_url = key == "url" && !text.contains("://");
        if names_a_secret(key) || has_escapes || is_odd_url {
            masks.push(inner);
        } else {
            masks.extend(secret_ranges(text).into_iter().map(|range| inner.start + range.start..inner.start + range.end));
        }
    }

    /// Where the bytes are, and the line they begin in.
    pub(crate) fn spot(&self, span: &Range<usize>) -> Spot {
        let start = floor(&self.text, span.start);
        let end = floor(&self.text, span.end).max(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line = 1 + self.text[..line_start].bytes().filter(|byte| *byte == b'\n').count();
        let column = 1 + self.text[line_start..start].chars().count();
        let (shown, carets) = self.show(line_start..line_end, start..end.min(line_end));
        Spot { line, column, shown, carets }
    }

    /// The line as it may be shown, and the columns of `marked` in it.
    fn show(&self, line: Range<usize>, marked: Range<usize>) -> (String, Range<usize>) {
        let text = &self.text[line.clone()];
        let masks = if self.is_broken { self.mask_of_broken(&line).into_iter().collect() } else { self.masks.clone() };
        let (mut shown, mut width) = (String::new(), 0);
        let (mut from, mut until, mut hidden_until) = (None, 0, 0);
        for (at, character) in text.char_indices().map(|(at, character)| (line.start + at, character)) {
            if at >= hidden_until
                && let Some(mask) = masks.iter().find(|mask| mask.contains(&at))
            {
                hidden_until = mask.end;
                shown.push_str(MASK);
                width += MASK.len();
            }
            let is_hidden = at < hidden_until;
            let column = if is_hidden { width - MASK.len() } else { width };
            if at >= marked.start && at < marked.end.max(marked.start + 1) {
                from.get_or_insert(column);
                until = if is_hidden { width } else { width + 1 };
            }
            if !is_hidden {
                if width < SHOWN_MAX {
                    shown.push(if character.is_control() { ' ' } else { character });
                }
                width += 1;
            }
        }
        let from = from.unwrap_or(width).min(SHOWN_MAX);
        (shown.trim_end().to_owned(), from..until.min(SHOWN_MAX).max(from + 1))
    }

    /// What to hide of a line when the grammar is broken and the tree cannot be trusted.
    fn mask_of_broken(&self, line: &Range<usize>) -> Option<Range<usize>> {
        let text = &self.text[line.clone()];
        let trimmed = text.trim();
        if self.text.contains("\"\"\"") || self.text.contains("'''") {
            return Some(line.clone());
        }
        let is_header = trimmed.starts_with('[') && !trimmed.contains(['"', '\'', '=']);
        let is_risky = names_one(text) || text.contains("://");
        let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_.-\"".contains(c));
        match text.find('=') {
            Some(at) if is_key(text[..at].trim()) => is_risky.then(|| line.start + at + 1..line.end),
            _ if is_header || trimmed.is_empty() || !(is_risky || self.names_secrets) => None,
            _ => Some(line.clone()),
        }
    }
}

impl std::fmt::Debug for SourceText {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SourceText({})", self.name)
    }
}

/// Whether a word of the text names a secret.
fn names_one(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && !"_.-".contains(c)).any(names_a_secret)
}

/// The bytes of a string without its quotes, or all of another value.
fn inside_quotes(span: &Range<usize>, raw: &str) -> Range<usize> {
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { usize::from(raw.starts_with(['"', '\''])) };
    if raw.len() >= 2 * quotes { span.start + quotes..span.end - quotes } else { span.clone() }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A text that a message may quote: no control characters, no password of a URL, not endless.
pub(crate) fn printable(text: &str) -> String {
    let text = super::dsn::masked(text);
    let mut shown: String = text.chars().take(80).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}
