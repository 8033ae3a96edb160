//! What a snapshot does next, turn by turn: list its tables, look who must be visible first, read a chunk, end.

use super::chunk::{self, Listed, Listing, Table};
use super::{SnapshotMode, SnapshotProgress, Step};
use crate::error::Action;
use crate::lsn::Xid;
use crate::session::{Fault, Note, Order, Phase, Session};

// === impl Session ===

impl Session {
    /// A transaction of the stream begins: its commit may not be visible to queries yet.
    #[inline]
    pub fn streams(&mut self, xid: Xid) {
        if self.copying.config.is_some() {
            self.copying.seen.streams(xid);
        }
    }

    /// Owes a snapshot of these tables, behind the others; gives its number. It is sure to be taken once
    /// [`Session::are_snapshots_stored`], unless [`Note::Streaming`] came before: a claim begins with what was stored until then.
    pub fn request_snapshot(&mut self, tables: Vec<String>, filter: Option<String>) -> u64 {
        self.copying.changed();
        self.copying.is_urgent = true;
        if matches!(self.copying.step, Step::Pause { .. }) {
            self.copying.step = Step::Idle;
        }
        self.copying.position.add(false, tables, filter)
    }

    /// Calls every snapshot off; gives the number of them.
    pub fn stop_snapshots(&mut self) -> usize {
        self.interrupt_copying();
        let copying = &mut self.copying;
        copying.tables = None;
        copying.is_urgent = true;
        copying.position.is_initial_done = true;
        copying.changed();
        std::mem::take(&mut copying.position.jobs).len()
    }

    /// Whether everything that is known of snapshots is in a durable checkpoint.
    #[must_use]
    pub fn are_snapshots_stored(&self) -> bool {
        !self.copying.is_unstored()
    }

    /// How far the snapshot in work is; `None` when none is owed.
    #[must_use]
    pub fn snapshot_progress(&self) -> Option<SnapshotProgress> {
        self.copying.progress()
    }

    /// How often chunks were read again because the read did not see what was streamed already.
    #[must_use]
    pub fn snapshot_rereads(&self) -> u64 {
        self.copying.rereads
    }

    /// Whether the answer to the question of that number is waited for. One that comes later than the session could wait must leave
    /// what the driver keeps of a newer question alone.
    #[must_use]
    pub fn awaits(&self, number: u64) -> bool {
        match &self.copying.step {
            Step::Listing(asked) | Step::Looking(asked) => *asked == number,
            Step::Reading(chunk) | Step::Marking(chunk, _) => chunk.number == number,
            Step::Idle | Step::Pause { .. } | Step::Exporting(_) | Step::Emitting(..) => false,
        }
    }

    /// Whether the snapshot that the new slot exported is to be kept: it is being read, or will be.
    #[must_use]
    pub fn needs_export(&self) -> bool {
        self.copying.holds_stream()
    }

    /// Moves the snapshots on.
    pub(in crate::session) fn copying_turn(&mut self) {
        if self.phase != Phase::Streaming || self.drain.is_some() {
            return;
        }
        self.end_export_if_through();
        if let Some((job, _)) = self.copying.finish() {
            self.note(Note::SnapshotDone(job));
        }
        match self.copying.step {
            Step::Idle => self.next_step(),
            Step::Pause { until_ms } if self.now_ms >= until_ms => {
                self.copying.step = Step::Idle;
                self.next_step();
            }
            _ => {}
        }
        let is_over = self.copying.config.is_some_and(|config| config.mode == SnapshotMode::Only)
            && self.copying.position.jobs.is_empty()
            && !self.copying.is_unstored();
        if is_over {
            self.drain(u64::MAX, None);
        }
    }

    pub(super) fn next_step(&mut self) {
        let Some(job) = self.copying.position.jobs.first() else {
            self.must_look();
            return;
        };
        let (job, tables) = (job.number, job.tables.clone());
        if self.copying.tables.is_none() {
            let number = self.copying.next_number();
            self.copying.step = Step::Listing(number);
            let is_export = self.copying.exported.is_some();
            return self.order(Order::ListTables(Listing { number, job, tables, is_export }));
        }
        self.next_chunk();
    }

    pub(in crate::session) fn tables_listed(&mut self, number: u64, result: Result<Vec<Listed>, Fault>) {
        if !matches!(self.copying.step, Step::Listing(asked) if asked == number) {
            return;
        }
        let mut listed = match result {
            Ok(listed) => listed,
            Err(fault) => {
                // A deadlock with somebody's TRUNCATE, no connection left: the snapshot itself is still there.
                let spared = self.copying.spare_export();
                self.copy_failed(fault);
                if matches!(self.copying.step, Step::Pause { .. }) {
                    self.copying.restore_export(spared);
                }
                return;
            }
        };
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        let tables: Vec<Table> = listed.into_iter().map(Table::new).collect();
        let Some(job) = self.copying.position.jobs.first_mut() else { return };
        let mut again = Vec::new();
        chunk::restart(job, &tables, |table| again.push(Note::SnapshotTableAgain(table.to_owned())));
        let note = Note::SnapshotBegins { job: job.number, is_initial: job.is_initial, tables: tables.len() };
        self.copying.tables = Some(tables);
        self.copying.changed();
        self.copying.step = Step::Idle;
        self.note(note);
        again.into_iter().for_each(|note| self.note(note));
        if let Some(exported) = self.copying.exported.take() {
            self.begin_export(&exported);
        }
    }

    /// The stream is left, or an export is.
    pub(in crate::session) fn interrupt_copying(&mut self) {
        if self.copying.is_exporting() {
            self.window.end_snapshot();
        }
        self.copying.interrupt();
    }

    /// Something that a snapshot needs failed: a short pause, or the end.
    pub(in crate::session) fn copy_failed(&mut self, fault: Fault) {
        self.interrupt_copying();
        let is_initial = self.copying.position.jobs.first().is_some_and(|job| job.is_initial);
        match fault.kind.directive().action {
            Action::StopStream | Action::StopProcess(_) if is_initial => self.stop(fault),
            // What somebody asked for must not stop the stream.
            Action::StopStream | Action::StopProcess(_) => {
                let job = self.copying.position.jobs.remove(0);
                self.copying.tables = None;
                self.copying.is_urgent = true;
                self.copying.changed();
                self.note(Note::SnapshotRefused(job.number, fault));
            }
            _ => {
                let wait_ms = self.backoff_ms();
                self.note(Note::Fault(fault, wait_ms));
                self.copying.step = Step::Pause { until_ms: self.now_ms + wait_ms };
            }
        }
    }
}
