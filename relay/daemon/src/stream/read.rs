//! The hot path: from the read buffer to the sink, one frame after the other, until nothing whole is left or something stands in the way.

use super::pass::{At, Pass, Place, ask_root};
use super::plans::{Planned, Plans};
use super::ring::Ring;
use super::{Stream, Why};
use crate::status::Peer;
use relay_core::session::{Admission, Begun, Fault, Input};
use relay_core::{Change, Kind, Lsn, Poison, PoisonReason, Position, Transaction};
use relay_encode::dlq::Origin;
use relay_failpoint::fail_point;
use relay_pgwire::{Body, CopyBoth, ServerError};
use relay_postgres::snapshot::WATERMARK_PREFIX;
use relay_postgres::{Assembler, Step, TableId};
use std::ops::ControlFlow;
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
    /// Poison, with `on_poison = "stop"`: it stays until somebody helps.
    Poisoned(Box<Suspect>),
    /// The connection is over.
    Lost(Fault),
    /// A table without route: its partition root must be known first. The number goes with the answer.
    AskRoot(TableId, u64),
    /// A captured table: what the catalog says of it must be known first.
    AskCatalog(TableId, u64),
    /// A notice came.
    Notice(Box<ServerError>),
}

/// An event that cannot be published.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) position: Position,
    pub(super) poison: Poison,
    /// Its position, as readers know it.
    pub(super) name: String,
    /// Its key, as a log may show it.
    pub(super) key: String,
    /// `schema.table`; empty for what is of no table.
    pub(super) table: String,
    /// Where its row stands in the log; zero where that is not known.
    pub(super) lsn: Lsn,
}

