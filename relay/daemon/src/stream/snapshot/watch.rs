//! What the stream says of the table whose chunk is being read: the keys of changed rows outdate those of the chunk.

use crate::stream::plans::refusal;
use relay_core::change::OldRow;
use relay_core::session::{Fault, Session};
use relay_core::{Change, Relation, Row};
use relay_encode::{CapturePlan, Captures};
use relay_postgres::TableId;
use relay_postgres::snapshot::{Desk, Shape};
use std::sync::Arc;

/// The plan of the table whose chunk is being read, and which tables of the stream are that table.
#[derive(Debug, Default)]
pub(in crate::stream) struct Watch {
    planned: Option<(Arc<Shape>, CapturePlan)>,
    /// The chunk that the plan is for.
    chunk: u64,
    /// Tables met since the first watermark.
    met: Vec<(TableId, Kind)>,
    key: Vec<u8>,
}

/// What a table of the stream is to the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Other,
    Same,
    /// The chunk's table, in another shape.
    Altered,
}

// === impl Watch ===

impl Watch {
    /// The first watermark of a chunk has come by. Without a plan for its rows nothing can be told apart: it is read again.
    pub(super) fn begin(&mut self, session: &mut Session, chunk: u64, desk: &Desk, captures: &Captures, database: &str) {
        self.met.clear();
        self.chunk = chunk;
        let Some(shape) = desk.shape(chunk) else {
            self.planned = None;
            return session.alter_watched();
        };
        if self.planned.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, &shape)) {
            return;
        }
        self.planned = plan(&shape, captures, database).ok().map(|plan| (shape, plan));
        if self.planned.is_none() {
            session.alter_watched();
        }
    }

    /// Shape and plan of the rows of that chunk.
    pub(super) fn plan(&mut self, chunk: u64) -> Option<&mut (Arc<Shape>, CapturePlan)> {
        self.planned.as_mut().filter(|_| self.chunk == chunk)
    }

    /// A table has a new shape.
    pub(in crate::stream) fn changed(&mut self, table: TableId) {
        self.met.retain(|(met, _)| *met != table);
    }

    fn kind(&mut self, session: &Session, table: TableId, relation: &Relation) -> Kind {
        if let Some((_, kind)) = self.met.iter().find(|(met, _)| *met == table) {
            return *kind;
        }
        let is_it = session.watched_table().is_some_and(|name| {
            name.strip_prefix(&*relation.schema).and_then(|rest| rest.strip_prefix('.')) == Some(&relation.name)
        });
        let is_same = |shape: &Shape| {
            shape.relation.columns == relation.columns
                && shape.relation.identity == relation.identity
                && shape.relation.oid == relation.oid
        };
        let kind = match &self.planned {
            _ if !is_it => Kind::Other,
            Some((shape, _)) if is_same(shape) => Kind::Same,
            _ => Kind::Altered,
        };
        self.met.push((table, kind));
        kind
    }

    /// A change was read while a chunk waits for its second watermark.
    pub(in crate::stream) fn saw(&mut self, session: &mut Session, table: TableId, change: &Change<'_>) {
        let Some(relation) = change.relation() else { return };
        match self.kind(session, table, relation) {
            Kind::Other => {}
            Kind::Altered => session.alter_watched(),
            Kind::Same => match change {
                Change::Insert { new, .. } => self.supersede(session, new, true),
                Change::Delete { old: OldRow::Key(old) | OldRow::Full(old), .. } => self.supersede(session, old, true),
                Change::Update { old, new, .. } => {
                    let has_old = old.is_some();
                    if let Some(OldRow::Key(old) | OldRow::Full(old)) = old {
                        self.supersede(session, old, true);
                    }
                    // Of an unchanged key that is not sent again the old row tells.
                    self.supersede(session, new, !has_old);
                }
                Change::Truncate { .. } => session.supersede_all(),
                Change::Message { .. } => {}
            },
        }
    }

    fn supersede(&mut self, session: &mut Session, row: &Row<'_>, must_be_whole: bool) {
        let Some((_, plan)) = &self.planned else { return };
        self.key.clear();
        if plan.identity(row, &mut self.key) {
            session.supersede(&self.key);
        } else if must_be_whole && plan.has_identity() {
            session.alter_watched();
        }
    }
}

/// The plan for a snapshot's rows, or why there is none.
pub(super) fn plan(shape: &Shape, captures: &Captures, database: &str) -> Result<CapturePlan, Fault> {
    let relation = &shape.relation;
    let unrouted = || Fault { kind: relay_core::Kind::Unrouted, message: format!("no [[capture]] names table {relation}") };
    let capture = captures.table(relation).ok_or_else(unrouted)?;
    CapturePlan::compile(capture, relation, &shape.catalog, database).map_err(|error| refusal(&error))
}
