//! Turns one declaration of a section into its typed struct and its rows of the key table.
//!
//! Unknown keys, types, defaults, environment names, the effective configuration and `docs/reference/config.md` are all read
//! from the table that [`table!`] writes, so a key cannot exist in one of them and be missing from another.

use super::tree::{Node, Origin, Table, Value};

/// A key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name inside the section.
    pub(crate) name: &'static str,
    /// What may stand there.
    pub(crate) form: Form,
    /// What holds when it is left out.
    pub(crate) initial: Initial,
    /// Its meaning, for people.
    pub(crate) doc: &'static str,
    /// The first version that had it.
    pub(crate) since: &'static str,
    /// Says what is wrong with a value.
    pub(crate) check: fn(&Value) -> Result<(), Fault>,
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Text, with words for what it holds.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a duration.
    ChoiceOrDuration(&'static [&'static str]),
    /// An integer.
    Integer,
    /// `true` or `false`.
    Flag,
    /// Text with a unit of time; `true` where `"none"` is allowed.
    Duration(bool),
    /// Text with a unit of bytes; `true` where `"none"` is allowed.
    Size(bool),
    /// A list of texts.
    List,
    /// A list of texts, or one text with commas.
    ListOrText,
    /// A table with keys of the user's.
    Map,
    /// A secret: `x`, `x_file` or `x_env`.
    Secret,
    /// A section.
    Section(&'static [Key]),
    /// A list of sections: `[[x]]`.
    Sections(&'static [Key]),
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// This text.
    Text(&'static str),
    /// This number.
    Number(i64),
    /// This flag.
    Flag(bool),
    /// This list.
    List(&'static [&'static str]),
    /// A table without entries.
    Empty,
    /// The key must be given.
    Required,
    /// Nothing; the words say what that means.
    Unset(&'static str),
    /// What follows from other keys; the words say how.
    Derived(&'static str),
    /// The section's own keys say it.
    Nested,
}

/// What is wrong with a value, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What was expected and what was found.
    pub(crate) message: String,
    /// The fix, ready to paste where there is one.
    pub(crate) hint: Option<String>,
}

/// A type that a key can have.
pub(crate) trait Field: Sized + Default {
    /// What the file may say.
    const FORM: Form;

    /// Reads a value that stands in the file.
    fn read(value: &Value) -> Result<Self, Fault>;

    /// Reads the key's value out of its section: what is written, else the default.
    ///
    /// A value that does not fit was reported when its layer was read; here the default stands in for it, so that the other
    /// rules can still be checked.
    fn take(section: &Table, key: &Key) -> Self {
        section
            .get(key.name)
            .and_then(|node| Self::read(&node.value).ok())
            .or_else(|| key.initial.node().and_then(|node| Self::read(&node.value).ok()))
            .unwrap_or_default()
    }
}

/// A struct that [`table!`] wrote.
pub(crate) trait Section: Sized {
    /// Its keys, in the order of the document.
    const KEYS: &'static [Key];
    /// Its meaning, for people.
    const ABOUT: &'static str;

    /// Reads it from a layered tree.
    fn read_section(section: &Table) -> Self;
}

/// A default that is text.
pub(crate) const fn text(words: &'static str) -> Initial {
    Initial::Text(words)
}

/// A default that is a number.
pub(crate) const fn number(value: i64) -> Initial {
    Initial::Number(value)
}

/// A default that is a flag.
pub(crate) const fn flag(value: bool) -> Initial {
    Initial::Flag(value)
}

/// A default that is a list.
pub(crate) const fn list(items: &'static [&'static str]) -> Initial {
    Initial::List(items)
}

/// A key without default that may be left out.
pub(crate) const fn unset(meaning: &'static str) -> Initial {
    Initial::Unset(meaning)
}

/// A key whose default follows from other keys.
pub(crate) const fn derived(meaning: &'static str) -> Initial {
    Initial::Derived(meaning)
}

// === impl Initial ===

impl Initial {
    /// The default as a value of the tree, where there is one.
    pub(crate) fn node(&self) -> Option<Node> {
        let value = match *self {
            Self::Text(words) => Value::Text(words.to_owned()),
            Self::Number(number) => Value::Integer(number),
            Self::Flag(is_set) => Value::Flag(is_set),
            Self::List(items) => {
                Value::List(items.iter().map(|item| Node::new(Value::Text((*item).to_owned()), Origin::Default)).collect())
            }
            Self::Empty => Value::Table(Table::default()),
            Self::Required | Self::Unset(_) | Self::Derived(_) | Self::Nested => return None,
        };
        Some(Node::new(value, Origin::Default))
    }
}

// === impl Fault ===

impl Fault {
    /// A fault without a cure worth a line.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds the cure.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The value has another type.
    pub(crate) fn expected(what: &str, found: &Value) -> Self {
        Self::new(format!("expected {what}, found {}", found.kind()))
    }
}

/// Writes a section: the struct, its defaults, its reader and its rows of the key table.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident $(as $key:literal)? : $type:ty = $initial:expr, )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])+ pub(crate) $field: $type, )*
        }

        impl $crate::settings::schema::Section for $name {
            const KEYS: &'static [$crate::settings::schema::Key] = &[$( $crate::settings::schema::Key {
                name: $crate::settings::schema::key_name!($field $($key)?),
                form: <$type as $crate::settings::schema::Field>::FORM,
                initial: $initial,
                doc: concat!($($doc),+),
                since: "0.1.0",
                check: |value| <$type as $crate::settings::schema::Field>::read(value).map(drop),
            } ),*];
            const ABOUT: &'static str = concat!($($about),+);

            fn read_section(section: &$crate::settings::tree::Table) -> Self {
                let mut keys = Self::KEYS.iter();
                $(
                    let $field = keys.next().map(|key| <$type as $crate::settings::schema::Field>::take(section, key));
                    let $field = $field.unwrap_or_default();
                )*
                Self { $($field),* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::settings::schema::Section>::read_section(&$crate::settings::tree::Table::default())
            }
        }

        impl $crate::settings::schema::Field for $name {
            const FORM: $crate::settings::schema::Form =
                $crate::settings::schema::Form::Section(<Self as $crate::settings::schema::Section>::KEYS);

            fn read(value: &$crate::settings::tree::Value) -> Result<Self, $crate::settings::schema::Fault> {
                match value {
                    $crate::settings::tree::Value::Table(section) => {
                        Ok(<Self as $crate::settings::schema::Section>::read_section(section))
                    }
                    other => Err($crate::settings::schema::Fault::expected("a table", other)),
                }
            }
        }
    };
}

/// The name of a key: that of the field, or the one given after `as`.
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Writes an enum whose variants are fixed words of the file; the first one is the stand-in for a broken value.
macro_rules! choice {
    ( $(#[doc = $about:literal])+ enum $name:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+ } ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $( $(#[doc = $doc])+ $variant, )+ }

        impl $name {
            /// The words of the file, in the order of the document.
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the file.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                [$(Self::$variant),+][0]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl $crate::settings::schema::Field for $name {
            const FORM: $crate::settings::schema::Form = $crate::settings::schema::Form::Choice(Self::WORDS);

            fn read(value: &$crate::settings::tree::Value) -> Result<Self, $crate::settings::schema::Fault> {
                match value.as_text() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err($crate::settings::field::not_a_choice(value, Self::WORDS)),
                }
            }
        }

        impl $crate::settings::field::Optional for $name {}
    };
}

pub(crate) use {choice, key_name, table};
