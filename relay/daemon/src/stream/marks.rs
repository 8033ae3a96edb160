//! What polling has published and must still mark: noted while rows are read, handed over in bulk once it is durable.

use super::mark::{Marker, Task};
use relay_core::Lsn;
use relay_core::session::{Rows, Session, Tick, Work, row_order, row_position};
use relay_postgres::poll::{Mark, PolledTable};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The marks of a pipeline that are to be made.
pub(super) struct Marks {
    marker: Marker,
    /// Rows of one statement.
    batch: usize,
    /// Parts of ticks that are not durable yet, in the order of reading.
    noted: VecDeque<Range>,
    /// Parts of ticks that are durable, by table.
    durable: HashMap<Arc<str>, VecDeque<Range>>,
    claims: HashMap<Lsn, Claim>,
    /// Tasks that the marker has, by table.
    pending: HashMap<Arc<str>, Arc<AtomicUsize>>,
    marked_at: Instant,
    /// The session went back to its frontier: what was noted beyond it is read, and noted, again.
    is_rewound: bool,
}

/// Rows of a table that one tick sees and an earlier one does not, between two order values.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) table: Arc<str>,
    pub(super) previous: Arc<Tick>,
    pub(super) tick: Arc<Tick>,
    /// Number of the work that read its last row.
    pub(super) number: Lsn,
    /// Order value of its last row; a range over several ticks may hold a higher one.
    pub(super) last: i64,
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) rows: usize,
    /// Nothing of its first tick stands before it.
    pub(super) has_start: bool,
    /// Nothing of its last tick stands behind it.
    pub(super) has_end: bool,
}

/// Rows that were claimed, by their keys.
struct Claim {
    table: Arc<str>,
    keys: Vec<Vec<String>>,
    /// So many of the keys were given to the marker.
    marked: usize,
    has_ended: bool,
}

/// Less than a statement's worth of rows waits so long for more.
const MARK_INTERVAL: Duration = Duration::from_millis(500);
/// Tasks of one table that the marker may have; more waits here and grows together.
const MAX_PENDING: usize = 2;
/// Rows of one statement that marks what an earlier process left.
const LEFT_ROWS: usize = 5_000;
/// How long a clean stop waits for the last marks.
const LAST_MARKS: Duration = Duration::from_secs(5);

// === impl Range ===

impl Range {
    /// Takes the range behind it in, if one condition describes both and few enough rows are in them.
    fn merge(&mut self, next: &Range, limit: usize) -> bool {
        let is_one_tick = self.number == next.number;
        let are_whole = self.has_start && self.has_end && next.has_start && next.has_end;
        if self.rows + next.rows > limit || !(is_one_tick || are_whole) {
            return false;
        }
        self.tick = Arc::clone(&next.tick);
        (self.number, self.last) = (next.number, next.last);
        (self.low, self.high) = (self.low.min(next.low), self.high.max(next.high));
        self.rows += next.rows;
        self.has_end = next.has_end;
        true
    }
}

// === impl Marks ===

impl Marks {
    pub(super) fn new(marker: Marker, batch: usize) -> Self {
        Self {
            marker,
            batch,
            noted: VecDeque::new(),
            durable: HashMap::new(),
            claims: HashMap::new(),
            pending: HashMap::new(),
            marked_at: Instant::now(),
            is_rewound: false,
        }
    }

    /// Polling starts behind a position: what an earlier process published and had no time to mark is marked now.
    pub(super) fn start(&mut self, session: &Session, tables: &[PolledTable]) {
        // Rows of an older life that are not durable are read anew.
        self.claims.clear();
        self.noted.clear();
        self.durable.clear();
        let Some(published) = session.published() else { return };
        for table in tables {
            let half = session.half_tick().and_then(|(tick, orders)| Some((tick, *orders.get(&table.name)?)));
            if let Some(statement) = table.mark_left(published, half, LEFT_ROWS) {
                self.give(&Arc::from(table.name.as_str()), vec![statement], true);
            }
        }
    }

