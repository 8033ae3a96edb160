//! Carries out the session's orders.

use super::Stream;
use super::store::Answered;
use crate::status::Loop;
use relay_core::session::{Input, Order};
use relay_failpoint::fail_point;
use std::sync::Arc;
use std::time::Duration;

/// How long the last words to the server may take.
const FAREWELL: Duration = Duration::from_millis(1_000);

impl Stream {
    pub(super) fn obey(&mut self) {
        loop {
            let orders: Vec<Order> = self.session.orders().collect();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.carry_out(order);
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Inspect => {
                if let Some(polling) = &self.polling {
                    self.jobs.inspect_polling(&self.config.name, polling.holder(), polling.config.ends_in_log);
                    return;
                }
                let held = self.copy.as_ref().map(relay_pgwire::CopyBoth::backend_pid);
                self.jobs.inspect(held);
            }
            Order::ReadCheckpoint => self.jobs.read_checkpoint(),
            Order::CreatePublication => self.jobs.create_publication(),
            Order::CreateSlot { exports } => self.jobs.create_slot(self.polling.is_some(), exports),
            Order::ListTables(listing) => self.list_tables(listing),
            Order::Look { number, takes_id } => self.look_at_visible(number, takes_id),
            Order::ReadChunk(chunk) => self.read_chunk(chunk),
            Order::Mark(number) => self.mark(number),
            Order::Hold(start) => match &self.polling {
                Some(polling) => self.jobs.lock(polling.config.poll.clone(), Arc::clone(&polling.config.rule)),
                None => self.jobs.hold(start, self.config.max_message_bytes),
            },
            Order::Store(mut record) => {
                record.written_at = crate::clock::rfc3339(crate::status::unix_us());
                for gap in record.accepted_gaps.iter_mut().filter(|gap| gap.at.is_empty()) {
                    gap.at.clone_from(&record.written_at);
                }
                if let Some(ring) = &mut self.ring {
                    ring.mark(&self.open);
                }
                fail_point!("before-checkpoint");
                self.store.begin_store(&record);
            }
            Order::Retire(keys) => {
                self.store.retire(&keys);
                fail_point!("tombstone-write" if !keys.is_empty());
            }
            Order::Disconnect => {
                self.jobs.forget();
                self.store.forget_fence();
                if let Some(ring) = &mut self.ring {
                    ring.clear();
                }
                self.copy = None;
                if let Some(polling) = &mut self.polling {
                    polling.release();
                }
                if let Some(snapshots) = &mut self.snapshots {
                    snapshots.disconnect(self.session.needs_export());
                }
                self.unblock();
            }
            Order::Purge(scope) => {
                self.has_unnudged = false;
                self.sink.purge(scope);
                fail_point!("rewind");
            }
            Order::Fence => self.store.begin_fence(),
            Order::Abort => self.store.begin_abort(),
            Order::Replay => self.begin_replay(),
            Order::Renew => {
                let result = self.sink.renew();
                self.session.input(Input::Renewed(result));
            }
            Order::Note(note) => self.note(note),
        }
    }

    /// Passes on what came of orders to the checkpoint store.
    pub(super) fn checkpoint_outcome(&mut self) {
        // Looking is the loop's turn: a store may wait for a broker as long as it must.
        self.status.beat(Loop::Checkpoint);
        while let Some(Answered { input, outcome, took }) = self.store.answer() {
            if let Some(outcome) = outcome {
                self.metrics.transaction(outcome, took.as_secs_f64());
            }
            match &input {
                Some(Input::Stored(result)) => {
                    if result.is_ok() {
                        self.metrics.checkpoint_written(crate::status::unix_us() as f64 / 1e6);
                    }
                    if let Some(ring) = &mut self.ring {
                        ring.answered(result.is_ok());
                    }
                    fail_point!("after-checkpoint" if result.is_ok());
                    // The two records of a start: while nothing is held yet, and while the slot is held and nothing is sent.
                    fail_point!(
                        "bootstrap-record" if self.session.state() == relay_core::session::State::Connecting && !self.session.is_leader()
                    );
                    fail_point!(
                        "epoch-write" if self.session.state() == relay_core::session::State::Connecting && self.session.is_leader()
                    );
                }
                Some(Input::CheckpointRead(Ok(_))) => self.metrics.fenced(),
                _ => {}
            }
            if let Some(input) = input {
                self.input(input);
            }
        }
    }

    /// The end: a last word to the server about what is durable, and a clean end of the stream.
    pub(super) fn finish(&mut self) {
        if let Some(polling) = self.polling.take() {
            return polling.finish(&self.session);
        }
        let Some(mut copy) = self.copy.take() else { return };
        let confirmation = self.session.confirmation();
        let status = relay_pgwire::Status {
            written: confirmation.written,
            flushed: confirmation.flushed,
            applied: confirmation.flushed,
            reply_requested: false,
        };
        copy.send_status(status, super::confirm::postgres_us());
        if let Err(error) = copy.finish(FAREWELL) {
            tracing::info!(event = "source.farewell", error = %error, "the stream did not end cleanly; nothing is lost by that");
        }
    }
}
