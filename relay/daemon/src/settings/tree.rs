//! Turns TOML text into a tree of values in which each one knows where it was written, and lays one tree over another.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{Form, Key};
use super::suggest::names_a_secret;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: the default holds.
    Default,
    /// In a file: its number in the list of sources, and the bytes.
    File(usize, Range<usize>),
    /// In this environment variable.
    Env(Arc<str>),
    /// In a `--set` for this path.
    Set(Arc<str>),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Origin,
}

/// A value of the tree. Its `Debug` names the kind alone: the value may be a secret.
#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// Something that no key takes, by its name.
    Other(&'static str),
}

/// A table, in the order of the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
}

/// A key of a table, where it was written, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Origin,
    pub(crate) node: Node,
}

/// An error of the TOML grammar.
#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Option<Range<usize>>,
}

// === impl Node ===

impl Node {
    pub(crate) fn new(value: Value, at: Origin) -> Self {
        Self { value, at }
    }

    /// Every value in it that is neither a list nor a table, with the name of its nearest key, or of one above that names a
    /// secret.
    pub(crate) fn leaves<'a>(&'a self, key: &'a str, visit: &mut impl FnMut(&'a str, &'a Node)) {
        match &self.value {
            Value::Table(table) if names_a_secret(key) => table.entries().for_each(|entry| entry.node.leaves(key, visit)),
            Value::Table(table) => table.entries().for_each(|entry| entry.node.leaves(&entry.key, visit)),
            Value::List(items) => items.iter().for_each(|item| item.leaves(key, visit)),
            _ => visit(key, self),
        }
    }
}

// === impl Value ===

impl Value {
    /// The text, where it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its kind, as a message says it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Flag(_) => "`true` or `false`",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) => out.debug_list().entries(items).finish(),
            Self::Table(table) => table.fmt(out),
            other => out.write_str(other.kind()),
        }
    }
}

// === impl Table ===

impl Table {
    /// Parses a file. What could be read comes back even where there are errors, so that they are reported together.
    pub(crate) fn parse(text: &str, file: usize) -> (Self, Vec<SyntaxError>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let errors =
            errors.into_iter().map(|error| SyntaxError { message: error.message().to_owned(), span: error.span() }).collect();
        (convert_table(table.get_ref(), &|span| Origin::File(file, span)), errors)
    }

    /// Parses one value of a variable or of `--set`.
    pub(crate) fn parse_value(text: &str, at: &Origin) -> Option<Value> {
        let value = DeValue::parse(text).ok()?;
        Some(convert(value.get_ref(), &|_| at.clone()))
    }

    /// Its entries, in the order of the text.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A key and its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &str, key_at: Origin, node: Node) {
        self.remove(key);
        self.entries.push(Entry { key: key.to_owned(), key_at, node });
    }

    /// Takes a key away.
    pub(crate) fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// The section under a key, made if it is missing; what is no table was reported, and gives way.
    pub(crate) fn section(&mut self, key: &str, at: &Origin) -> &mut Table {
        let found = self.entries.iter().position(|entry| entry.key == key && matches!(entry.node.value, Value::Table(_)));
        let index = found.unwrap_or_else(|| {
            self.set(key, at.clone(), Node::new(Value::Table(Table::default()), at.clone()));
            self.entries.len() - 1
        });
        match &mut self.entries[index].node.value {
            Value::Table(table) => table,
            _ => unreachable!("the entry was just found or made as a table"),
        }
    }

    /// The value at a path such as `source.log.slot` or `outbox[0].table`.
    pub(crate) fn find(&self, path: &str) -> Option<&Node> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (key, index) = match first.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (first, None),
        };
        let mut node = self.get(key)?;
        if let (Some(index), Value::List(items)) = (index, &node.value) {
            node = items.get(index)?;
        }
        match (rest, &node.value) {
            (None, _) => Some(node),
            (Some(rest), Value::Table(table)) => table.find(rest),
            (Some(_), _) => None,
        }
    }

    /// The value of a key, to change it.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// Lays another tree over this one: its values win, tables are joined, lists are replaced as a whole.
    pub(crate) fn lay_over(&mut self, upper: Table, keys: &[Key]) {
        for entry in upper.entries {
            // A secret has three spellings; the one of the upper layer is the only one that counts.
            for key in keys.iter().filter(|key| matches!(key.form, Form::Secret)) {
                let spellings = [key.name.to_owned(), format!("{}_file", key.name), format!("{}_env", key.name)];
                if spellings.contains(&entry.key) {
                    spellings.iter().for_each(|spelling| self.remove(spelling));
                }
            }
            let inner = keys.iter().find(|key| key.name == entry.key).map_or(&[][..], |key| match key.form {
                Form::Section(keys) => keys,
                _ => &[],
            });
            match entry.node.value {
                Value::Table(table) => {
                    let at = entry.node.at;
                    self.section(&entry.key, &at).lay_over(table, inner);
                }
                value => self.set(&entry.key, entry.key_at, Node::new(value, entry.node.at)),
            }
        }
    }
}

/// Copies a table of the parser, in the order of the text.
fn convert_table(table: &DeTable<'_>, at: &dyn Fn(Range<usize>) -> Origin) -> Table {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries
        .into_iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            key_at: at(key.span()),
            node: convert_node(value, at),
        })
        .collect();
    Table { entries }
}

fn convert_node(value: &Spanned<DeValue<'_>>, at: &dyn Fn(Range<usize>) -> Origin) -> Node {
    Node::new(convert(value.get_ref(), at), at(value.span()))
}

fn convert(value: &DeValue<'_>, at: &dyn Fn(Range<usize>) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("an integer that is too large"),
        },
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number that is too large"), Value::Float),
        DeValue::Boolean(is_set) => Value::Flag(*is_set),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| convert_node(item, at)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, at)),
    }
}
