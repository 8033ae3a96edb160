//! One field of a route, resolved to a column of a relation or a member of a message, read and written as text.

use crate::binary;
use crate::json;
use crate::pointer::Pointer;
use crate::template::Reference;
use relay_core::{Oid, Poison, PoisonReason, Relation, Row, Value};

/// Type oids that the encoder tells apart; all others are their text.
pub(crate) mod oid {
    pub(crate) const BOOL: u32 = 16;
    pub(crate) const BYTEA: u32 = 17;
    pub(crate) const NAME: u32 = 19;
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const OID: u32 = 26;
    pub(crate) const JSON: u32 = 114;
    pub(crate) const FLOAT4: u32 = 700;
    pub(crate) const FLOAT8: u32 = 701;
    pub(crate) const BPCHAR: u32 = 1042;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const UUID: u32 = 2950;
    pub(crate) const JSONB: u32 = 3802;
    /// First oid that a user's own type can have.
    pub(crate) const FIRST_NORMAL: u32 = 16_384;
}

/// How a column's text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The text itself.
    Text,
    /// The text of a JSON document.
    Json,
    /// The hex form of bytes.
    Bytea,
    /// `t` or `f`.
    Bool,
    /// Raw JSON, the value of a member of a message; `Unchanged` cells stand for absent members.
    Member,
}

/// A field that is known to exist.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) column: usize,
    pub(crate) form: Form,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
    pub(crate) pointer: Option<Pointer>,
    pub(crate) is_base64: bool,
}

