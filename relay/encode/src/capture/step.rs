//! The records that one change becomes, in their order (event-format.md, sections 5 and 12).

use super::column::Cells;
use super::context::{Context, Marker};
use super::flat::FlatDelete;
use super::plan::{CapturePlan, Scratch};
use super::rule::Shape;
use relay_core::change::OldRow;
use relay_core::{Change, Poison, RelayPos, Row};

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The new row; the operation's letter.
    New(u8),
    /// The old row, as a deletion.
    Old,
    /// A null value for the key of the old row.
    Tombstone,
    /// A deletion whose value is Debezium's null (D30).
    Nothing,
    /// The table was emptied.
    Truncate,
}

/// The records of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    list: [Step; 3],
    pub(super) count: u8,
    /// Whether the key is another one.
    pub(super) is_key_change: bool,
}

/// The rows of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a> {
    pub(super) old: Option<OldRow<'a>>,
    pub(super) new: Option<Row<'a>>,
}

/// A record on its way: what the change becomes, and at which of its parts the encoder is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// With the order of this record.
    pub(super) context: Context<'a>,
    pub(super) sides: Sides<'a>,
    pub(super) step: Step,
    pub(super) part: u8,
    /// Records of the change.
    pub(super) count: u8,
    pub(super) is_key_change: bool,
}

// === impl Record ===

impl Record<'_> {
    /// The position, with its part where the change has several.
    pub(super) fn pos(&self) -> RelayPos<'_> {
        match self.context.pos {
            RelayPos::Log(position) if self.count > 1 => RelayPos::Part(position, self.part.into()),
            pos => pos,
        }
    }
}

// === impl Sides ===

impl<'a> Sides<'a> {
    pub(super) fn of(change: &Change<'a>) -> Self {
        match *change {
            Change::Insert { new, .. } => Self { old: None, new: Some(new) },
            Change::Update { old, new, .. } => Self { old, new: Some(new) },
            Change::Delete { old, .. } => Self { old: Some(old), new: None },
            Change::Truncate { .. } | Change::Message { .. } => Self { old: None, new: None },
        }
    }

    /// The new row, which may leave out what the old one has.
    pub(super) fn new_cells(&self) -> Option<Cells<'a>> {
        Some(Cells { row: self.new?, old: self.old })
    }

    /// The row that a step is about.
    pub(super) fn row(&self, step: Step) -> Option<Row<'a>> {
        match step {
            Step::New(_) => self.new,
            Step::Old | Step::Tombstone | Step::Nothing => self.old.map(|old| match old {
                OldRow::Key(row) | OldRow::Full(row) => row,
            }),
            Step::Truncate => None,
        }
    }
}

// === impl Steps ===

impl Steps {
    fn none() -> Self {
        Self { list: [Step::Truncate; 3], count: 0, is_key_change: false }
    }

    fn one(step: Step) -> Self {
        Self { list: [step; 3], count: 1, is_key_change: false }
    }

    fn push(&mut self, step: Step) {
        if let Some(slot) = self.list.get_mut(usize::from(self.count)) {
            *slot = step;
            self.count += 1;
        }
    }

    pub(super) fn get(&self, part: u8) -> Option<Step> {
        self.list.get(usize::from(part)).copied().filter(|_| part < self.count)
    }

    /// How many records that count stand before that one.
    pub(super) fn counted_before(&self, part: u8) -> u64 {
        self.list.iter().take(usize::from(part.min(self.count))).filter(|step| !matches!(step, Step::Tombstone)).count() as u64
    }
}

// === impl CapturePlan ===

impl CapturePlan {
    /// What the change becomes.
    #[inline]
    pub(super) fn steps(
        &self,
        context: &Context<'_>,
        change: &Change<'_>,
        sides: &Sides<'_>,
        scratch: &mut Scratch,
    ) -> Result<Steps, Poison> {
        Ok(match change {
            Change::Insert { .. } => Steps::one(Step::New(if context.marker == Marker::Streamed { b'c' } else { b'r' })),
            Change::Update { old: None, .. } => Steps::one(Step::New(b'u')),
            Change::Update { .. } => {
                let is_key_change = self.is_key_change(sides, scratch)?;
                if is_key_change && self.rule.splits_key_change {
                    let mut steps = self.deletion();
                    steps.push(Step::New(b'c'));
                    steps.is_key_change = true;
                    steps
                } else {
                    Steps { is_key_change, ..Steps::one(Step::New(b'u')) }
                }
            }
            Change::Delete { .. } => self.deletion(),
            Change::Truncate { .. } => match self.rule.shape {
                Shape::Flat(_) => Steps::none(),
                _ => Steps::one(Step::Truncate),
            },
            Change::Message { .. } => Steps::none(),
        })
    }

    /// What the deletion of a row, or of a key, becomes.
    fn deletion(&self) -> Steps {
        let format = &self.rule.format;
        let mut steps = Steps::none();
        let has_key = self.key.is_some();
        match &self.rule.shape {
            Shape::Debezium | Shape::CloudEvents => {
                steps.push(Step::Old);
                // D5: without a key there is nothing that a tombstone could delete.
                if format.tombstones && (has_key || format.is_debezium) {
                    steps.push(Step::Tombstone);
                }
            }
            Shape::Flat(rule) => match rule.delete {
                FlatDelete::Drop => {}
                FlatDelete::Tombstone if format.is_debezium => steps.push(Step::Nothing),
                FlatDelete::DeleteToTombstone if !has_key && !format.is_debezium => {}
                FlatDelete::Tombstone if !has_key => {}
                FlatDelete::Tombstone | FlatDelete::DeleteToTombstone => steps.push(Step::Tombstone),
                FlatDelete::Rewrite => steps.push(Step::Old),
                FlatDelete::RewriteWithTombstone => {
                    steps.push(Step::Old);
                    if format.tombstones && (has_key || format.is_debezium) {
                        steps.push(Step::Tombstone);
                    }
                }
            },
        }
        steps
    }

    /// Whether the key that the old tuple tells is another one: the keys are compared as they are written.
    pub(super) fn is_key_change(&self, sides: &Sides<'_>, scratch: &mut Scratch) -> Result<bool, Poison> {
        let (Some(key), Some(old), Some(new)) = (&self.key, sides.old, sides.new_cells()) else { return Ok(false) };
        let is_known = key.is_covered || matches!(old, OldRow::Full(_)) || self.rule.format.is_debezium;
        if !is_known {
            return Ok(false);
        }
        let (OldRow::Key(old_row) | OldRow::Full(old_row)) = old;
        let is_partial = matches!(old, OldRow::Key(_));
        let is_same = key.columns.iter().all(|column| {
            (column.is_identity || !is_partial) && old_row.get(column.index) == new.get(column.index, column.is_identity)
        });
        if is_same {
            return Ok(false);
        }
        let Scratch { seen, old_key, new_key, .. } = scratch;
        old_key.clear();
        new_key.clear();
        key.write_old(old, seen, old_key)?;
        key.write_new(&new, seen, new_key)?;
        Ok(old_key != new_key)
    }
}
