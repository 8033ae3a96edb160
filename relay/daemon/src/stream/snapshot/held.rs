//! Snapshot markers: which row is the first and which the last, of a table and of all (event-format.md, section 7).

use relay_encode::SnapshotMarker;
use std::sync::Arc;

/// Marks rows in the order of their tables. A row that may be the last of its table is held back until more is known.
#[derive(Debug)]
pub(super) struct Markers {
    /// The table of the last row, held or not, by its name in the stream.
    table: Option<Arc<str>>,
    /// The first table of all, with rows or without.
    first: Option<Arc<str>>,
}

// === impl Markers ===

impl Markers {
    pub(super) fn new(first: Option<Arc<str>>) -> Self {
        Self { table: None, first }
    }

    /// The mark of the next row, should another row of its table follow.
    pub(super) fn next(&mut self, table: &Arc<str>) -> SnapshotMarker {
        match &self.table {
            // Debezium gives it to the first row of the first table alone (recorded from 3.7.0).
            None if self.first.as_ref() == Some(table) => SnapshotMarker::First,
            Some(last) if last == table => SnapshotMarker::Other,
            _ => SnapshotMarker::FirstInTable,
        }
    }

    /// The row that [`Markers::next`] was asked about is sent, or held.
    pub(super) fn pass(&mut self, table: &Arc<str>) {
        if self.table.as_ref().is_none_or(|last| last != table) {
            self.table = Some(Arc::clone(table));
        }
    }
}

/// The mark of a row that was held with `mark`: a row of that table follows, or of another one, or none.
pub(super) fn release(mark: SnapshotMarker, table: &str, next: Option<&str>) -> SnapshotMarker {
    match (mark, next) {
        (_, None) => SnapshotMarker::Last,
        (SnapshotMarker::First, Some(_)) => SnapshotMarker::First,
        (_, Some(next)) if next != table => SnapshotMarker::LastInTable,
        (mark, Some(_)) => mark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SnapshotMarker::{First, FirstInTable, Last, LastInTable, Other};

    /// Marks rows of these tables, each of them held as long as it may be the last.
    fn marks(tables: &[&str]) -> Vec<SnapshotMarker> {
        let mut markers = Markers::new(tables.first().map(|&first| first.into()));
        let mut marked = Vec::new();
        for (at, table) in tables.iter().enumerate() {
            let table: Arc<str> = (*table).into();
            let mark = markers.next(&table);
            markers.pass(&table);
            marked.push(release(mark, &table, tables.get(at + 1).copied()));
        }
        marked
    }

    #[test]
    fn the_first_and_the_last_row_of_tables_and_of_all_are_marked() {
        assert_eq!(
            marks(&["a", "a", "a", "b", "b", "c", "c"]),
            [First, Other, LastInTable, FirstInTable, LastInTable, FirstInTable, Last]
        );
        // Where several fit: last, first, last of its table, first of it.
        assert_eq!(marks(&["a"]), [Last]);
        assert_eq!(marks(&["a", "b"]), [First, Last]);
        assert_eq!(marks(&["a", "b", "c", "c"]), [First, LastInTable, FirstInTable, Last]);
        // The first table has no rows.
        assert_eq!(Markers::new(Some("a".into())).next(&"b".into()), FirstInTable);
    }
}
