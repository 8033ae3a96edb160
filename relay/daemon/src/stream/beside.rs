//! Logical messages on their way, and the records that stand beside the changes of a transaction: BEGIN, END, heartbeats.

use super::Why;
use super::confirm::POSTGRES_EPOCH_US;
use super::pass::{At, GivenUp, Offered, Pass, Share, named};
use super::plans::Plans;
use super::read::Flow;
use relay_core::session::{Admission, Begun};
use relay_core::{Change, Lsn, Poison, Position, RelayPos, Transaction, Xid};
use relay_encode::dlq::Origin;
use relay_encode::{Context, LogicalMessages};

// === impl Pass: messages ===

impl Pass<'_> {
    /// A transactional message: an outbox takes it, or it is published in the row-capture style, or nobody asked for it.
    pub(super) fn message(&mut self, plans: &mut Plans, change: &Change<'_>) -> Flow {
        let Change::Message { prefix, .. } = change else { return self.passed() };
        if let Some(flow) = self.open_records(Some(prefix)) {
            return flow;
        }
        let admission = self.session.admit();
        let is_outbox = match plans.message(prefix) {
            Ok(plan) => plan.is_some(),
            Err(fault) => return Flow::Stop(fault),
        };
        if is_outbox {
            let Ok(Some(plan)) = plans.message(prefix) else { return self.passed() };
            return match admission {
                Admission::Covered => self.passed(),
                Admission::Fresh(position) => self.outbox_message(plan, change, At::log(position)),
                Admission::Condemned(position, poison) => {
                    let at = At::log(position);
                    self.event.clear();
                    self.build(plan, change, at);
                    self.poison(at, poison, Origin::Change(change))
                }
            };
        }
        let Some(messages) = plans.captured_message(prefix) else {
            return match admission {
                Admission::Covered => self.passed(),
                _ => self.filtered("message_prefix"),
            };
        };
        let (position, condemned) = match admission {
            Admission::Covered => {
                self.counts.add_message();
                return self.passed();
            }
            Admission::Fresh(position) => (position, None),
            Admission::Condemned(position, poison) => (position, Some(poison)),
        };
        let context = self.context(position.into(), self.counts.message_order());
        let flow = self.captured_message(messages, change, At::log(position), &context, condemned);
        if matches!(flow, Flow::Done) && self.counts.is_on() {
            self.counts.add_message();
        }
        flow
    }

    fn captured_message(
        &mut self,
        messages: &LogicalMessages,
        change: &Change<'_>,
        at: At<'_>,
        context: &Context<'_>,
        condemned: Option<Poison>,
    ) -> Flow {
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let poison = match (messages.encode(context, change, self.event), condemned) {
            (Err(poison), _) => named(poison, change),
            (Ok(_), Some(poison)) => poison,
            (Ok(_), None) => match self.offer(None, Share::Last) {
                Offered::Sent => {
                    self.metrics.message_received();
                    return self.passed();
                }
                Offered::Not(flow) => return flow,
                Offered::Poison(poison) => named(poison, change),
            },
        };
        self.poison(at, poison, Origin::Change(change))
    }

    /// A message outside of transactions. The server sends it where it stands in the log, between transactions; it has a place of its own
    /// in the window, as a transaction of one change that ends with the message, so that nothing behind it is confirmed before it is
    /// acknowledged. Its LSN is the end of its record: a start there does not bring it again, and the next commit may stand right there,
    /// so its own stands a byte before.
    pub(super) fn loose_message(&mut self, plans: &mut Plans, change: &Change<'_>) -> Flow {
        let Change::Message { prefix, lsn, .. } = change else { return Flow::Done };
        let Some(messages) = plans.captured_message(prefix) else { return Flow::Done };
        let commit_time_us = self.place.send_time_us.saturating_add(POSTGRES_EPOCH_US);
        let commit_lsn = before(*lsn);
        if *self.loose != Some(*lsn) {
            match self.session.begin(commit_lsn, commit_time_us) {
                Ok(Begun::Read) => *self.loose = Some(*lsn),
                Ok(Begun::Rewind) => return Flow::Left,
                Err(fault) => return Flow::Stop(fault),
            }
        }
        let (position, condemned) = match self.session.admit() {
            Admission::Covered => return self.close_loose(*lsn),
            Admission::Fresh(position) => (position, None),
            Admission::Condemned(position, poison) => (position, Some(poison)),
        };
        self.transaction = Transaction { commit_lsn, commit_time_us, xid: Xid(0) };
        let at = At { position, relay_pos: RelayPos::Message(*lsn) };
        let context = Context { origin: None, lsn: *lsn, ..self.context(at.relay_pos, None) };
        match self.captured_message(messages, change, at, &context, condemned) {
            Flow::Done => self.close_loose(*lsn),
            flow => flow,
        }
    }

    fn close_loose(&mut self, lsn: Lsn) -> Flow {
        *self.loose = None;
        match self.session.commit(before(lsn), lsn) {
            Ok(()) => Flow::Done,
            Err(fault) => Flow::Stop(fault),
        }
    }
}

