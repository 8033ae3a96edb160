//! The hot path: from the read buffer to the sink, one frame after the other, until nothing whole is left or something stands in the way.

use super::plans::{Planned, Plans};
use super::tally::Tally;
use super::{OnPoison, Stream, Why};
use crate::metrics::Metrics;
use crate::status::Peer;
use relay_core::session::{Admission, Begun, Fault, Input, Session};
use relay_core::sink::Waiting;
use relay_core::{Change, Enqueue, Event, Kind, Poison, PoisonReason, Position, RelayPos, Sink, Ticket, Transaction};
use relay_encode::dlq::{self, Origin};
use relay_encode::{Outcome, Plan};
use relay_pgwire::{Body, CopyBoth, ServerError};
use relay_postgres::{Assembler, Step, TableId};
use std::time::{Duration, Instant};

/// What became of a frame.
pub(super) enum Flow {
    /// Dealt with: move past it.
    Done,
    /// It stays, for now.
    Blocked(Why, Duration),
    /// It stays, and the session is on its way elsewhere.
    Left,
    /// The stream must not go on.
    Stop(Fault),
    /// Poison, with `on_poison = "stop"`: it stays until somebody helps. The texts are how people know it, and its key.
    Poisoned(Position, Poison, String, String),
    /// The connection is over.
    Lost(Fault),
    /// A table without route: its partition root must be known first.
    AskRoot(TableId),
    /// A notice came.
    Notice(Box<ServerError>),
}

/// A read below this is a short one: the server has not much more ready.
pub(super) const SHORT_READ_BYTES: usize = 32 * 1024;
/// Wait before asking a sink again that waits for a topic.
const LOOKUP_WAIT: Duration = Duration::from_millis(2);
const TOPIC_WAIT: Duration = Duration::from_secs(1);
/// How long an answer about a table's place may take: above the connect time-outs.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often an event that cannot be published is looked at again.
const POISON_WAIT: Duration = Duration::from_secs(5);
/// Turns the loop takes before it looks at clocks and acknowledgements, in bytes of stream.
pub(super) const TURN_BYTES: usize = 1 << 20;

impl Stream {
    /// Reads and handles what is there. Returns what the session must hear, if anything.
    pub(super) fn read(&mut self, copy: &mut CopyBoth) -> Option<Input> {
        if self.blocked.is_some() {
            self.unblock_or_keep();
        }
        let mut handled = 0;
        loop {
            match self.pump(copy, &mut handled) {
                None => {}
                Some(result) => return result,
            }
            if handled >= TURN_BYTES {
                return None;
            }
            let is_dense = self.pace.is_dense(Instant::now());
            if is_dense && let Some(wait) = self.coalesce_wait() {
                // An eager reader is woken for a message or two at a time, and each wake-up costs the walsender more than it costs us.
                std::thread::sleep(wait);
            }
            match self.fill(copy, Duration::ZERO) {
                Ok(true) => {}
                Ok(false) => return self.wait_for_socket(copy, is_dense),
                Err(error) => return Some(lost(&error)),
            }
        }
    }

    /// Reads once, waiting at most so long; whether anything came.
    fn fill(&mut self, copy: &mut CopyBoth, wait: Duration) -> Result<bool, relay_pgwire::Error> {
        let fill = copy.fill(wait)?;
        if fill.bytes > 0 {
            self.tally.received_bytes(fill.bytes);
            self.short_read = fill.bytes < SHORT_READ_BYTES;
            self.confirm.heard();
        }
        Ok(fill.bytes > 0)
    }

    /// The socket is empty: let go what was sent, unless more is sure to follow, and wait as long as nothing else is due.
    fn wait_for_socket(&mut self, copy: &mut CopyBoth, is_dense: bool) -> Option<Input> {
        if !is_dense {
            self.nudge();
        }
        let limit = if self.session.window().events() > 0 { super::BUSY_WAIT } else { super::IDLE_WAIT };
        self.fill(copy, limit).err().map(|error| lost(&error))
    }

