//! Chunks between two watermarks of the log: the rows that the stream has not outdated are published at the second one.

use super::chunk::{Chunk, ChunkRead};
use super::watch::Fate;
use super::{Copying, Emitted, Read, Step};
use crate::checkpoint::Tid;
use crate::position::Position;
use crate::session::{Fault, Note, Order, Session};
use crate::sink::{Poison, PoisonReason};
use crate::snapshot::Snapshot;
use crate::window::{Failure, Ticket};
use std::sync::Arc;

/// What a query sees now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// `pg_current_snapshot()`.
    pub snapshot: Snapshot,
    /// `pg_current_xact_id()`, if it was asked for: given out after everything that had begun before.
    pub id: Option<u64>,
}

/// What a watermark in the stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermark {
    /// Nothing is to be published.
    Pass,
    /// The chunk of that number: its rows follow here, but for those that are superseded; then [`Session::chunk_sent`].
    Publish(u64),
}

/// What to do with a row of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowAdmission {
    /// It is to be published.
    Fresh,
    /// It is known to be refused by the broker: the poison policy has it.
    Condemned(Poison),
}

/// A chunk that does not fit is read again smaller, down to this share of the rows asked for.
const DIVISOR_MAX: f64 = 65_536.0;
/// Wait between looks for transactions that must be over first.
const LOOK_MS: u64 = 500;
/// Wait before a look that failed is tried again while no snapshot is owed.
const UNOWED_MS: u64 = 30_000;
/// Waits before a chunk is read again: doubling.
const AGAIN_MS: (u64, u64) = (20, 2_000);
/// After so long a row that was refused, and that nobody parked or skipped, is tried again.
const CONDEMNED_MS: u64 = 60_000;

// === impl Copying ===

impl Copying {
    /// The first part that is neither done nor on its way.
    fn cut(&mut self) -> Option<Chunk> {
        let (Some(tables), Some(config)) = (&self.tables, self.config) else { return None };
        let job = self.position.jobs.first()?;
        let progress = job.progress.as_ref()?;
        for table in tables {
            let name = &table.listed.name;
            let Some(open) = progress.get(&**name).and_then(|position| position.as_open()) else { continue };
            let mut open = open.clone();
            let is_it = |of: u64, table: &str, file: u32| of == job.number && *table == **name && file == open.file;
            let emitted = self.emitted.iter().filter(|part| is_it(part.job, &part.table, part.file));
            let handed = self.handed.iter().filter(|(_, part)| is_it(part.job, &part.table, part.file));
            let parts: Vec<_> =
                emitted.map(|part| (part.from, part.to)).chain(handed.map(|(_, part)| (part.from, part.to))).collect();
            parts.into_iter().for_each(|(from, to)| open.add(from, to));
            let Some((from, to)) = open.gap(Tid::default()) else { continue };
            let to = table.cut(from, to, config.chunk_rows as f64 / self.divisor);
            self.number += 1;
            let filter = job.filter.as_deref().map(Arc::from);
            let (table, stream) = (Arc::clone(name), Arc::clone(&table.listed.stream));
            return Some(Chunk { number: self.number, job: job.number, table, stream, file: open.file, from, to, filter });
        }
        None
    }

    /// Whether a culprit is looked for among the rows of chunks: everything goes one at a time.
    #[inline]
    pub(in crate::session) fn is_careful(&self) -> bool {
        self.careful.is_some() && (self.sent.is_some() || matches!(self.step, Step::Emitting(..)))
    }

    /// The row offered last was sent.
    #[cold]
    pub(in crate::session) fn sent_careful(&mut self) {
        if let Step::Emitting(chunk, _) = &self.step {
            self.sent = self.offered.map(|tid| (Arc::clone(&chunk.table), tid));
        }
    }

    /// Whether the position is that of a row of a chunk.
    pub(in crate::session) fn owns(&self, position: Position) -> bool {
        self.emitted.iter().any(|emitted| emitted.commit_lsn == position.commit_lsn)
    }

    fn learn(&mut self, chunk: &Chunk, read: &Read) {
        if let Some(table) = self.tables.iter_mut().flatten().find(|table| table.listed.name == chunk.table) {
            table.learn(chunk.from, read.end, read.rows);
        }
    }
}

// === impl Session ===

impl Session {
    /// What earlier processes streamed must be visible before a chunk is read. It is looked at from the beginning of the stream on, so
    /// that a snapshot which is asked for later does not wait for whoever writes by then. True while it is not.
    pub(super) fn must_look(&mut self) -> bool {
        if self.copying.config.is_none() || self.copying.seen.is_passed() {
            return false;
        }
        let number = self.copying.next_number();
        self.copying.step = Step::Looking(number);
        let takes_id = self.copying.seen.needs_id();
        self.order(Order::Look { number, takes_id });
        true
    }