/// A read below this is a short one: the server has not much more ready.
pub(super) const SHORT_READ_BYTES: usize = 32 * 1024;
/// Wait before asking again for what is being looked up.
pub(super) const LOOKUP_WAIT: Duration = Duration::from_millis(2);
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
        if self.ring.as_ref().is_some_and(|ring| ring.is_replaying())
            && let Some(result) = self.replay(&mut handled)
        {
            return result;
        }
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
        self.nudge_at_pace(is_dense, self.assembler.transaction().commit_time_us);
        self.session.idle();
        self.fill(copy, self.patience()).err().map(|error| lost(&error))
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
        // One look at the clock for everything that is there: a read of the socket is between two of them.
        self.now_ns = crate::status::unix_ns();
        loop {
            let frame = match copy.peek() {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(error) => return Some(Some(lost(&error))),
            };
            let size = frame.size;
            let is_data = matches!(frame.body, Body::XLogData { .. } | Body::Oversize { .. });
            fail_point!("after-read" if is_data);
            let flow = match frame.body {
                Body::XLogData { wal_start, send_time_us, payload, .. } => {
                    let place = Place { lsn: wal_start, send_time_us };
                    let flow = self.message(place, payload);
                    if let (Some(ring), Flow::Done) = (&mut self.ring, &flow) {
                        ring.keep(place, payload, self.session.kept(payload.len() + Ring::FRAME_BYTES));
                    }
                    flow
                }
                Body::Keepalive { wal_end, reply_requested, .. } => {
                    self.status.saw(Peer::Source);
                    self.session.keepalive(wal_end, reply_requested);
                    if reply_requested {
                        self.confirm.asked();
                    }
                    Flow::Done
                }
                Body::Oversize { head, len } => {
                    let flow = self.oversize(head, len);
                    if let (Some(ring), Flow::Done) = (&mut self.ring, &flow) {
                        // It was never held as a whole, so there is nothing to read again.
                        self.session.kept(usize::MAX / 4);
                        ring.lose();
                    }
                    flow
                }
                Body::Notice { fields } => Flow::Notice(fields),
                Body::ParameterStatus { .. } => Flow::Done,
                _ => Flow::Lost(Fault { kind: Kind::SourceUnavailable, message: "the server ended the stream".into() }),
            };
            if let ControlFlow::Break(result) = self.settle(flow) {
                return Some(result);
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

    /// What follows from what became of a frame: nothing where it is dealt with, else the loop is left with this.
    pub(super) fn settle(&mut self, flow: Flow) -> ControlFlow<Option<Input>> {
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
            Flow::Left => return ControlFlow::Break(None),
            Flow::Blocked(why, wait) => {
                self.blocked_by(why, wait);
                return ControlFlow::Break(None);
            }
            Flow::Poisoned(suspect) => {
                self.poisoned(&suspect);
                return ControlFlow::Break(None);
            }
            Flow::AskRoot(table, version) => {
                let oid = self.assembler.relation(table).oid;
                self.jobs.find_root(table, version, oid);
                self.blocked_by(Why::Lookup, LOOKUP_WAIT);
                return ControlFlow::Break(None);
            }
            Flow::AskCatalog(table, version) => {
                self.jobs.read_catalog(table, version, self.assembler.relation(table).clone());
                self.blocked_by(Why::Lookup, LOOKUP_WAIT);
                return ControlFlow::Break(None);
            }
            Flow::Stop(fault) => return ControlFlow::Break(Some(Input::Stop(fault))),
            Flow::Lost(fault) => return ControlFlow::Break(Some(Input::Lost(fault))),
        }
        ControlFlow::Continue(())
    }

    #[inline]
    pub(super) fn message(&mut self, place: Place, payload: &[u8]) -> Flow {
        if self.ring.is_some() && self.assembler.reshapes(payload) && !self.session.takes_relation() {
            // What is open was read by the shape before, and may have to be read again.
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let (assembler, plans, mut pass) = self.split(place);
        pass.event.expect(payload.len());
        let step = match assembler.read(payload) {
            Ok(step) => step,
            Err(error) => return Flow::Stop(error.fault()),
        };
        match step {
            Step::Row(table, change) => {
                if pass.session.watched_table().is_some() {
                    pass.watch.saw(pass.session, table, &change);
                }
                if pass.counts.is_on()
                    && let Some(flow) = pass.open_records(None)
                {
                    return flow;
                }
                match pass.session.admit() {
                    Admission::Covered => pass.covered_row(plans, table, &change),
                    Admission::Fresh(position) => pass.row(plans, table, &change, At::log(position)),
                    Admission::Condemned(position, poison) => pass.condemned(plans, table, &change, At::log(position), poison),
                }
            }
            Step::Begin(transaction) => self.begin(transaction),
            Step::Commit { commit_lsn, end_lsn } => {
                if pass.counts.is_on()
                    && let Some(flow) = pass.close_records()
                {
                    return flow;
                }
                match pass.session.commit(commit_lsn, end_lsn) {
                    Ok(()) => {
                        self.open.commit(end_lsn);
                        Flow::Done
                    }
                    Err(fault) => Flow::Stop(fault),
                }
            }
            Step::Origin { name, lsn } => {
                let name = name.to_owned();
                self.open.set_origin(name, lsn);
                Flow::Done
            }
            Step::Table(table, before) => {
                let now = assembler.relation(table);
                if before.as_ref().is_some_and(|before| (&before.schema, &before.name) != (&now.schema, &now.name)) {
                    pass.counts.renamed(table);
                }
                pass.watch.changed(table);
                if plans.changed(table) {
                    let now = assembler.relation(table);
                    pass.metrics.schema_change(&now.to_string());
                    if let Some(before) = before {
                        super::shape::tell(&before, now);
                    }
                }
                Flow::Done
            }
            Step::Known(table) => {
                plans.doubted(table);
                Flow::Done
            }
            Step::Message(Change::Message { prefix: WATERMARK_PREFIX, content, .. }) => {
                pass.counts.saw(Some(WATERMARK_PREFIX));
                let content = content.to_vec();
                self.watermark(place, &content)
            }
            Step::Message(change) => pass.message(plans, &change),
            Step::Truncate(truncated) => {
                if pass.session.watched_table().is_some() {
                    for &table in &truncated.tables {
                        let relation = assembler.relation(table);
                        let change = Change::Truncate { relation, is_cascade: false, restarts_identity: false };
                        pass.watch.saw(pass.session, table, &change);
                    }
                }
                pass.truncate(plans, assembler, &truncated)
            }
            Step::LooseMessage(change) if pass.config.loose_messages => pass.loose_message(plans, &change),
            Step::LooseMessage(_) | Step::Nothing => Flow::Done,
        }
    }

    fn begin(&mut self, transaction: Transaction) -> Flow {
        self.session.streams(transaction.xid);
        match self.session.begin(transaction.commit_lsn, transaction.commit_time_us) {
            Ok(Begun::Read) => {
                let counts = self.config.transaction_metadata && !self.session.is_covered();
                self.open.begin(counts, !self.session.has_records());
                Flow::Done
            }
            Ok(Begun::Rewind) => Flow::Left,
            Err(fault) => Flow::Stop(fault),
        }
    }

    /// The parts that one change passes through, apart: what it borrows from (tables and plans), and what it may touch.
    #[inline]
    pub(super) fn split(&mut self, place: Place) -> (&mut Assembler, &mut Plans, Pass<'_>) {
        let transaction = self.assembler.transaction();
        let previous_end = self.open.previous_end;
        let (origin, counts, loose) = self.open.split();
        let pass = Pass {
            session: &mut self.session,
            sink: self.sink.as_mut(),
            event: &mut self.event,
            dlq_event: &mut self.dlq_event,
            tally: &mut self.tally,
            metrics: &self.metrics,
            config: &self.config,
            captures: self.routes.captures(),
            has_unnudged: &mut self.has_unnudged,
            suspicion: &mut self.suspicion,
            watch: &mut self.watch,
            transaction,
            origin,
            counts,
            loose,
            previous_end,
            place,
            now_ns: self.now_ns,
        };
        (&mut self.assembler, &mut self.plans, pass)
    }

    /// Handles one message; whether it was dealt with.
    #[cfg(test)]
    pub(super) fn take_whole(&mut self, payload: &[u8]) -> bool {
        matches!(self.message(Place::default(), payload), Flow::Done)
    }

    /// A frame above `source.log.max_message`: its head says which table, the rest is never held.
    fn oversize(&mut self, head: &[u8], len: usize) -> Flow {
        let table = match self.assembler.peek(head) {
            Ok(table) => table,
            Err(error) => return Flow::Stop(error.fault()),
        };
        let (assembler, plans, mut pass) = self.split(Place::default());
        let name = table.map(|table| assembler.relation(table).to_string());
        if let Some(flow) = pass.open_records(None) {
            return flow;
        }
        match pass.session.admit() {
            Admission::Covered => pass.passed(),
            Admission::Fresh(position) | Admission::Condemned(position, _) => {
                match table {
                    Some(table) => match plans.of(table, assembler.relation(table)) {
                        Planned::Route(_) | Planned::Capture(_) | Planned::Reading(_) => {}
                        Planned::Unrouted => return pass.filtered("unrouted"),
                        Planned::Unknown(question) => return ask_root(table, question),
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
    pub(super) fn poisoned(&mut self, suspect: &Suspect) {
        let Suspect { position, poison, name, key, table, lsn } = suspect;
        let why = Why::Poison(*position);
        if self.blocked.as_ref().is_none_or(|blocked| blocked.why != why) {
            let directive = Kind::Poison.directive();
            let message = format!("event {name} cannot be published: {poison}");
            self.remember_error(Kind::Poison, &message);
            tracing::error!(
                event = "event.poison",
                error.code = directive.code,
                reason = poison.reason.name(),
                position = name,
                table,
                key,
                lsn = %lsn,
                hint = directive.hint,
                "{message}"
            );
        }
        self.nudge();
        self.block(why, POISON_WAIT);
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
