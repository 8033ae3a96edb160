//! One column of a capture: its name rendered once, and its value in any state written as JSON.

use super::mask::Mask;
use super::rule::Capture;
use crate::field::oid;
use crate::json;
use crate::types::{ColumnType, SchemaField};
use relay_core::catalog::{Catalog, TypeForm};
use relay_core::change::OldRow;
use relay_core::{Column, Oid, Poison, PoisonReason, Relation, Row, Value};

/// A column as a plan writes it.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    /// Index of its cell.
    pub(super) index: usize,
    /// Index among the plan's columns.
    pub(super) place: u32,
    pub(super) name: Box<str>,
    /// `,"name":`.
    pub(super) member: Box<[u8]>,
    pub(super) kind: ColumnType,
    pub(super) mask: Option<Mask>,
    /// Characters that the column's type allows, for hashes.
    pub(super) length: Option<usize>,
    /// Whether an old tuple of identity columns has it.
    pub(super) is_identity: bool,
    pub(super) is_nullable: bool,
    /// Whether the schema says that there is a value.
    is_required: bool,
    /// The default as JSON, where the schema says it.
    pub(super) default: Option<Box<[u8]>>,
    /// What NULL is written as.
    pub(super) null: Box<[u8]>,
    /// `compat = "debezium"`: what stands for a column that an old tuple does not have (D2), and conversion failures are NULL (D3).
    pub(super) invented: Option<Box<[u8]>>,
}

/// The cells of a row, and the old tuple that may have what the row leaves out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells<'a> {
    pub(super) row: Row<'a>,
    pub(super) old: Option<OldRow<'a>>,
}

/// What was seen while the columns of one record were written.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether every unavailable value is told of, or only those that are shown as null.
    pub(super) is_thorough: bool,
    /// Places of columns whose value is not known.
    pub(super) unavailable: Vec<u32>,
    /// Index in the relation of a column whose value became null because it cannot be converted (D3).
    pub(super) lost: Option<usize>,
    /// Room for a masked text.
    pub(super) text: Vec<u8>,
}

// === impl Cells ===

impl<'a> Cells<'a> {
    pub(super) fn of(row: Row<'a>) -> Self {
        Self { row, old: None }
    }

    /// The value of the column; an unchanged one is taken from the old tuple where that has it.
    #[inline]
    pub(super) fn get(&self, index: usize, is_identity: bool) -> Option<Value<'a>> {
        match self.row.get(index) {
            Some(Value::Unchanged) => match self.old {
                Some(OldRow::Full(old)) => old.get(index),
                Some(OldRow::Key(old)) if is_identity => old.get(index),
                _ => Some(Value::Unchanged),
            },
            value => value,
        }
    }
}

// === impl ColumnPlan ===

impl ColumnPlan {
    /// Appends the value as JSON.
    #[inline]
    pub(super) fn write(&self, cells: &Cells<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        match cells.get(self.index, self.is_identity) {
            Some(Value::Text(text)) if self.mask.is_none() => match self.kind.write(text, out) {
                Ok(()) => Ok(()),
                Err(poison) => self.fail(poison, text, seen, out),
            },
            Some(Value::Null) => {
                out.extend_from_slice(&self.null);
                Ok(())
            }
            value => self.write_rare(value, seen, out),
        }
    }

    /// As [`ColumnPlan::write`], for a key: what is not known is no key.
    pub(super) fn write_key(&self, cells: &Cells<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        match cells.get(self.index, self.is_identity) {
            Some(Value::Unchanged) => {
                Err(self.poison(PoisonReason::Route, "is part of the key and was not sent (unchanged TOAST)"))
            }
            _ => self.write(cells, seen, out),
        }
    }

    /// As [`ColumnPlan::write_key`], as Connect prints it in a header (D28).
    pub(super) fn write_connect(&self, cells: &Cells<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        match cells.get(self.index, self.is_identity) {
            Some(Value::Text(text)) if self.mask.is_none() => {
                self.kind.write_connect_text(text, out).map_err(|poison| self.poison(poison.reason, &poison.message))
            }
            _ => self.write_key(cells, seen, out),
        }
    }

