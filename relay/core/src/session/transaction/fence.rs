//! Exactly-once: a new client shuts the older ones out, and what is committed by then ends the doubt.

use crate::checkpoint::{ReadError, Reading, Record};
use crate::error::Kind;
use crate::session::start::unread;
use crate::session::{Fault, Next, Note, Order, Phase, Session};
use crate::window::{Frontier, Ticket};

/// A commit of which nobody knows whether it happened.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) record: Box<Record>,
    pub(super) frontier: Frontier,
    pub(super) acknowledged: Ticket,
}

// === impl Session ===

impl Session {
    /// A new client, which shuts every older one out, and the checkpoint as committed by then. With the slot held.
    pub(in crate::session) fn fence(&mut self, next: Next) {
        self.phase = Phase::Renewing { next, is_ordered: false };
        self.renew_when_answered();
    }

    /// A commit that is under way belongs to the client that is about to go.
    pub(in crate::session) fn renew_when_answered(&mut self) {
        if let Phase::Renewing { next, is_ordered: false } = self.phase
            && !self.progress.is_under_way()
        {
            if self.transaction.doubt.is_some() {
                self.note(Note::Doubt);
            }
            self.phase = Phase::Renewing { next, is_ordered: true };
            self.order(Order::Renew);
        }
    }

    pub(in crate::session) fn renewed_to_fence(&mut self, next: Next, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.phase = Phase::Fencing(next);
                self.order(Order::Fence);
            }
            Err(message) => self.failed(Fault { kind: Kind::SinkUnreachable, message }, after_failed_fence(next)),
        }
    }

    /// What is committed, as read behind our own marker: nothing can be added to it by an older client.
    pub(in crate::session) fn fenced(&mut self, next: Next, result: Result<Reading, ReadError>) {
        let reading = match result {
            Ok(reading) => reading,
            Err(error) => return self.failed(unread(&error), after_failed_fence(next)),
        };
        self.transaction.needs_fence = false;
        if next == Next::Start {
            self.phase = Phase::ReadingAgain;
            return self.checkpoint_read(Ok(reading));
        }
        if self.is_overtaken(&reading) {
            return self.overtaken();
        }
        if !self.settle(&reading) {
            // Neither what was stored nor what was being stored: the full start protocol tells.
            return self.overtaken();
        }
        if next == Next::Replay { self.replay() } else { self.inspect(Next::Resume) }
    }

    /// Whether the commit in doubt happened. False when the reading knows of neither side of it.
    fn settle(&mut self, reading: &Reading) -> bool {
        let Some(Doubt { record, frontier, acknowledged }) = self.transaction.doubt.take() else { return true };
        let Some(newest) = &reading.newest else { return false };
        let has_happened = is_same(newest, &record);
        self.note(Note::Settled(has_happened));
        if has_happened {
            self.window.rewind_to(frontier);
            self.flow.resume_from(frontier);
            self.book.rewind(frontier);
            self.is_committed(frontier, acknowledged);
        }
        self.copying.rewound();
        true
    }
}

/// Without the slot a fence must not be tried again.
fn after_failed_fence(next: Next) -> Next {
    if next == Next::Start { Next::Start } else { Next::Resume }
}

/// Whether what was read is what was stored; the driver fills in the time.
fn is_same(read: &Record, stored: &Record) -> bool {
    let (written_at, accepted_gaps) = (read.written_at.clone(), read.accepted_gaps.clone());
    *read == Record { written_at, accepted_gaps, ..stored.clone() }
}
