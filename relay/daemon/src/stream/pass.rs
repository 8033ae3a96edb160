//! One change on its way from its decoded form to the sink, and the policy for what cannot be published.

use super::plans::{Planned, Plans, Question};
use super::read::{Flow, LOOKUP_WAIT, Suspect};
use super::tally::Tally;
use super::transaction::Counts;
use super::{OnPoison, Why};
use crate::metrics::Metrics;
use relay_core::session::{Fault, Session};
use relay_core::sink::Waiting;
use relay_core::{Change, Enqueue, Event, Kind, Lsn, Poison, Position, RelayPos, Sink, Ticket, Transaction};
use relay_encode::dlq::{self, Origin};
use relay_encode::{Captures, Outcome, Plan};
use relay_failpoint::fail_point;
use relay_postgres::TableId;
use std::time::Duration;

/// Where a change stands: for the session, and for readers of its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) position: Position,
    pub(super) relay_pos: RelayPos<'a>,
}

/// Where a frame stands in the server's log, as its header says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) lsn: Lsn,
    /// The server's clock when it sent the frame, in microseconds since 2000-01-01.
    pub(super) send_time_us: i64,
}

/// What is remembered between two looks at a change that cannot be published.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// The poisonous change met last: it is counted once, however often it is looked at.
    last: Option<Position>,
    /// A record of this change was parked: those behind it are parked, too.
    pub(super) parking: Option<(Position, Poison)>,
    /// Columns of which a value became null because it cannot be converted: told once each.
    pub(super) lost: Vec<(TableId, Box<str>)>,
}

/// One change on its way, with everything it may touch: the wire thread's fields but for the assembler, which it borrows from.
pub(super) struct Pass<'a> {
    pub(super) session: &'a mut Session,
    pub(super) sink: &'a mut (dyn Sink + Send),
    pub(super) event: &'a mut Event,
    pub(super) dlq_event: &'a mut Event,
    pub(super) tally: &'a mut Tally,
    pub(super) metrics: &'a Metrics,
    pub(super) config: &'a super::Config,
    pub(super) captures: &'a Captures,
    pub(super) has_unnudged: &'a mut bool,
    pub(super) suspicion: &'a mut Suspicion,
    pub(super) watch: &'a mut super::snapshot::Watch,
    pub(super) transaction: Transaction,
    pub(super) origin: Option<(&'a str, Lsn)>,
    pub(super) counts: &'a mut Counts,
    pub(super) loose: &'a mut Option<Lsn>,
    pub(super) previous_end: Option<Lsn>,
    pub(super) place: Place,
    /// Nanoseconds since the Unix epoch.
    pub(super) now_ns: i64,
}

/// What a record is to its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// The only one, or the last.
    Last,
    /// Another one follows.
    More,
    /// It belongs to no change.
    Beside,
}

/// What the sink said.
pub(super) enum Offered {
    Sent,
    Not(Flow),
    Poison(Poison),
}

/// What the policy did with a record.
pub(super) enum GivenUp {
    /// It is in the dlq.
    Parked,
    /// The frame is dealt with, or stays where it is.
    All(Flow),
}

/// Wait before asking a sink again whose topic is missing.
const TOPIC_WAIT: Duration = Duration::from_secs(1);

// === impl At ===

impl At<'_> {
    pub(super) fn log(position: Position) -> Self {
        Self { position, relay_pos: position.into() }
    }
}

// === impl Pass ===

