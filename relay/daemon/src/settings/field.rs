//! Turns a value of the file into text, a number, a flag, a list or a map, or says what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use super::dsn::masked;
use super::schema::{Fault, Field, Form, Key, Section};
use super::secret::MASK;
use super::suggest;
use super::tree::{Node, Table, Value};

/// A type that stays `None` when its key is left out.
///
/// Kept apart from [`Field`] so that `Option<Secret>` can have a reading of its own.
pub(crate) trait Optional: Field {
    /// What the file may say; durations and sizes add the word `none`.
    const OPTIONAL_FORM: Form = Self::FORM;
    /// The word that stands for nothing.
    const NONE: Option<&'static str> = None;
}

/// A list of texts that may also be written as one text with commas, as Kafka's clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commas(pub(crate) Vec<String>);

/// Entries with names of the user's: their values as text, in the order of their names. `Debug` masks what names a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Entries(pub(crate) BTreeMap<String, String>);

/// What is wrong with a value that is none of the words.
pub(crate) fn not_a_choice(value: &Value, words: &[&str]) -> Fault {
    let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match value.as_text() {
        Some(text) => {
            let fault = Fault::new(format!("`{}` is not one of {list}", crate::settings::source_text::printable(text)));
            match suggest::nearest(text, words.iter().copied()) {
                Some(word) => fault.hint(format!("did you mean `\"{word}\"`?")),
                None => fault,
            }
        }
        None => Fault::expected(&format!("one of {list} as text"), value),
    }
}

// === impl Field for text ===

impl Field for String {
    const FORM: Form = Form::Text("text");

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            Value::Integer(number) => Err(Fault::expected("text", value).hint(format!("write it in quotes: `\"{number}\"`"))),
            other => Err(Fault::expected("text", other)),
        }
    }
}

impl Optional for String {}

impl Optional for bool {}

impl<T: Optional> Field for Option<T> {
    const FORM: Form = T::OPTIONAL_FORM;

    fn read(value: &Value) -> Result<Self, Fault> {
        if T::NONE.is_some() && value.as_text() == T::NONE {
            return Ok(None);
        }
        T::read(value).map(Some)
    }
}

// === impl Field for numbers and flags ===

macro_rules! integer_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const FORM: Form = Form::Integer;

            fn read(value: &Value) -> Result<Self, Fault> {
                match value {
                    Value::Integer(number) => <$type>::try_from(*number).map_err(|_| {
                        Fault::new(format!("expected an integer from {} to {}, found {number}", <$type>::MIN, <$type>::MAX))
                    }),
                    Value::Text(text) if text.parse::<i64>().is_ok() => {
                        Err(Fault::expected("an integer", value).hint(format!("write it without quotes: `{text}`")))
                    }
                    other => Err(Fault::expected("an integer", other)),
                }
            }
        }
    )*};
}

integer_field!(i32, u32, u64, usize);

impl Field for bool {
    const FORM: Form = Form::Flag;

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Flag(is_set) => Ok(*is_set),
            Value::Text(text) if text == "true" || text == "false" => {
                Err(Fault::expected("`true` or `false`", value).hint(format!("write it without quotes: `{text}`")))
            }
            other => Err(Fault::expected("`true` or `false`", other)),
        }
    }
}

// === impl Field for lists ===

impl Field for Vec<String> {
    const FORM: Form = Form::List;

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::List(items) => items
                .iter()
                .map(|item| String::read(&item.value))
                .collect::<Result<_, _>>()
                .map_err(|fault| Fault { message: format!("in the list: {}", fault.message), hint: fault.hint }),
            Value::Text(_) => Err(Fault::expected("a list of texts", value).hint("put it in brackets: `[\"…\"]`")),
            other => Err(Fault::expected("a list of texts", other)),
        }
    }
}

impl Optional for Vec<String> {}

impl Field for Commas {
    const FORM: Form = Form::ListOrText;

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Text(text) => Ok(Self(split_commas(text))),
            Value::List(_) => Vec::<String>::read(value).map(Self),
            other => Err(Fault::expected("a list of texts, or one text with commas", other)),
        }
    }
}

/// The parts of a text with commas; empty ones are left out.
pub(crate) fn split_commas(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl<T: Section> Field for Vec<T> {
    const FORM: Form = Form::Sections(T::KEYS);

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::List(items) => items.iter().map(|item| read_element(item)).collect(),
            other => Err(Fault::expected("a list of tables", other).hint("write the section with two brackets: `[[…]]`")),
        }
    }
}

/// A section of a `[[list]]`; one that is no table was reported when its layer was read and counts as empty here.
fn read_element<T: Section>(item: &Node) -> Result<T, Fault> {
    match &item.value {
        Value::Table(section) => Ok(T::read_section(section)),
        _ => Ok(T::read_section(&Table::default())),
    }
}

// === impl Field for maps ===

impl Field for Entries {
    const FORM: Form = Form::Map;

    fn read(value: &Value) -> Result<Self, Fault> {
        let Value::Table(section) = value else {
            return Err(Fault::expected("a table", value));
        };
        section
            .entries()
            .map(|entry| Ok((entry.key.clone(), scalar(&entry.key, &entry.node.value)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn take(section: &Table, key: &Key) -> Self {
        let Some(Value::Table(map)) = section.get(key.name).map(|node| &node.value) else {
            return Self::default();
        };
        Self(map.entries().filter_map(|entry| Some((entry.key.clone(), scalar(&entry.key, &entry.node.value).ok()?))).collect())
    }
}

impl Deref for Entries {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str, value: &str| if suggest::names_a_secret(name) { MASK.to_owned() } else { masked(value) };
        out.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value)))).finish()
    }
}

/// The text of an entry of a map.
pub(crate) fn scalar(key: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Flag(is_set) => Ok(is_set.to_string()),
        Value::Table(inner) => {
            let part = inner.entries().next().map_or("…", |entry| entry.key.as_str());
            Err(Fault::new(format!("`{key}` is a table, not a value"))
                .hint(format!("put a name with dots in quotes: `\"{key}.{part}\"`")))
        }
        other => Err(Fault::new(format!("`{key}`: expected text, a number or a flag, found {}", other.kind()))),
    }
}