    pub(super) fn rewound(&mut self) {
        self.is_rewound = true;
    }

    /// Reading goes on at the frontier.
    pub(super) fn resume(&mut self, session: &Session) {
        if std::mem::take(&mut self.is_rewound) {
            let inside = session.window().frontier().inside;
            self.noted.retain_mut(|range| {
                let handled = inside.filter(|inside| inside.commit_lsn == range.number).map(row_order);
                let high = handled.map_or(range.low - 1, |handled| handled.min(range.high));
                range.has_end &= high == range.high;
                (range.high, range.last) = (high, high);
                range.low <= range.high
            });
        }
    }

    /// Rows of a tick were handled.
    pub(super) fn note(&mut self, range: Range) {
        self.noted.push_back(range);
    }

    /// A claim is being read; the keys that it had when it was read first.
    pub(super) fn claimed(&self, number: Lsn) -> Option<&[Vec<String>]> {
        self.claims.get(&number).map(|claim| claim.keys.as_slice())
    }

    /// A claim is read for the first time.
    pub(super) fn begin_claim(&mut self, work: &Work) {
        let table = Arc::clone(&work.table);
        self.claims.insert(work.number, Claim { table, keys: Vec::new(), marked: 0, has_ended: false });
    }

    /// The next row of a claim has this key; gives its place in the claim.
    pub(super) fn claim_row(&mut self, number: Lsn, key: Vec<String>) -> Option<usize> {
        let claim = self.claims.get_mut(&number)?;
        claim.keys.push(key);
        Some(claim.keys.len() - 1)
    }

    pub(super) fn end_claim(&mut self, number: Lsn) {
        if let Some(claim) = self.claims.get_mut(&number) {
            claim.has_ended = true;
        }
    }

    /// Whether rows of the table are claimed, or their marks under way: what is claimed next would hold them again.
    pub(super) fn is_busy(&self, table: &str) -> bool {
        self.pending_of(table) > 0 || self.claims.values().any(|claim| &*claim.table == table)
    }

    fn pending_of(&self, table: &str) -> usize {
        self.pending.get(table).map_or(0, |pending| pending.load(Ordering::Acquire))
    }

    fn give(&mut self, table: &Arc<str>, statements: Vec<String>, repeats: bool) {
        if statements.is_empty() {
            return;
        }
        let pending = Arc::clone(self.pending.entry(Arc::clone(table)).or_default());
        self.marker.give(Task { table: Arc::clone(table), statements, repeats, pending });
    }

    /// Gives the marker what has become durable: a statement's worth of rows, or what there is from time to time.
    pub(super) fn mark(&mut self, session: &Session, tables: &[PolledTable], is_forced: bool) {
        if self.noted.is_empty() && self.claims.is_empty() && self.durable.is_empty() {
            return;
        }
        let frontier = session.durable();
        while self.noted.front().is_some_and(|range| frontier.covers(row_position(range.number, range.last))) {
            let Some(range) = self.noted.pop_front() else { break };
            let queue = self.durable.entry(Arc::clone(&range.table)).or_default();
            if !queue.back_mut().is_some_and(|last| last.merge(&range, self.batch)) {
                queue.push_back(range);
            }
        }
        let is_due = is_forced || self.marked_at.elapsed() >= MARK_INTERVAL;
        let mut tasks: Vec<(Arc<str>, Vec<String>)> = Vec::new();
        for (name, queue) in &mut self.durable {
            let Some(table) = tables.iter().find(|table| *table.name == **name) else { continue };
            let mut room =
                MAX_PENDING.saturating_sub(self.pending.get(name).map_or(0, |pending| pending.load(Ordering::Acquire)));
            while (room > 0 || is_forced)
                && (is_due || queue.len() > 1 || queue.front().is_some_and(|range| range.rows >= self.batch))
                && let Some(range) = queue.pop_front()
            {
                tasks.push((Arc::clone(name), table.mark_range(&range.previous, &range.tick, (range.low, range.high))));
                room = room.saturating_sub(1);
            }
        }
        self.durable.retain(|_, queue| !queue.is_empty());
        for (number, claim) in &mut self.claims {
            let is_whole = claim.has_ended && frontier.end_lsn > *number;
            let inside =
                frontier.inside.filter(|inside| inside.commit_lsn == *number).map_or(0, |inside| inside.seq as usize + 1);
            let durable = if frontier.end_lsn > *number { claim.keys.len() } else { inside.min(claim.keys.len()) };
            if durable > claim.marked && (is_whole || is_due) {
                let table = tables.iter().find(|table| *table.name == *claim.table);
                let statement = table.and_then(|table| table.mark_keys(&claim.keys[claim.marked..durable]));
                tasks.push((Arc::clone(&claim.table), statement.into_iter().collect()));
                claim.marked = durable;
            }
        }
        self.claims.retain(|number, claim| !(claim.has_ended && frontier.end_lsn > *number && claim.marked == claim.keys.len()));
        if is_due || !tasks.is_empty() {
            self.marked_at = Instant::now();
        }
        for (table, statements) in tasks {
            self.give(&table, statements, false);
        }
    }

