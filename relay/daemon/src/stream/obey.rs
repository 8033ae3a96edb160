//! Carries out the session's orders.

use super::Stream;
use crate::status::Loop;
use relay_core::session::{Input, Order};
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
                self.is_storing = true;
                self.checkpoint.begin_store(&record);
            }
            Order::Retire(keys) => self.checkpoint.retire(&keys),
            Order::Disconnect => {
                self.jobs.forget();
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
            }
            Order::Renew => {
                let result = self.sink.renew();
                self.session.input(Input::Renewed(result));
            }
            Order::Note(note) => self.note(note),
        }
    }

    /// Passes the outcome of a store on, once it is known.
    pub(super) fn checkpoint_outcome(&mut self) {
        // Looking is the loop's turn: a store may wait for a broker as long as it must.
        self.status.beat(Loop::Checkpoint);
        if !self.is_storing {
            return;
        }
        let Some(result) = self.checkpoint.outcome() else { return };
        self.is_storing = false;
        if result.is_ok() {
            self.metrics.checkpoint_written(crate::status::unix_us() as f64 / 1e6);
        }
        self.input(Input::Stored(result));
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
