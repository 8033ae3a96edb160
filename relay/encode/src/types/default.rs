//! The DEFAULT of a column, as `pg_get_expr` prints it, becomes the JSON of its schema (section 4, "Column schema details").

use super::ColumnType;
use super::form::{Form, TimeUnit};

/// oid, which Debezium has no default for.
const OID: u32 = 26;

// === impl ColumnType ===

impl ColumnType {
    /// The default as JSON: literals converted to the type, functions as the type's zero, `None` for everything else.
    pub(crate) fn default_json(&self, expression: &str) -> Option<Box<[u8]>> {
        if !self.takes_defaults() {
            return None;
        }
        let mut out = Vec::new();
        match literal(expression) {
            Some(text) => self.write(self.shape(&text).as_bytes(), &mut out).ok()?,
            None if is_function(expression) => self.write_zero(&mut out),
            None => return None,
        }
        Some(out.into())
    }

    /// Debezium has no default for other types, and relay's own schemas follow it in that.
    pub(super) fn takes_defaults(&self) -> bool {
        if self.is_domain || self.base == OID {
            return false;
        }
        match &self.form {
            // Of strings only text, varchar, json, jsonb, xml and uuid; not what merely is written as text.
            Form::Text(name) => self.is_plain_text() || matches!(name, Some("Json" | "Xml" | "Uuid")),
            Form::Enum(_) | Form::Char | Form::Bool | Form::Bit | Form::Bits(_) | Form::Int16 | Form::Int32 | Form::Int64 => true,
            Form::Float32 | Form::Float64 | Form::Decimal { .. } | Form::NumericText(_) | Form::NumericDouble(_) => true,
            Form::Date(_) | Form::Time(_) | Form::Timestamp(_) | Form::TimestampTz(_) => true,
            Form::Interval | Form::IntervalText => true,
            _ => false,
        }
    }

    /// The literal as PostgreSQL would print the value.
    fn shape<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        match (&self.form, text) {
            (Form::Bool, "true") => "t".into(),
            (Form::Bool, "false") => "f".into(),
            (Form::Char, _) => text.trim_end_matches(' ').into(),
            _ => text.into(),
        }
    }

    /// Appends what stands for the result of a function.
    pub(super) fn write_zero(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(Some("Uuid")) => out.extend_from_slice(b"\"00000000-0000-0000-0000-000000000000\""),
            Form::Text(Some("Json")) => out.extend_from_slice(b"\"{}\""),
            // Unlike the fallback it has the digits of its column.
            Form::TimestampTz(_) => {
                let _ = self.write_form(b"1970-01-01 00:00:00+00", out);
            }
            Form::Timestamp(TimeUnit::Iso) => {
                let _ = self.write_form(b"1970-01-01 00:00:00", out);
            }
            _ => self.write_fallback(out),
        }
    }
}

/// The text of `'it''s'::text`, `-1`, `1.5`, `true`, also within brackets; `None` for what must be computed, and for NULL.
fn literal(expression: &str) -> Option<String> {
    let expression = expression.trim();
    if let Some(inside) = expression.strip_prefix('(') {
        // `(1)::bigint`, `('x'::text)::character varying`, `(- 1)`.
        let close = closing(inside)?;
        let (inside, rest) = inside.split_at_checked(close)?;
        return if is_cast(rest.strip_prefix(')')?) { literal(inside) } else { None };
    }
    if let Some(inside) = expression.strip_prefix("B'").or_else(|| expression.strip_prefix('\'')) {
        let (text, rest) = quoted(inside)?;
        return is_cast(rest).then_some(text);
    }
    let (word, cast) = expression.split_at(expression.find("::").unwrap_or(expression.len()));
    let number = word.strip_prefix('-').unwrap_or(word).trim_start();
    let is_number = number.starts_with(|first: char| first.is_ascii_digit())
        && number.chars().all(|digit| digit.is_ascii_digit() || matches!(digit, '.' | 'e' | 'E' | '-' | '+'));
    let is_literal = is_number || matches!(word, "true" | "false");
    (is_literal && is_cast(cast)).then(|| word.replace(' ', ""))
}

/// The text behind an opening quote, and what follows its closing one.
pub(super) fn quoted(mut inside: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (plain, more) = inside.split_once('\'')?;
        text.push_str(plain);
        match more.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                inside = more;
            }
            None => return Some((text, more)),
        }
    }
}

/// Where the bracket that was opened before `text` is closed, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' => is_quoted = !is_quoted,
            b'(' if !is_quoted => depth += 1,
            b')' if !is_quoted && depth == 0 => return Some(at),
            b')' if !is_quoted => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Nothing, or `::timestamp(3) with time zone`, once or more.
fn is_cast(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b"_ .,()[]\":$".contains(&byte);
    text.is_empty() || (text.starts_with("::") && text.bytes().all(is_of_name))
}

/// `nextval('x'::regclass)`, `now()`, `CURRENT_TIMESTAMP`.
fn is_function(expression: &str) -> bool {
    const WORDS: [&str; 5] = ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"];
    let expression = expression.strip_prefix('(').unwrap_or(expression);
    let name = expression.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')).count();
    let (name, rest) = expression.split_at(name);
    let is_word = WORDS.iter().any(|word| name.eq_ignore_ascii_case(word));
    (!name.is_empty() && rest.starts_with('(') && rest.contains(')')) || is_word
}