impl Pass<'_> {
    #[inline]
    pub(super) fn row(&mut self, plans: &mut Plans, table: TableId, change: &Change<'_>, at: At<'_>) -> Flow {
        let Some(relation) = change.relation() else { return self.passed() };
        let plan = match plans.of(table, relation) {
            Planned::Route(plan) => plan,
            Planned::Capture(plan) => return self.captured_row(plan, table, change, at, None),
            Planned::Reading(question) => return ask_catalog(table, question),
            Planned::Unrouted => {
                self.tally.received(table.0, change);
                return self.filtered("unrouted");
            }
            Planned::Unknown(question) => return ask_root(table, question),
            Planned::Refused(fault) => return Flow::Stop(fault.clone()),
        };
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let now_ms = if plan.route().needs_now() { crate::status::unix_us() / 1_000 } else { 0 };
        match plan.encode_change(&self.transaction, at.relay_pos, change, now_ms, self.event) {
            Ok(Outcome::Event) => match self.offer(Some(table.0), Share::Last) {
                Offered::Sent => {
                    self.tally.received(table.0, change);
                    self.passed()
                }
                Offered::Not(flow) => flow,
                Offered::Poison(poison) => {
                    let poison = named(poison, change);
                    self.poison(at, poison, Origin::Change(change))
                }
            },
            Ok(Outcome::Filtered(reason)) => {
                self.tally.received(table.0, change);
                self.filtered(reason.name())
            }
            Ok(Outcome::Stop) => Flow::Stop(Fault {
                kind: Kind::Poison,
                message: format!("{relation}: a row was updated, and on_update is \"stop\""),
            }),
            Err(poison) => self.poison(at, poison, Origin::Change(change)),
        }
    }

    /// A row that the broker is known to refuse: the poison policy has it.
    #[cold]
    pub(super) fn condemned(
        &mut self,
        plans: &mut Plans,
        table: TableId,
        change: &Change<'_>,
        at: At<'_>,
        poison: Poison,
    ) -> Flow {
        self.event.clear();
        if let Some(relation) = change.relation() {
            match plans.of(table, relation) {
                Planned::Route(plan) => self.build(plan, change, at),
                Planned::Capture(plan) => return self.captured_row(plan, table, change, at, Some(poison)),
                Planned::Reading(question) => return ask_catalog(table, question),
                _ => {}
            }
        }
        self.poison(at, poison, Origin::Change(change))
    }

    /// A message that an outbox takes.
    pub(super) fn outbox_message(&mut self, plan: &Plan, change: &Change<'_>, at: At<'_>) -> Flow {
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let now_ms = if plan.route().needs_now() { crate::status::unix_us() / 1_000 } else { 0 };
        match plan.encode_change(&self.transaction, at.relay_pos, change, now_ms, self.event) {
            Ok(Outcome::Event) => match self.offer(None, Share::Last) {
                Offered::Sent => {
                    self.metrics.message_received();
                    self.passed()
                }
                Offered::Not(flow) => flow,
                Offered::Poison(poison) => self.poison(at, named(poison, change), Origin::Change(change)),
            },
            Ok(Outcome::Filtered(reason)) => self.filtered(reason.name()),
            Ok(Outcome::Stop) => self.passed(),
            Err(poison) => self.poison(at, poison, Origin::Change(change)),
        }
    }

    /// Builds an event that is refused already, for its dlq record: whether that works does not matter.
    #[cold]
    pub(super) fn build(&mut self, plan: &Plan, change: &Change<'_>, at: At<'_>) {
        let _ = plan.encode_change(&self.transaction, at.relay_pos, change, crate::status::unix_us() / 1_000, self.event);
    }

    /// Offers the encoded event to the sink.
    #[inline]
    pub(super) fn offer(&mut self, table: Option<usize>, share: Share) -> Offered {
        self.offer_with(table, share, |sink, event, ticket| sink.enqueue(event, ticket))
    }

    #[inline]
    fn offer_with(
        &mut self,
        table: Option<usize>,
        share: Share,
        give: impl FnOnce(&mut (dyn Sink + Send), &Event, Ticket) -> Enqueue,
    ) -> Offered {
        let bytes = self.event.held_bytes();
        if !self.session.has_room(bytes) {
            return Offered::Not(Flow::Blocked(Why::Full, super::FULL_WAIT));
        }
        let ticket = self.session.next_ticket();
        fail_point!("before-produce");
        match give(self.sink, self.event, ticket) {
            Enqueue::Accepted => {
                match share {
                    Share::Last => self.session.sent(bytes),
                    Share::More => self.session.sent_part(bytes),
                    Share::Beside => self.session.sent_beside(bytes),
                }
                self.tally.sent(ticket.0, table, self.event.topic(), self.event.size_bytes());
                *self.has_unnudged = true;
                fail_point!("after-produce");
                Offered::Sent
            }
            Enqueue::Full => Offered::Not(Flow::Blocked(Why::Full, super::FULL_WAIT)),
            Enqueue::Waiting(waiting) => Offered::Not(wait_for(waiting)),
            Enqueue::Poison(poison) => Offered::Poison(poison),
            Enqueue::Fenced => {
                let message = "another instance took over the destination".into();
                Offered::Not(Flow::Stop(Fault { kind: Kind::Fenced, message }))
            }
        }
    }

    /// The policy for a change that cannot be published, or for the rest of it.
    #[cold]
    pub(super) fn poison(&mut self, at: At<'_>, poison: Poison, origin: Origin<'_>) -> Flow {
        match self.give_up(at, &poison, origin, Share::Last) {
            GivenUp::Parked => self.passed(),
            GivenUp::All(flow) => flow,
        }
    }

    /// The policy for one record. What was built of it is still in the event buffer. A record of no change that is skipped leaves
    /// [`Flow::Done`] behind.
    #[cold]
    pub(super) fn give_up(&mut self, at: At<'_>, poison: &Poison, origin: Origin<'_>, share: Share) -> GivenUp {
        let key = shown(self.event.key());
        if self.suspicion.last.replace(at.position) != Some(at.position) {
            self.metrics.poison(poison.reason);
        }
        match self.config.on_poison {
            OnPoison::Stop => GivenUp::All(self.suspect(at, poison.clone(), origin, key)),
            OnPoison::Skip => {
                self.metrics.discarded(poison.reason);
                tracing::warn!(
                    event = "event.skipped",
                    error.code = Kind::Poison.directive().code,
                    reason = poison.reason.name(),
                    position = %at.relay_pos,
                    key,
                    lsn = %self.place.lsn,
                    "the event is skipped: {}",
                    poison.message
                );
                GivenUp::All(if share == Share::Beside { Flow::Done } else { self.passed() })
            }
            OnPoison::Dlq => self.park(at, poison, origin, share, key),
        }
    }

    fn park(&mut self, at: At<'_>, poison: &Poison, origin: Origin<'_>, share: Share, key: String) -> GivenUp {
        if !self.session.has_room(0) {
            return GivenUp::All(Flow::Blocked(Why::Full, super::FULL_WAIT));
        }
        let now_us = crate::status::unix_us();
        let now = crate::clock::rfc3339(now_us);
        let entry = dlq::Entry {
            topic: &self.config.dlq_topic,
            pipeline: &self.config.name,
            slot: &self.config.slot,
            position: at.relay_pos,
            xid: self.transaction.xid,
            fault: dlq::Fault::Poison(poison),
            attempts: 1,
            first_at: &now,
            last_at: &now,
            timestamp_ms: now_us / 1_000,
            has_connect_headers: false,
        };
        dlq::encode(&entry, origin, self.event, self.dlq_event);
        std::mem::swap(self.event, self.dlq_event);
        match self.offer_with(None, share, |sink, event, ticket| sink.park(event, ticket)) {
            Offered::Sent => {
                self.metrics.dlq(poison.reason);
                tracing::warn!(
                    event = "event.parked",
                    error.code = Kind::Poison.directive().code,
                    reason = poison.reason.name(),
                    position = %at.relay_pos,
                    key,
                    lsn = %self.place.lsn,
                    "the event is parked in {}: {}",
                    self.config.dlq_topic,
                    poison.message
                );
                GivenUp::Parked
            }
            Offered::Not(flow) => GivenUp::All(flow),
            // Too large for the dlq as well: nothing is dropped unasked.
            Offered::Poison(dlq) => {
                let message = format!("{}; nor can it be parked: {}", poison.message, dlq.message);
                GivenUp::All(self.suspect(at, Poison::new(poison.reason, message), origin, key))
            }
        }
    }

    fn suspect(&self, at: At<'_>, poison: Poison, origin: Origin<'_>, key: String) -> Flow {
        Flow::Poisoned(Box::new(Suspect {
            position: at.position,
            poison,
            name: at.relay_pos.to_string(),
            key,
            table: origin.relation().map(ToString::to_string).unwrap_or_default(),
            lsn: self.place.lsn,
        }))
    }

    pub(super) fn filtered(&mut self, reason: &'static str) -> Flow {
        self.metrics.filtered(reason);
        self.passed()
    }

    #[inline]
    pub(super) fn passed(&mut self) -> Flow {
        self.session.passed();
        Flow::Done
    }
}

