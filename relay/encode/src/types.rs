//! Section 8 of the event format: the text of a value, as PostgreSQL prints it, becomes JSON, whatever its type and the modes.

mod array;
mod bits;
mod civil;
mod connect;
mod debezium_default;
mod default;
pub(crate) mod every;
mod fallback;
mod float;
mod form;
mod geometry;
mod hstore;
mod interval;
mod md5;
mod modes;
mod number;
mod numeric;
mod oids;
mod placeholder;
mod resolve;
mod schema;
mod text;
mod time;
mod timestamp;
mod vector;
mod write;

#[cfg(test)]
mod tests;

use form::Form;
pub(crate) use modes::{InvalidUtf8, Modes};
use relay_core::{Poison, PoisonReason};
pub(crate) use schema::SchemaField;

/// The type of a column with everything resolved that its writer needs: one match a value, nothing allocated.
#[derive(Debug)]
pub(crate) struct ColumnType {
    form: Form,
    /// 8.4: no row of the table knows it, its text is written.
    is_unknown: bool,
    /// D9: Debezium has no such column.
    is_omitted: bool,
    /// The built-in type at the bottom, 0 for others: what defaults and placeholders depend on beside the form.
    base: u32,
    /// Debezium reads no defaults of a domain's columns.
    is_domain: bool,
    utf8: InvalidUtf8,
    /// JSON of the placeholder; `None` where there is none.
    unavailable: Option<Box<[u8]>>,
}

/// Why a value is not representable: no value text, no column name.
type Refusal = &'static str;

/// The result of a writer.
type Written = Result<(), Refusal>;

// === impl ColumnType ===

impl ColumnType {
    /// Appends the JSON of a value given as PostgreSQL prints it. After an error `out` is as it was.
    ///
    /// # Errors
    /// The value is not representable (D3); the message has neither text of the value nor the name of the column.
    #[inline]
    pub(crate) fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        let start = out.len();
        self.write_form(text, out).map_err(|refusal| {
            out.truncate(start);
            poison(refusal)
        })
    }

    /// Appends the placeholder of 8.5; false = there is none for this type and `null` was written.
    pub(crate) fn write_unavailable(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.unavailable.as_deref().unwrap_or(b"null"));
        self.unavailable.is_some()
    }

    /// text and varchar: of what merely is written as text, some have no default, and arrays of it no placeholder.
    fn is_plain_text(&self) -> bool {
        matches!(self.base, 25 | 1043)
    }

    /// Whether only the text of the type is known (8.4), itself or as an element.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Whether `compat = "debezium"` leaves the column out (D9).
    pub(crate) fn is_omitted(&self) -> bool {
        self.is_omitted
    }
}

#[cold]
fn poison(refusal: Refusal) -> Poison {
    let reason = if refusal == text::NOT_UTF8 { PoisonReason::Utf8 } else { PoisonReason::Encode };
    Poison::new(reason, refusal)
}