    fn write_rare(&self, value: Option<Value<'_>>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        match (value, &self.mask) {
            (Some(Value::Text(text)), Some(mask)) => {
                if let Ok(text) = simdutf8::basic::from_utf8(text) {
                    self.write_masked(mask, text, seen, out);
                } else {
                    let mended = self.kind.mended(text).ok_or_else(|| self.poison(PoisonReason::Utf8, "is not UTF-8"))?;
                    self.write_masked(mask, &mended, seen, out);
                }
                Ok(())
            }
            (Some(Value::Unchanged), _) => self.write_unavailable(seen, out),
            (Some(Value::Binary(_)), _) => Err(self.poison(PoisonReason::Encode, "came in a binary form")),
            _ => Err(self.poison(PoisonReason::Encode, "is not in the row")),
        }
    }

    fn write_masked(&self, mask: &Mask, text: &str, seen: &mut Seen, out: &mut Vec<u8>) {
        seen.text.clear();
        if mask.write(text, self.length, &mut seen.text) {
            // A mask cuts between characters.
            json::write_string(std::str::from_utf8(&seen.text).unwrap_or_default(), out);
        } else {
            out.extend_from_slice(b"null");
        }
    }

    /// Appends what a dlq record shows of a masked value, which may be the very reason why it cannot be published.
    pub(super) fn write_shown(&self, value: Value<'_>, seen: &mut Seen, out: &mut Vec<u8>) {
        match (value, &self.mask) {
            (Value::Text(text) | Value::Binary(text), Some(mask)) => {
                self.write_masked(mask, &String::from_utf8_lossy(text), seen, out);
            }
            _ => out.extend_from_slice(&self.null),
        }
    }

    fn write_unavailable(&self, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        if let Some(mask @ (Mask::Stars(_) | Mask::Null)) = &self.mask {
            // What they show does not depend on the value.
            self.write_masked(mask, "", seen, out);
            return Ok(());
        }
        let is_shown = self.kind.write_unavailable(out);
        if !is_shown && self.is_required {
            let what = "was not sent (unchanged TOAST), and its schema allows no null; the table needs REPLICA IDENTITY FULL";
            return Err(self.poison(PoisonReason::Encode, what));
        }
        if (!is_shown || seen.is_thorough) && !seen.unavailable.contains(&self.place) {
            seen.unavailable.push(self.place);
        }
        Ok(())
    }

    /// A value that cannot be converted: with Debezium's contract it is null where that is allowed (D3), or an element of it is.
    #[cold]
    fn fail(&self, poison: Poison, text: &[u8], seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        if self.invented.is_some() && poison.reason == PoisonReason::Encode {
            let has_rest = self.kind.write_without_refused(text, out).is_some();
            if has_rest || self.is_nullable {
                if !has_rest {
                    out.extend_from_slice(&self.null);
                }
                seen.lost = Some(self.index);
                return Ok(());
            }
        }
        Err(self.poison(poison.reason, &poison.message))
    }

    #[cold]
    fn poison(&self, reason: PoisonReason, what: &str) -> Poison {
        Poison::new(reason, format!("column `{}` {what}", self.name))
    }

    /// Appends the Connect schema of the column.
    pub(super) fn write_schema(&self, is_optional: bool, out: &mut Vec<u8>) {
        let parameter = self.mask.as_ref().and_then(Mask::parameter);
        let field = SchemaField {
            name: Some(&self.name),
            is_optional,
            default: self.default.as_deref().filter(|_| !is_optional || self.invented.is_some()),
            mask: parameter.as_ref().map(|(name, value)| (*name, value.as_str())),
        };
        self.kind.write_schema(&field, out);
    }
}

/// Compiles the columns of one relation version.
pub(super) struct ColumnBuilder<'a> {
    pub(super) relation: &'a Relation,
    pub(super) catalog: &'a Catalog,
    pub(super) rule: &'a Capture,
}

impl ColumnBuilder<'_> {
    /// The column at `index`, standing at `place` in its struct. An error is a mask that does not fit.
    pub(super) fn column(&self, index: usize, place: usize) -> Option<ColumnPlan> {
        let format = &self.rule.format;
        let column = self.relation.columns.get(index)?;
        let known = self.catalog.column(&column.name);
        let mask = self.rule.mask(self.relation, &column.name);
        let shows_text = mask.is_some_and(|mask| *mask != Mask::Null);
        let (type_oid, modifier, type_name) = match shows_text {
            // Whatever the column is, what is shown of it is text.
            true => (Oid(oid::TEXT), -1, None),
            false => (column.type_oid, column.type_modifier, column.type_name.as_deref()),
        };
        let kind = ColumnType::new(type_oid, modifier, type_name, self.catalog, &format.modes);
        let is_nullable = known.is_none_or(|column| column.is_nullable) || mask == Some(&Mask::Null);
        let default = known.filter(|_| mask.is_none()).and_then(|column| {
            let expression = column.default.as_deref()?;
            if format.is_debezium { kind.debezium_default(expression) } else { kind.default_json(expression) }
        });
        // D1: a default in the schema of a nullable column makes readers write it in place of null.
        let default = default.filter(|_| format.is_debezium || !is_nullable);
        let stars = mask.filter(|mask| matches!(mask, Mask::Stars(_)) && format.is_debezium).map(|mask| {
            let mut text = Vec::new();
            mask.write("", None, &mut text);
            [b"\"", text.as_slice(), b"\""].concat().into_boxed_slice()
        });
        let null = stars.or_else(|| default.clone().filter(|_| format.is_debezium)).unwrap_or_else(|| b"null".as_slice().into());
        let invented = format.is_debezium.then(|| {
            let mut text = null.to_vec();
            if !is_nullable && &*null == b"null" {
                text.clear();
                kind.write_fallback(&mut text);
            }
            text.into_boxed_slice()
        });
        let mut member = vec![b','];
        json::write_string(&column.name, &mut member);
        member.push(b':');
        Some(ColumnPlan {
            index,
            place: u32::try_from(place).unwrap_or(u32::MAX),
            name: column.name.clone(),
            member: member.into(),
            kind,
            mask: mask.cloned(),
            length: self.length(column),
            is_identity: column.is_key,
            is_nullable,
            is_required: format.schemas && !is_nullable,
            default,
            null,
            invented,
        })
    }

    /// Characters that varchar(n) and char(n) have room for, through a domain too.
    fn length(&self, column: &Column) -> Option<usize> {
        let (oid, modifier) = match self.catalog.find_type(column.type_oid).map(|found| &found.form) {
            Some(TypeForm::Domain(Oid(base), modifier)) => (*base, *modifier),
            _ => (column.type_oid.0, column.type_modifier),
        };
        let is_limited = matches!(oid, oid::VARCHAR | oid::BPCHAR) && modifier >= 4;
        is_limited.then(|| usize::try_from(modifier - 4).unwrap_or(0))
    }
}