    pub(super) fn next_chunk(&mut self) {
        if self.must_look() {
            return;
        }
        if let Some(chunk) = self.copying.cut() {
            self.copying.step = Step::Reading(chunk.clone());
            self.order(Order::ReadChunk(chunk));
        }
    }

    pub(in crate::session) fn looked(&mut self, number: u64, result: Result<Look, Fault>) {
        if !matches!(self.copying.step, Step::Looking(asked) if asked == number) {
            return;
        }
        let is_owed = !self.copying.position.jobs.is_empty();
        let look = match result {
            Ok(look) => look,
            Err(fault) if is_owed => return self.copy_failed(fault),
            // Nobody waits for it; a standby, for one, gives out no transaction ids.
            Err(_) => {
                self.copying.step = Step::Pause { until_ms: self.now_ms + UNOWED_MS };
                return;
            }
        };
        let is_first = look.id.is_some();
        if let Some(id) = look.id {
            self.copying.seen.wait_until(id);
        }
        self.copying.seen.prune(&look.snapshot);
        self.copying.step = Step::Idle;
        if !self.copying.seen.is_passed() && !is_first {
            if is_owed {
                self.note(Note::SnapshotWaits);
            }
            self.copying.step = Step::Pause { until_ms: self.now_ms + LOOK_MS };
        }
    }

    pub(in crate::session) fn chunk_read(&mut self, number: u64, result: Result<ChunkRead, Fault>) {
        let chunk = match std::mem::take(&mut self.copying.step) {
            Step::Reading(chunk) if chunk.number == number => chunk,
            step => return self.copying.step = step,
        };
        match result {
            Ok(ChunkRead::Rows { end, rows, snapshot }) => {
                let end = end.clamp(chunk.from, chunk.to);
                self.copying.step = Step::Marking(chunk, Read { end, rows, snapshot });
                self.order(Order::Mark(number));
            }
            Ok(ChunkRead::Rewritten { file, blocks }) => {
                if let Some(position) = self.copying.table_position(chunk.job, &chunk.table) {
                    position.restart(file, blocks);
                }
                // What is on its way counts for the file that it was read from.
                self.copying.changed();
                self.note(Note::SnapshotTableAgain(chunk.table.to_string()));
            }
            Ok(ChunkRead::Gone) => {
                if let Some(job) = self.copying.position.jobs.iter_mut().find(|job| job.number == chunk.job)
                    && let Some(progress) = &mut job.progress
                {
                    progress.remove(&*chunk.table);
                }
                self.copying.changed();
                self.note(Note::SnapshotTableGone(chunk.table.to_string()));
            }
            Err(fault) => self.copy_failed(fault),
        }
    }

    pub(in crate::session) fn marked(&mut self, number: u64, result: Result<(), Fault>) {
        if let Err(fault) = result
            && matches!(&self.copying.step, Step::Marking(chunk, _) if chunk.number == number)
        {
            self.copy_failed(fault);
        }
    }

    /// The content of a chunk's watermark: only the process that set it knows what it means.
    #[must_use]
    pub fn watermark_text(&self, number: u64, is_second: bool) -> String {
        let which = if is_second { "high" } else { "low" };
        format!("{}/{}/{number}/{which}", self.config.name, self.config.instance)
    }

    /// A fresh message with the prefix of watermarks is the stream's current change. Asking again, when the sink was full, is harmless.
    pub fn watermark(&mut self, content: &[u8]) -> Watermark {
        let is = |number: u64, is_second: bool| content == self.watermark_text(number, is_second).as_bytes();
        match &self.copying.step {
            Step::Reading(chunk) | Step::Marking(chunk, _) if is(chunk.number, false) => {
                self.copying.seen.low();
                self.copying.watch.begin();
            }
            Step::Emitting(chunk, _) if is(chunk.number, true) => return Watermark::Publish(chunk.number),
            Step::Marking(chunk, _) if is(chunk.number, true) => return self.high(),
            _ => {}
        }
        Watermark::Pass
    }

    /// The second watermark has come: is what was read still worth something?
    fn high(&mut self) -> Watermark {
        let Step::Marking(chunk, read) = std::mem::take(&mut self.copying.step) else { return Watermark::Pass };
        let number = chunk.number;
        let fate = self.copying.watch.fate();
        let is_visible = self.copying.seen.is_visible_in(&read.snapshot);
        // Seen once, seen for good; what is not stays remembered for the next read.
        self.copying.seen.prune(&read.snapshot);
        if fate == Fate::Fit && is_visible && self.copying.watch.is_on() {
            self.copying.rereads_in_a_row = 0;
            self.copying.step = Step::Emitting(chunk, read);
            return Watermark::Publish(number);
        }
        if fate == Fate::TooManyKeys {
            self.copying.divisor = (self.copying.divisor * 2.0).min(DIVISOR_MAX);
        }
        self.copying.watch.end();
        self.copying.rereads += 1;
        let wait_ms = (AGAIN_MS.0 << self.copying.rereads_in_a_row.min(10)).min(AGAIN_MS.1);
        self.copying.rereads_in_a_row += 1;
        self.copying.step = Step::Pause { until_ms: self.now_ms + wait_ms };
        Watermark::Pass
    }