    pub(super) fn coalesce_wait(&self) -> Option<Duration> {
        let wait = self.config.coalesce?;
        (!self.config.coalesce_is_adaptive || self.short_read).then_some(wait)
    }

    pub(super) fn unblock_or_keep(&mut self) {
        // The reason is looked at again by offering the same frame again.
        if !matches!(self.blocked.as_ref().map(|blocked| &blocked.why), Some(Why::Full)) {
            return;
        }
        if self.session.has_room(0) {
            self.unblock();
        }
    }

    /// Handles whole frames. `None`: the buffer holds no other; `Some`: leave the loop with this.
    fn pump(&mut self, copy: &mut CopyBoth, handled: &mut usize) -> Option<Option<Input>> {
        loop {
            let frame = match copy.peek() {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(error) => return Some(Some(lost(&error))),
            };
            let size = frame.size;
            let is_data = matches!(frame.body, Body::XLogData { .. } | Body::Oversize { .. });
            let flow = match frame.body {
                Body::XLogData { payload, .. } => self.message(payload),
                Body::Keepalive { wal_end, reply_requested, .. } => {
                    self.status.saw(Peer::Source);
                    self.session.keepalive(wal_end, reply_requested);
                    if reply_requested {
                        self.confirm.asked();
                    }
                    Flow::Done
                }
                Body::Oversize { head, len } => self.oversize(head, len),
                Body::Notice { fields } => Flow::Notice(fields),
                Body::ParameterStatus { .. } => Flow::Done,
                _ => Flow::Lost(Fault { kind: Kind::SourceUnavailable, message: "the server ended the stream".into() }),
            };
            match flow {
                Flow::Done => {}
                Flow::Notice(notice) => {
                    self.metrics.notice(&notice.severity);
                    tracing::warn!(
                        event = "source.notice",
                        severity = notice.severity,
                        sqlstate = notice.code,
                        "the server says: {}",
                        notice.message
                    );
                }
                Flow::Left => return Some(None),
                Flow::Blocked(why, wait) => {
                    self.blocked_by(why, wait);
                    return Some(None);
                }
                Flow::Poisoned(position, poison, name, key) => {
                    self.poisoned(position, &poison, &name, &key);
                    return Some(None);
                }
                Flow::AskRoot(table) => {
                    let oid = self.assembler.relation(table).oid;
                    self.jobs.find_root(table, oid);
                    self.blocked_by(Why::Lookup, LOOKUP_WAIT);
                    return Some(None);
                }
                Flow::Stop(fault) => return Some(Some(Input::Stop(fault))),
                Flow::Lost(fault) => return Some(Some(Input::Lost(fault))),
            }
            copy.consume(size);
            *handled += size;
            self.pace.count();
            if is_data {
                self.confirm.took_data();
            }
            if self.blocked.is_some() {
                self.unblock();
            }
            if *handled >= TURN_BYTES {
                return Some(None);
            }
        }
    }

    #[inline]
    fn message(&mut self, payload: &[u8]) -> Flow {
        let (assembler, plans, mut pass) = self.split();
        let step = match assembler.read(payload) {
            Ok(step) => step,
            Err(error) => return Flow::Stop(error.fault()),
        };
        match step {
            Step::Row(table, change) => match pass.session.admit() {
                Admission::Covered => pass.passed(),
                Admission::Fresh(position) => pass.row(plans, table, &change, At::log(position)),
                Admission::Condemned(position, poison) => pass.condemned(plans, table, &change, At::log(position), poison),
            },
            Step::Begin(transaction) => match pass.session.begin(transaction.commit_lsn, transaction.commit_time_us) {
                Ok(Begun::Read) => Flow::Done,
                Ok(Begun::Rewind) => Flow::Left,
                Err(fault) => Flow::Stop(fault),
            },
            Step::Commit { commit_lsn, end_lsn } => match pass.session.commit(commit_lsn, end_lsn) {
                Ok(()) => Flow::Done,
                Err(fault) => Flow::Stop(fault),
            },
            Step::Table(table) => {
                if plans.changed(table) {
                    pass.metrics.schema_change(&assembler.relation(table).to_string());
                }
                Flow::Done
            }
            Step::Message(change) => match pass.session.admit() {
                Admission::Covered => pass.passed(),
                Admission::Fresh(position) => pass.logical_message(plans, &change, At::log(position)),
                Admission::Condemned(position, poison) => {
                    let at = At::log(position);
                    pass.event.clear();
                    if let Change::Message { prefix, .. } = change
                        && let Ok(Some(plan)) = plans.message(prefix)
                    {
                        pass.build(plan, &change, at);
                    }
                    pass.poison(at, poison, Origin::Change(&change))
                }
            },
            Step::Truncate(tables) => match pass.session.admit() {
                Admission::Covered => pass.passed(),
                _ => {
                    tables.iter().for_each(|table| pass.tally.truncated(table.0, assembler.relation(*table)));
                    pass.filtered("operation")
                }
            },
            Step::LooseMessage(_) | Step::Nothing => Flow::Done,
        }
    }