    /// Waits until what was published is marked: a clean stop repeats nothing.
    pub(super) fn finish(mut self, session: &Session, tables: &[PolledTable]) {
        self.mark(session, tables, true);
        self.marker.finish(LAST_MARKS);
    }
}

/// Whether rows of the table are to be marked at all.
pub(super) fn are_marked(table: Option<&PolledTable>) -> bool {
    table.is_some_and(|table| table.rule.mark != Mark::Keep)
}

/// A range of the rows of a tick that a work reads.
pub(super) fn range(work: &Work, rows: usize, (low, high): (i64, i64), has_start: bool, has_end: bool) -> Option<Range> {
    let Rows::Tick { previous, tick, .. } = &work.rows else { return None };
    Some(Range {
        table: Arc::clone(&work.table),
        previous: Arc::clone(previous),
        tick: Arc::clone(tick),
        number: work.number,
        last: high,
        low,
        high,
        rows,
        has_start,
        has_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, (low, high): (i64, i64), has_start: bool, has_end: bool) -> Range {
        let tick = |at: u64| {
            let snapshot = format!("{at}:{at}:").parse().expect("legal");
            Arc::new(Tick { snapshot, wal_end: Lsn(at), time_us: 0 })
        };
        let (previous, tick) = (tick(number + 9), tick(number + 10));
        let rows = Rows::Tick { previous, tick, from: None };
        let work = Work { number: Lsn(number), table: "public.outbox".into(), rows, time_us: 0 };
        range(&work, 10, (low, high), has_start, has_end).expect("a tick's")
    }

    #[test]
    fn ranges_grow_together_only_where_one_condition_describes_them() {
        // Parts of one tick; then a whole tick whose rows were written earlier.
        let mut found = part(1, (1, 10), true, false);
        assert!(found.merge(&part(1, (11, 20), false, true), 100));
        assert!(found.merge(&part(2, (5, 7), true, true), 100));
        assert_eq!((found.low, found.high, found.last, found.rows, found.number), (1, 20, 7, 30, Lsn(2)));
        assert_eq!((found.previous.snapshot.to_string(), found.tick.snapshot.to_string()), ("10:10:".into(), "12:12:".into()));
        // What stands behind the part is not published: the condition over both ticks would hold it.
        assert!(!found.clone().merge(&part(3, (21, 30), true, false), 100));
        assert!(!part(1, (1, 10), true, false).merge(&part(2, (11, 20), true, true), 100));
        assert!(!part(1, (5, 10), false, true).merge(&part(2, (11, 20), true, true), 100));
        assert!(!found.merge(&part(3, (21, 30), true, true), 39), "too many for one statement");
    }
}
