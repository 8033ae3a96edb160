//! What polling knows between its turns: the tables, the work at hand, the shape of its rows, and when to look again.

mod turn;

use super::mark::Marker;
use super::marks::{self, Marks, Range};
use relay_core::session::{Rows, Session, Work};
use relay_core::{Cell, Column, Relation, ReplicaIdentity, Snapshot};
use relay_postgres::poll::{PollColumns, PollConfig, PollRule, PolledTable, Poller};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the wire thread must know to poll.
#[derive(Clone)]
pub(crate) struct Config {
    /// Longest wait between two looks while nothing comes.
    pub(crate) interval: Duration,
    /// Pages and lock.
    pub(crate) poll: PollConfig,
    /// Whether a slot is to be made, and polling to end at it.
    pub(crate) ends_in_log: bool,
    /// What the routes say of a table, given as `schema.table`.
    pub(crate) rule: Rule,
    /// Whether a route names tables by a glob, so that new ones may appear.
    pub(crate) has_globs: bool,
    /// The tables that routes name without one; they may be made later, too.
    pub(crate) named: Vec<String>,
}

/// How a table is polled, if it is.
pub(crate) type Rule = Arc<dyn Fn(&str) -> Option<PollRule> + Send + Sync>;

/// The polling source of a pipeline.
pub(super) struct Polling {
    pub(super) config: Config,
    /// While the lock is held.
    poller: Option<Box<Poller>>,
    /// The tables as they were listed last.
    tables: Vec<PolledTable>,
    current: Option<Current>,
    shapes: Vec<Shape>,
    cells: Vec<Cell>,
    marks: Marks,
    /// How long the next wait is, and until when this one lasts.
    wait: Duration,
    look_at: Instant,
    has_rows: bool,
    listed_at: Instant,
    /// The snapshot of the tick that was taken last.
    seen: Option<Snapshot>,
}

/// The work whose rows are being read.
struct Current {
    work: Work,
    table: usize,
    shape: usize,
    /// Columns that polling reads itself, once the rows' shape is known.
    columns: Option<PollColumns>,
    /// The order value of the row at the head of a tick.
    order: Option<i64>,
    /// The place of the claimed row at the head, once it has one.
    index: Option<usize>,
    /// The places that the rows of a claim had when they were read first.
    places: Option<HashMap<Vec<String>, usize>>,
    /// Whether the table's rows are marked once they are published.
    is_marked: bool,
    /// Rows handled since a range was noted: how many, the first and last order value.
    range: Option<(usize, i64, i64)>,
    /// A range was noted.
    has_part: bool,
}

/// A table's rows as they were described last.
struct Shape {
    name: Arc<str>,
    relation: Relation,
    columns: Option<Arc<[relay_pgwire::Column]>>,
}

/// The first wait between two looks that find nothing.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// How often new tables are looked for whatever ticks say, where a route has a glob or its table is missing.
const LIST_INTERVAL: Duration = Duration::from_secs(10);

// === impl Polling ===

impl Polling {
    pub(super) fn new(config: Config, marker: Marker) -> Self {
        let now = Instant::now();
        Self {
            marks: Marks::new(marker, config.poll.batch),
            config,
            poller: None,
            tables: Vec::new(),
            current: None,
            shapes: Vec::new(),
            cells: Vec::new(),
            wait: Duration::ZERO,
            look_at: now,
            has_rows: false,
            listed_at: now,
            seen: None,
        }
    }

    /// Backend that holds the lock, while it does.
    pub(super) fn holder(&self) -> Option<i32> {
        self.poller.as_ref().map(|poller| poller.backend_pid())
    }

    pub(super) fn held(&mut self, poller: Box<Poller>, session: &Session) {
        self.marks.resume(session);
        for table in poller.tables().iter().filter(|table| table.has_null_xid) {
            tracing::warn!(
                event = "poll.null_xid",
                table = table.name,
                hint = "ALTER TABLE … ALTER COLUMN … SET NOT NULL",
                "the xid8 column takes NULL; a row with NULL in it is in no tick and is never published"
            );
        }
        for name in self.config.named.iter().filter(|name| poller.table(name).is_none()) {
            tracing::warn!(event = "poll.no_table", table = name, "there is no such table yet; it is polled as soon as there is");
        }
        self.tables = poller.tables().to_vec();
        self.poller = Some(poller);
        self.seen = None;
        self.listed_at = Instant::now();
        self.look_at = Instant::now();
    }

    pub(super) fn rewound(&mut self) {
        self.marks.rewound();
    }

    /// The new slot at which polling ends; `None` when the lock was lost meanwhile.
    pub(super) fn end_at(&mut self, slot: relay_postgres::poll::NewSlot) -> Option<relay_core::session::Exported> {
        let poller = self.poller.as_mut()?;
        poller.end_at(slot.exporter, slot.snapshot_name);
        self.look_at = Instant::now();
        Some(slot.exported)
    }

    /// The lock is let go.
    pub(super) fn release(&mut self) {
        self.poller = None;
        self.current = None;
    }

    /// Polling starts behind a position.
    pub(super) fn started(&mut self, session: &Session) {
        self.marks.start(session, &self.tables);
    }

    /// Waits until what was published is marked.
    pub(super) fn finish(self, session: &Session) {
        self.marks.finish(session, &self.tables);
    }

    fn shape(&mut self, name: &Arc<str>) -> usize {
        if let Some(at) = self.shapes.iter().position(|shape| shape.name == *name) {
            return at;
        }
        let (schema, table) = name.split_once('.').unwrap_or(("", name));
        let relation = Relation {
            oid: relay_core::Oid(0),
            schema: schema.into(),
            name: table.into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        };
        self.shapes.push(Shape { name: Arc::clone(name), relation, columns: None });
        self.shapes.len() - 1
    }

    /// Everything known was read: the next look comes at once after rows, and ever later while there are none.
    fn is_time(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.has_rows) {
            (self.wait, self.look_at) = (Duration::ZERO, now);
        }
        if now < self.look_at {
            return false;
        }
        self.wait = (self.wait * 2).max(FIRST_WAIT).min(self.config.interval);
        self.look_at = now + self.wait;
        true
    }
}

// === impl Current ===

impl Current {
    /// The row at the head of a tick is dealt with; gives a range once it has as many rows as a page.
    fn handled(&mut self, batch: usize) -> Option<Range> {
        let order = self.order.take()?;
        let (rows, _, high) = self.range.get_or_insert((0, order, order));
        (*rows, *high) = (*rows + 1, order);
        if *rows < batch { None } else { self.take_range(false) }
    }

    fn take_range(&mut self, has_end: bool) -> Option<Range> {
        let (rows, low, high) = self.range.take()?;
        let has_start = !std::mem::replace(&mut self.has_part, true) && matches!(self.work.rows, Rows::Tick { from: None, .. });
        marks::range(&self.work, rows, (low, high), has_start, has_end)
    }
}

// === impl Shape ===

impl Shape {
    /// Takes the shape of the rows at hand; whether it is a new one.
    fn learn(&mut self, columns: Option<&Arc<[relay_pgwire::Column]>>) -> bool {
        let Some(columns) = columns.filter(|columns| self.columns.as_ref() != Some(columns)) else { return false };
        let column = |column: &relay_pgwire::Column| Column {
            name: column.name.as_str().into(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            type_name: None,
            is_key: false,
        };
        self.relation.columns = columns.iter().map(column).collect();
        self.columns = Some(Arc::clone(columns));
        true
    }
}