// === impl Pass: records beside changes ===

impl Pass<'_> {
    /// Before a change of a counted transaction: its BEGIN record, unless that was sent, or nothing but a message of relay's own came.
    /// `Some`: the frame stays for now.
    pub(super) fn open_records(&mut self, prefix: Option<&str>) -> Option<Flow> {
        if !self.counts.is_on() {
            return None;
        }
        self.counts.saw(prefix);
        self.begin_record()
    }

    fn begin_record(&mut self) -> Option<Flow> {
        if !self.counts.is_begin_due || !self.counts.has_records() {
            return None;
        }
        let commit = self.transaction.commit_lsn;
        let context = self.context(RelayPos::Begin(commit), None);
        self.captures.encode_begin(&context, self.event);
        let flow =
            self.offer_beside(At { position: Position { commit_lsn: commit, seq: 0 }, relay_pos: RelayPos::Begin(commit) });
        if flow.is_none() {
            self.counts.is_begin_due = false;
        }
        flow
    }

    /// Before the commit of a counted transaction: its END record.
    pub(super) fn close_records(&mut self) -> Option<Flow> {
        if !self.counts.has_records() {
            return None;
        }
        let commit = self.transaction.commit_lsn;
        let (position, condemned) = match self.session.admit() {
            Admission::Covered => return None,
            Admission::Fresh(position) => (position, None),
            Admission::Condemned(position, poison) => (position, Some(poison)),
        };
        let at = At { position, relay_pos: RelayPos::End(commit) };
        let context = self.context(at.relay_pos, None);
        self.captures.encode_end(&context, self.counts.tables(), self.event);
        match condemned {
            None => self.offer_beside(at),
            Some(poison) => self.give_up_beside(at, &poison),
        }
    }

    /// Offers a record of no change; `None` when it is dealt with.
    fn offer_beside(&mut self, at: At<'_>) -> Option<Flow> {
        match self.offer(None, Share::Beside) {
            Offered::Sent => None,
            Offered::Not(flow) => Some(flow),
            Offered::Poison(poison) => self.give_up_beside(at, &poison),
        }
    }

    fn give_up_beside(&mut self, at: At<'_>, poison: &Poison) -> Option<Flow> {
        let origin = Origin::Drained { relation: None, operation: "transaction" };
        match self.give_up(at, poison, origin, Share::Beside) {
            GivenUp::Parked | GivenUp::All(Flow::Done) => None,
            GivenUp::All(flow) => Some(flow),
        }
    }

    /// Debezium's heartbeat, between transactions. It is not worth waiting for: one that finds no room is left out.
    pub(super) fn heartbeat(&mut self) {
        self.captures.encode_heartbeat(self.now_ns, self.event);
        match self.offer(None, Share::Beside) {
            Offered::Sent | Offered::Not(Flow::Blocked(Why::Full | Why::Lookup, _)) => {}
            Offered::Not(Flow::Blocked(Why::Topic(_, _, message), _)) => {
                tracing::warn!(event = "heartbeat.not_sent", "the heartbeat is left out: {message}");
            }
            Offered::Not(_) => {}
            Offered::Poison(poison) => tracing::warn!(event = "heartbeat.not_sent", "the heartbeat is left out: {poison}"),
        }
    }
}

/// Within the record that ends there.
fn before(lsn: Lsn) -> Lsn {
    Lsn(lsn.0.saturating_sub(1))
}