/// A key as a log may show it: without its schema, cut, and without control characters.
fn shown(key: Option<&[u8]>) -> String {
    const SHOWN_MAX: usize = 64;
    let text = String::from_utf8_lossy(key.unwrap_or_default());
    let text = match text.strip_prefix("{\"schema\":").and_then(|wrapped| wrapped.split_once("},\"payload\":")) {
        Some((_, payload)) => payload.strip_suffix('}').unwrap_or(payload),
        None => &text,
    };
    text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}

/// Puts the table's name in front: whoever reads the message must know where to look.
pub(super) fn named(mut poison: Poison, change: &Change<'_>) -> Poison {
    match change {
        Change::Message { prefix, .. } => poison.message.insert_str(0, &format!("message `{}`: ", prefix.escape_debug())),
        _ => {
            if let Some(relation) = change.relation() {
                poison.message.insert_str(0, &format!("{relation}: "));
            }
        }
    }
    poison
}

/// Asks for a table's partition root, when it is time to.
pub(super) fn ask_root(table: TableId, question: &mut Question) -> Flow {
    match question.ask() {
        Some(version) => Flow::AskRoot(table, version),
        None => Flow::Blocked(Why::Lookup, LOOKUP_WAIT),
    }
}

/// Asks what the catalog says of a table, when it is time to.
pub(super) fn ask_catalog(table: TableId, question: &mut Question) -> Flow {
    match question.ask() {
        Some(version) => Flow::AskCatalog(table, version),
        None => Flow::Blocked(Why::Lookup, LOOKUP_WAIT),
    }
}

fn wait_for(waiting: Waiting) -> Flow {
    match waiting {
        Waiting::Lookup => Flow::Blocked(Why::Lookup, LOOKUP_WAIT),
        Waiting::TopicMissing { topic, message } => {
            let text = format!("topic `{topic}` is missing: {message}");
            Flow::Blocked(Why::Topic(Kind::TopicMissing, format!("topic_missing:{topic}"), text), TOPIC_WAIT)
        }
        Waiting::Denied { topic, message } => {
            let text = format!("topic `{topic}` is denied to us: {message}");
            Flow::Blocked(
                Why::Topic(Kind::SinkPermission, format!("stopped:{}", Kind::SinkPermission.directive().code), text),
                TOPIC_WAIT,
            )
        }
    }
}