    /// The parts that one change passes through, apart: what it borrows from (tables and plans), and what it may touch.
    #[inline]
    pub(super) fn split(&mut self) -> (&mut Assembler, &mut Plans, Pass<'_>) {
        let transaction = self.assembler.transaction();
        let pass = Pass {
            session: &mut self.session,
            sink: self.sink.as_mut(),
            event: &mut self.event,
            dlq_event: &mut self.dlq_event,
            tally: &mut self.tally,
            metrics: &self.metrics,
            config: &self.config,
            has_unnudged: &mut self.has_unnudged,
            last_poison: &mut self.last_poison,
            transaction,
        };
        (&mut self.assembler, &mut self.plans, pass)
    }

    /// Handles one message; whether it was dealt with.
    #[cfg(test)]
    pub(super) fn take_whole(&mut self, payload: &[u8]) -> bool {
        matches!(self.message(payload), Flow::Done)
    }

    /// A frame above `source.log.max_message`: its head says which table, the rest is never held.
    fn oversize(&mut self, head: &[u8], len: usize) -> Flow {
        let table = match self.assembler.peek(head) {
            Ok(table) => table,
            Err(error) => return Flow::Stop(error.fault()),
        };
        let (assembler, plans, mut pass) = self.split();
        let name = table.map(|table| assembler.relation(table).to_string());
        match pass.session.admit() {
            Admission::Covered => pass.passed(),
            Admission::Fresh(position) | Admission::Condemned(position, _) => {
                match table {
                    Some(table) => match plans.of(table, assembler.relation(table)) {
                        Planned::Route(_) => {}
                        Planned::Unrouted => return pass.filtered("unrouted"),
                        Planned::Unknown { asked } => return ask_root(table, asked),
                        Planned::Refused(fault) => return Flow::Stop(fault.clone()),
                    },
                    None if !plans.has_messages() => return pass.filtered("message_prefix"),
                    None => {}
                }
                let from = name.unwrap_or_else(|| "a logical message".into());
                let message = format!("{from}: {len} bytes are more than source.log.max_message allows");
                pass.event.clear();
                let origin = Origin::Drained { relation: table.map(|table| assembler.relation(table)), operation: "row" };
                pass.poison(At::log(position), Poison::new(PoisonReason::TooLarge, message), origin)
            }
        }
    }

    pub(super) fn blocked_by(&mut self, why: Why, wait: Duration) {
        if let Why::Topic(kind, _, message) = &why {
            let is_new = self.blocked.as_ref().is_none_or(|blocked| blocked.why != why);
            if is_new {
                let directive = kind.directive();
                self.remember_error(*kind, message);
                tracing::error!(event = "sink.waiting", error.code = directive.code, hint = directive.hint, "{message}");
            }
        }
        self.nudge();
        self.block(why, wait);
    }