    /// The table whose changes count for the chunk at hand, as the stream names it; `None` outside of its watermarks.
    #[inline]
    #[must_use]
    pub fn watched_table(&self) -> Option<&Arc<str>> {
        if !self.copying.watch.is_on() {
            return None;
        }
        match &self.copying.step {
            Step::Reading(chunk) | Step::Marking(chunk, _) => Some(&chunk.stream),
            _ => None,
        }
    }

    /// Number of the chunk whose first watermark has come by, and whose second one has not.
    #[must_use]
    pub fn watched_chunk(&self) -> Option<u64> {
        match &self.copying.step {
            Step::Reading(chunk) | Step::Marking(chunk, _) if self.copying.watch.is_on() => Some(chunk.number),
            _ => None,
        }
    }

    /// A row with this key was changed in the watched table.
    pub fn supersede(&mut self, key: &[u8]) {
        self.copying.watch.supersede(key);
    }

    /// The watched table was emptied.
    pub fn supersede_all(&mut self) {
        self.copying.watch.empty();
    }

    /// The watched table has another shape now than the chunk was read with: it is read again.
    pub fn alter_watched(&mut self) {
        self.copying.watch.alter();
    }

    /// Whether a row of the chunk to publish is outdated by what the stream had; `None`: its table has no key.
    #[inline]
    #[must_use]
    pub fn is_superseded(&self, key: Option<&[u8]>) -> bool {
        self.copying.watch.is_superseded(key)
    }

    /// The row at that place is to be offered.
    #[inline]
    pub fn admit_row(&mut self, tid: Tid) -> RowAdmission {
        self.copying.offered = Some(tid);
        if self.copying.condemned.is_empty() {
            return RowAdmission::Fresh;
        }
        let Step::Emitting(chunk, _) = &self.copying.step else { return RowAdmission::Fresh };
        match self.copying.condemned.get(&(Arc::clone(&chunk.table), tid)) {
            Some((message, until_ms)) if self.now_ms < *until_ms => {
                RowAdmission::Condemned(Poison::new(PoisonReason::Rejected, message.clone()))
            }
            _ => RowAdmission::Fresh,
        }
    }

    /// Every row of the chunk to publish was given to the sink, or needs not be. The message itself counts with [`Session::passed`].
    pub fn chunk_sent(&mut self) {
        let (Step::Emitting(chunk, read), Some(commit_lsn)) = (std::mem::take(&mut self.copying.step), self.open_commit()) else {
            return;
        };
        self.copying.watch.end();
        self.copying.learn(&chunk, &read);
        self.copying.divisor = (self.copying.divisor / 2.0).max(1.0);
        let Chunk { job, table, file, from, .. } = chunk;
        self.copying.emitted.push_back(Emitted { commit_lsn, job, table, file, from, to: read.end });
    }

    /// The broker refused a row of a chunk, or something beside one: one record at a time until it is found. False when a row that was
    /// refused alone before was refused once more.
    pub(in crate::session) fn row_refused(&mut self, ticket: Ticket, failure: &Failure) -> Option<bool> {
        let position = self.window.position_of(ticket)?;
        let emitting = match &self.copying.step {
            Step::Emitting(chunk, read) if self.open_commit() == Some(position.commit_lsn) => {
                Some((Arc::clone(&chunk.table), read.end))
            }
            _ => None,
        };
        let is_export = self.window.is_snapshot(ticket);
        if emitting.is_none() && !is_export && !self.copying.owns(position) {
            return None;
        }
        if self.copying.careful.is_some()
            && self.window.events() == 1
            && let Some((table, tid)) = self.copying.sent.take()
        {
            let verdict = (failure.message.clone(), self.now_ms + CONDEMNED_MS);
            let before = self.copying.condemned.insert((table, tid), verdict);
            return Some(before.is_none_or(|(_, until_ms)| self.now_ms >= until_ms));
        }
        let furthest = self.copying.emitted.back().map(|emitted| (Arc::clone(&emitted.table), emitted.to));
        let handed = self.copying.handed.iter().map(|(_, chunk)| (Arc::clone(&chunk.table), chunk.to)).max();
        self.copying.careful = [emitting, furthest, handed, self.copying.careful.take()].into_iter().flatten().max();
        Some(true)
    }
}