/// What a field holds in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Not there: a pointer that finds nothing, a member that the message lacks.
    Absent,
    Null,
    /// Text, not yet checked for UTF-8.
    Text(&'a [u8]),
    /// Raw JSON found inside a document; never `null`.
    Json(&'a [u8]),
    /// The hex form of bytes.
    Hex(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// Where names are looked up while a plan is compiled.
#[derive(Debug)]
pub(crate) enum Names<'a> {
    /// Columns of a table.
    Columns(&'a Relation),
    /// Members of a message: every name exists, in the order of first use.
    Members(Vec<Box<str>>),
}

// === impl Names ===

impl Names<'_> {
    /// Index, type, modifier and form of the column `name`.
    fn look_up(&mut self, name: &str) -> Option<(usize, u32, i32, Form)> {
        match self {
            Names::Columns(relation) => {
                let index = relation.column(name)?;
                let column = relation.columns.get(index)?;
                let Oid(oid) = column.type_oid;
                let form = match oid {
                    oid::BOOL => Form::Bool,
                    oid::BYTEA => Form::Bytea,
                    oid::JSON | oid::JSONB => Form::Json,
                    _ => Form::Text,
                };
                Some((index, oid, column.type_modifier, form))
            }
            Names::Members(names) => {
                let index = names.iter().position(|known| &**known == name).unwrap_or_else(|| {
                    names.push(name.into());
                    names.len() - 1
                });
                Some((index, 0, -1, Form::Member))
            }
        }
    }

    /// The field, if its column exists.
    pub(crate) fn field(&mut self, reference: &Reference) -> Option<Field> {
        let (column, type_oid, type_modifier, form) = self.look_up(&reference.column)?;
        Some(Field {
            name: reference.column.as_str().into(),
            column,
            form,
            type_oid,
            type_modifier,
            pointer: reference.pointer.clone(),
            is_base64: reference.is_base64,
        })
    }

    /// The column whose name is most like `name`.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        let Names::Columns(relation) = self else { return None };
        let names = || relation.columns.iter().map(|column| &*column.name);
        names().find(|known| known.eq_ignore_ascii_case(name)).or_else(|| {
            let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
            names().map(|known| (distance(known), known)).min().filter(|&(distance, _)| distance <= 2).map(|(_, known)| known)
        })
    }
}

// === impl Field ===

impl Field {
    /// What the row holds.
    #[inline]
    pub(crate) fn read<'a>(&self, row: &Row<'a>) -> Result<Piece<'a>, Poison> {
        match row.get(self.column) {
            Some(Value::Text(text)) if self.is_plain() => Ok(Piece::Text(text)),
            Some(Value::Null) => Ok(Piece::Null),
            _ => self.read_any(row),
        }
    }

    /// A column whose text is what is wanted: almost every one.
    #[inline]
    fn is_plain(&self) -> bool {
        matches!(self.form, Form::Text | Form::Json) && self.pointer.is_none()
    }

    fn read_any<'a>(&self, row: &Row<'a>) -> Result<Piece<'a>, Poison> {
        let text = match row.get(self.column) {
            Some(Value::Text(text)) => text,
            Some(Value::Null) => return Ok(Piece::Null),
            Some(Value::Unchanged) if self.form == Form::Member => return Ok(Piece::Absent),
            Some(Value::Binary(bytes)) if self.form == Form::Bytea && self.pointer.is_none() => return Ok(Piece::Bytes(bytes)),
            other => return Err(self.unreadable(other)),
        };
        if let Some(pointer) = &self.pointer {
            return self.follow(pointer, text);
        }
        Ok(match self.form {
            Form::Text | Form::Json => Piece::Text(text),
            Form::Bytea => Piece::Hex(text),
            Form::Bool => Piece::Text(match text {
                b"t" => b"true",
                b"f" => b"false",
                other => other,
            }),
            Form::Member => Piece::Json(text),
        })
    }

    #[cold]
    fn unreadable(&self, value: Option<Value<'_>>) -> Poison {
        let what = match value {
            None => "is not in the row",
            Some(Value::Unchanged) => "was not sent (unchanged TOAST); the table needs REPLICA IDENTITY FULL",
            _ => "came in a binary form",
        };
        Poison::new(PoisonReason::Encode, format!("column `{}` {what}", self.name))
    }

    fn follow<'a>(&self, pointer: &Pointer, text: &'a [u8]) -> Result<Piece<'a>, Poison> {
        match pointer.find(text) {
            Ok(None) => Ok(Piece::Absent),
            Ok(Some(b"null")) => Ok(Piece::Null),
            Ok(Some(raw)) => Ok(Piece::Json(raw)),
            Err(error) => Err(Poison::new(PoisonReason::Encode, error.words(&format!("column `{}`", self.name)))),
        }
    }

    /// Appends the text of `piece`, checked; false when there is none. `base64(…)` is honoured.
    #[inline]
    pub(crate) fn write_text(&self, piece: Piece<'_>, out: &mut Vec<u8>) -> Result<bool, Poison> {
        match piece {
            Piece::Text(text) if !self.is_base64 && text.is_ascii() => {
                out.extend_from_slice(text);
                Ok(true)
            }
            Piece::Absent | Piece::Null => Ok(false),
            piece => self.write_any(piece, out),
        }
    }

    fn write_any(&self, piece: Piece<'_>, out: &mut Vec<u8>) -> Result<bool, Poison> {
        if self.is_base64 {
            return self.write_decoded(piece, out);
        }
        match piece {
            Piece::Absent | Piece::Null => return Ok(false),
            Piece::Text(text) => {
                self.check(text)?;
                out.extend_from_slice(text);
            }
            Piece::Json(raw) => {
                self.check(raw)?;
                match json::string_inside(raw) {
                    Some(inside) => self.unescape(inside, out)?,
                    None => out.extend_from_slice(raw),
                }
            }
            Piece::Hex(hex) => {
                if !binary::decode_bytea(hex, out) {
                    return Err(self.poison("is not bytea in hex form (bytea_output must be hex)"));
                }
            }
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        Ok(true)
    }

    /// Appends the bytes that the base64 text of `piece` stands for; false when there is none.
    pub(crate) fn write_decoded(&self, piece: Piece<'_>, out: &mut Vec<u8>) -> Result<bool, Poison> {
        let unescaped;
        let text = match piece {
            Piece::Absent | Piece::Null => return Ok(false),
            Piece::Text(text) | Piece::Bytes(text) => text,
            Piece::Json(raw) => match json::string_inside(raw) {
                Some(inside) if memchr::memchr(b'\\', inside).is_none() => inside,
                Some(inside) => {
                    // `\/` is the only escape that base64 can need; it is rare enough to allocate for.
                    let mut text = Vec::new();
                    self.unescape(inside, &mut text)?;
                    unescaped = text;
                    &unescaped
                }
                None => return Err(self.poison("is not a string with base64")),
            },
            Piece::Hex(_) => return Err(self.poison("is bytea, not base64 text")),
        };
        if binary::decode_base64(text, out) { Ok(true) } else { Err(self.poison("is not base64")) }
    }

    /// Refuses text that is not UTF-8.
    #[inline]
    pub(crate) fn check<'a>(&self, text: &'a [u8]) -> Result<&'a str, Poison> {
        match simdutf8::basic::from_utf8(text) {
            Ok(text) => Ok(text),
            Err(_) => Err(Poison::new(PoisonReason::Utf8, format!("column `{}` is not UTF-8", self.name))),
        }
    }

    fn unescape(&self, inside: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        if json::unescape(inside, out) { Ok(()) } else { Err(self.poison("has a string with half a surrogate pair")) }
    }

    #[cold]
    pub(crate) fn poison(&self, what: &str) -> Poison {
        Poison::new(PoisonReason::Encode, format!("column `{}` {what}", self.name))
    }
}

// === impl Piece ===

impl Piece<'_> {
    pub(crate) fn is_none(self) -> bool {
        matches!(self, Piece::Absent | Piece::Null)
    }
}