    /// An event cannot be published and the policy is to stay in front of it.
    pub(super) fn poisoned(&mut self, position: Position, poison: &Poison, name: &str, key: &str) {
        let why = Why::Poison(position);
        if self.blocked.as_ref().is_none_or(|blocked| blocked.why != why) {
            let directive = Kind::Poison.directive();
            let message = format!("event {name} cannot be published: {poison}");
            self.remember_error(Kind::Poison, &message);
            tracing::error!(
                event = "event.poison",
                error.code = directive.code,
                reason = poison.reason.name(),
                position = name,
                key,
                hint = directive.hint,
                "{message}"
            );
        }
        self.nudge();
        self.block(why, POISON_WAIT);
    }
}

/// Where a change stands: for the session, and for readers of its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) position: Position,
    pub(super) relay_pos: RelayPos<'a>,
}

impl At<'_> {
    fn log(position: Position) -> Self {
        Self { position, relay_pos: position.into() }
    }
}

/// One change on its way, with everything it may touch: the wire thread's fields but for the assembler, which it borrows from.
pub(super) struct Pass<'a> {
    pub(super) session: &'a mut Session,
    sink: &'a mut (dyn Sink + Send),
    event: &'a mut Event,
    dlq_event: &'a mut Event,
    tally: &'a mut Tally,
    metrics: &'a Metrics,
    config: &'a super::Config,
    has_unnudged: &'a mut bool,
    last_poison: &'a mut Option<Position>,
    pub(super) transaction: Transaction,
}

