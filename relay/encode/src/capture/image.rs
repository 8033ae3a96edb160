//! Rows and keys as JSON objects: whole rows, and what an old tuple has of them.

use super::column::{Cells, ColumnPlan, Seen};
use super::plan::KeyPlan;
use relay_core::change::OldRow;
use relay_core::{Poison, PoisonReason};

/// Turns the members written since `start`, each with a comma before it, into an object that is still open.
#[inline]
pub(super) fn open_object(start: usize, out: &mut Vec<u8>) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
}

/// Appends a whole row, without its closing brace.
#[inline]
pub(super) fn write_open_row(
    columns: &[ColumnPlan],
    cells: &Cells<'_>,
    seen: &mut Seen,
    out: &mut Vec<u8>,
) -> Result<(), Poison> {
    let start = out.len();
    for column in columns {
        out.extend_from_slice(&column.member);
        column.write(cells, seen, out)?;
    }
    open_object(start, out);
    Ok(())
}

/// Appends what an old tuple has, without the closing brace: of identity columns only, others are absent, or invented (D2).
pub(super) fn write_open_old(columns: &[ColumnPlan], old: OldRow<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
    let row = match old {
        OldRow::Full(row) => return write_open_row(columns, &Cells::of(row), seen, out),
        OldRow::Key(row) => Cells::of(row),
    };
    let start = out.len();
    for column in columns {
        if column.is_identity {
            out.extend_from_slice(&column.member);
            column.write(&row, seen, out)?;
        } else if let Some(invented) = &column.invented {
            out.extend_from_slice(&column.member);
            out.extend_from_slice(invented);
        }
    }
    open_object(start, out);
    Ok(())
}

// === impl KeyPlan ===

impl KeyPlan {
    /// Appends the key of a whole row, without schema.
    #[inline]
    pub(super) fn write_new(&self, cells: &Cells<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        self.write_columns(out, |column, out| column.write_key(cells, seen, out))
    }

    /// Appends the key of a row as Connect prints it in a header (D28), by the rules of the row's side.
    pub(super) fn write_connect(
        &self,
        cells: &Cells<'_>,
        is_partial: bool,
        seen: &mut Seen,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        self.write_columns(out, |column, out| match &column.invented {
            Some(invented) if is_partial && !column.is_identity => {
                out.extend_from_slice(invented);
                Ok(())
            }
            _ => column.write_connect(cells, seen, out),
        })
    }

    #[inline]
    fn write_columns(
        &self,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&ColumnPlan, &mut Vec<u8>) -> Result<(), Poison>,
    ) -> Result<(), Poison> {
        let start = out.len();
        for column in &self.columns {
            out.extend_from_slice(&column.member);
            write(column, out)?;
        }
        open_object(start, out);
        out.push(b'}');
        Ok(())
    }

    /// Appends the key that an old tuple tells, without schema. Without every column of it there is none (D27).
    pub(super) fn write_old(&self, old: OldRow<'_>, seen: &mut Seen, out: &mut Vec<u8>) -> Result<(), Poison> {
        let row = match old {
            OldRow::Full(row) => return self.write_new(&Cells::of(row), seen, out),
            OldRow::Key(row) => Cells::of(row),
        };
        self.write_columns(out, |column, out| match &column.invented {
            _ if column.is_identity => column.write_key(&row, seen, out),
            Some(invented) => {
                out.extend_from_slice(invented);
                Ok(())
            }
            None => {
                let message = format!("the old row does not have column `{}` of the key", column.name);
                Err(Poison::new(PoisonReason::Route, message))
            }
        })
    }
}