impl Pass<'_> {
    #[inline]
    pub(super) fn row(&mut self, plans: &mut Plans, table: TableId, change: &Change<'_>, at: At<'_>) -> Flow {
        let Some(relation) = change.relation() else { return self.passed() };
        let plan = match plans.of(table, relation) {
            Planned::Route(plan) => plan,
            Planned::Unrouted => {
                self.tally.received(table.0, change);
                return self.filtered("unrouted");
            }
            Planned::Unknown { asked } => return ask_root(table, asked),
            Planned::Refused(fault) => return Flow::Stop(fault.clone()),
        };
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let now_ms = if plan.route().needs_now() { crate::status::unix_us() / 1_000 } else { 0 };
        match plan.encode_change(&self.transaction, at.relay_pos, change, now_ms, self.event) {
            Ok(Outcome::Event) => match self.offer(Some(table.0)) {
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
        if let Some(relation) = change.relation()
            && let Planned::Route(plan) = plans.of(table, relation)
        {
            self.build(plan, change, at);
        }
        self.poison(at, poison, Origin::Change(change))
    }

    fn logical_message(&mut self, plans: &mut Plans, change: &Change<'_>, at: At<'_>) -> Flow {
        let Change::Message { prefix, .. } = change else { return self.passed() };
        let plan = match plans.message(prefix) {
            Ok(Some(plan)) => plan,
            Ok(None) => return self.filtered("message_prefix"),
            Err(fault) => return Flow::Stop(fault),
        };
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let now_ms = if plan.route().needs_now() { crate::status::unix_us() / 1_000 } else { 0 };
        match plan.encode_change(&self.transaction, at.relay_pos, change, now_ms, self.event) {
            Ok(Outcome::Event) => match self.offer(None) {
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
    fn build(&mut self, plan: &Plan, change: &Change<'_>, at: At<'_>) {
        let _ = plan.encode_change(&self.transaction, at.relay_pos, change, crate::status::unix_us() / 1_000, self.event);
    }

    /// Offers the encoded event to the sink.
    #[inline]
    fn offer(&mut self, table: Option<usize>) -> Offered {
        self.offer_with(table, |sink, event, ticket| sink.enqueue(event, ticket))
    }

    #[inline]
    fn offer_with(
        &mut self,
        table: Option<usize>,
        give: impl FnOnce(&mut (dyn Sink + Send), &Event, Ticket) -> Enqueue,
    ) -> Offered {
        let bytes = self.event.size_bytes();
        if !self.session.has_room(bytes) {
            return Offered::Not(Flow::Blocked(Why::Full, super::FULL_WAIT));
        }
        let ticket = self.session.next_ticket();
        match give(self.sink, self.event, ticket) {
            Enqueue::Accepted => {
                self.session.sent(bytes);
                self.tally.sent(ticket.0, table, self.event.topic(), bytes);
                *self.has_unnudged = true;
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

    /// The policy for an event that cannot be published. What was built of it is still in the event buffer.
    #[cold]
    fn poison(&mut self, at: At<'_>, poison: Poison, origin: Origin<'_>) -> Flow {
        let key = shown(self.event.key());
        if self.last_poison.replace(at.position) != Some(at.position) {
            self.metrics.poison(poison.reason);
        }
        match self.config.on_poison {
            OnPoison::Stop => Flow::Poisoned(at.position, poison, at.relay_pos.to_string(), key),
            OnPoison::Skip => {
                self.metrics.discarded(poison.reason);
                tracing::warn!(
                    event = "event.skipped",
                    error.code = Kind::Poison.directive().code,
                    reason = poison.reason.name(),
                    position = %at.relay_pos,
                    key,
                    "the event is skipped: {}",
                    poison.message
                );
                self.passed()
            }
            OnPoison::Dlq => {
                if !self.session.has_room(0) {
                    return Flow::Blocked(Why::Full, super::FULL_WAIT);
                }
                let now_us = crate::status::unix_us();
                let now = crate::clock::rfc3339(now_us);
                let entry = dlq::Entry {
                    topic: &self.config.dlq_topic,
                    pipeline: &self.config.name,
                    slot: &self.config.slot,
                    position: at.relay_pos,
                    xid: self.transaction.xid,
                    fault: dlq::Fault::Poison(&poison),
                    attempts: 1,
                    first_at: &now,
                    last_at: &now,
                    timestamp_ms: now_us / 1_000,
                    has_connect_headers: false,
                };
                dlq::encode(&entry, origin, self.event, self.dlq_event);
                std::mem::swap(self.event, self.dlq_event);
                match self.offer_with(None, |sink, event, ticket| sink.park(event, ticket)) {
                    Offered::Sent => {
                        self.metrics.dlq(poison.reason);
                        tracing::warn!(
                            event = "event.parked",
                            error.code = Kind::Poison.directive().code,
                            reason = poison.reason.name(),
                            position = %at.relay_pos,
                            key,
                            "the event is parked in {}: {}",
                            self.config.dlq_topic,
                            poison.message
                        );
                        self.passed()
                    }
                    Offered::Not(flow) => flow,
                    // Too large for the dlq as well: nothing is dropped unasked.
                    Offered::Poison(dlq) => {
                        let message = format!("{}; nor can it be parked: {}", poison.message, dlq.message);
                        Flow::Poisoned(at.position, Poison::new(poison.reason, message), at.relay_pos.to_string(), key)
                    }
                }
            }
        }
    }

    fn filtered(&mut self, reason: &'static str) -> Flow {
        self.metrics.filtered(reason);
        self.passed()
    }

    #[inline]
    pub(super) fn passed(&mut self) -> Flow {
        self.session.passed();
        Flow::Done
    }
}

enum Offered {
    Sent,
    Not(Flow),
    Poison(Poison),
}

/// A key as a log may show it: cut, and without control characters.
fn shown(key: Option<&[u8]>) -> String {
    const SHOWN_MAX: usize = 64;
    let text = String::from_utf8_lossy(key.unwrap_or_default());
    text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}

/// Puts the table's name in front: whoever reads the message must know where to look.
fn named(mut poison: Poison, change: &Change<'_>) -> Poison {
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

/// Asks for a table's partition root, once in a while.
fn ask_root(table: TableId, asked: &mut Option<Instant>) -> Flow {
    if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
        return Flow::Blocked(Why::Lookup, LOOKUP_WAIT);
    }
    *asked = Some(Instant::now());
    Flow::AskRoot(table)
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

fn lost(error: &relay_pgwire::Error) -> Input {
    let fault = Fault { kind: error.kind(), message: error.to_string() };
    // What ends a stream for good on this server is a stop; the policy table knows which kinds are.
    match fault.kind.directive().action {
        relay_core::error::Action::StopStream => Input::Stop(fault),
        _ => Input::Lost(fault),
    }
}
