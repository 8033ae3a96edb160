//! The polling source's turn on the wire thread: ticks and claims become rows, rows take the way that the log's changes take.

use super::{Current, FIRST_WAIT, LIST_INTERVAL, Polling};
use crate::status::Peer;
use crate::stream::marks::{self, Marks};
use crate::stream::pass::{At, Place};
use crate::stream::read::{Flow, SHORT_READ_BYTES, TURN_BYTES};
use crate::stream::{BUSY_WAIT, IDLE_WAIT, Stream};
use relay_core::session::{Admission, Begun, Fault, Input, Rows};
use relay_core::{Change, Kind, Relation, RelayPos, Row, Transaction, Value, Xid};
use relay_failpoint::fail_point;
use relay_pgwire::cells;
use relay_postgres::TableId;
use relay_postgres::poll::{Head, PolledTable, Poller, Taken};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a turn gives, or what the session must hear.
type Heard<T> = Result<T, Box<Input>>;

/// Nothing went on for so long: the statement that is being read is given up.
const STALL: Duration = Duration::from_secs(10);
/// How soon to ask again whether a tick's WAL is on disk.
const FLUSH_WAIT: Duration = Duration::from_millis(1);

// === impl Stream ===

impl Stream {
    /// One turn of polling: how long to wait for a message, or what the session must hear. Nothing here may call the session's orders in:
    /// they touch what is being borrowed.
    pub(in crate::stream) fn poll_turn(&mut self, polling: &mut Polling) -> Heard<Duration> {
        let now = Instant::now();
        polling.marks.mark(&self.session, &polling.tables, !self.session.is_streaming());
        if let Some(poller) = &mut polling.poller {
            poller.ping(now).map_err(|error| lost(&error))?;
            if self.session.is_leader() {
                self.status.saw(Peer::Source);
            }
        }
        if polling.poller.is_none() || !self.session.is_streaming() {
            return Ok(self.pause());
        }
        self.unblock_or_keep();
        if let Some(blocked) = self.blocked.as_ref() {
            if now.duration_since(blocked.since) >= STALL && polling.current.take().is_some() {
                // An open statement keeps the server from cleaning up; the rest is asked for again when it can go on.
                self.session.leave_work();
                if let Some(poller) = &mut polling.poller {
                    poller.abandon();
                }
            }
            if blocked.retry > now {
                return Ok((blocked.retry - now).min(IDLE_WAIT));
            }
        }
        let result = self.poll_rows(polling);
        if result.is_err() {
            polling.current = None;
        }
        result
    }

    /// The longest wait that still sees an acknowledgement in time.
    fn pause(&self) -> Duration {
        if self.session.window().events() > 0 { BUSY_WAIT } else { IDLE_WAIT }
    }

    /// Reads a page at most: then acknowledgements, clock and lock are looked at.
    fn poll_rows(&mut self, polling: &mut Polling) -> Heard<Duration> {
        let (mut rows, mut handled) = (0, 0);
        while rows < polling.config.poll.batch && handled < polling.config.poll.batch_bytes.min(TURN_BYTES) {
            rows += 1;
            if polling.current.is_none()
                && let Some(wait) = self.next_work(polling)?
            {
                return Ok(wait);
            }
            match self.head(polling, &mut handled)? {
                Step::On => {}
                Step::Leave => return Ok(Duration::ZERO),
                Step::Empty => {
                    let is_dense = self.pace.is_dense(Instant::now());
                    self.nudge_at_pace(is_dense, polling.current.as_ref().map_or(0, |current| current.work.time_us));
                    if is_dense && let Some(wait) = self.coalesce_wait() {
                        // As in the log's stream: an eager reader is woken for each few rows, which costs the server more than it gains.
                        std::thread::sleep(wait);
                    }
                    let wait = self.pause();
                    let Some(poller) = &mut polling.poller else { return Ok(wait) };
                    let bytes = poller.fill(wait).map_err(|error| lost(&error))?;
                    self.tally.received_bytes(bytes);
                    self.short_read = bytes < SHORT_READ_BYTES;
                    if bytes == 0 {
                        return Ok(Duration::ZERO);
                    }
                }
            }
        }
        fail_point!("tick-page");
        Ok(Duration::ZERO)
    }

    /// Begins the next work, or looks for some when it is time; the time to wait when there is nothing to read now.
    fn next_work(&mut self, polling: &mut Polling) -> Heard<Option<Duration>> {
        let Some(work) = self.session.work() else { return self.look(polling).map(Some) };
        let shape = polling.shape(&work.table);
        let Some(poller) = &mut polling.poller else { return Ok(Some(IDLE_WAIT)) };
        let Some((table, polled)) = poller.table(&work.table) else {
            let message = format!("{} is not there any more, or not to be polled", work.table);
            return Err(stop(Kind::ColumnMissing, message));
        };
        debug_assert_eq!(polled.is_tick(), matches!(work.rows, Rows::Tick { .. }));
        match self.session.begin_work(&work).map_err(|fault| Box::new(Input::Stop(fault)))? {
            Begun::Read => {}
            Begun::Rewind => return Ok(Some(Duration::ZERO)),
        }
        let keys = polling.marks.claimed(work.number);
        poller.start(table, &work, keys).map_err(|error| lost(&error))?;
        let places = keys.map(|keys| keys.iter().cloned().zip(0..).collect());
        if work.rows == Rows::Claim && places.is_none() {
            polling.marks.begin_claim(&work);
        }
        let is_marked = marks::are_marked(polling.tables.get(table));
        polling.current = Some(Current {
            work,
            table,
            shape,
            columns: None,
            order: None,
            index: None,
            places,
            is_marked,
            range: None,
            has_part: false,
        });
        Ok(None)
    }

    /// Takes a tick and claims rows, if it is time to; else the time to wait.
    fn look(&mut self, polling: &mut Polling) -> Heard<Duration> {
        let now = Instant::now();
        if !polling.is_time(now) {
            self.nudge();
            let limit = self.pause().min(polling.look_at - now);
            let Some(poller) = polling.poller.as_mut().filter(|_| !polling.config.poll.notify.is_empty()) else {
                return Ok(limit);
            };
            if poller.wait_notified(limit).map_err(|error| lost(&error))? {
                polling.look_at = now;
            }
            return Ok(Duration::ZERO);
        }
        let Some(poller) = &mut polling.poller else { return Ok(IDLE_WAIT) };
        let may_grow = polling.config.has_globs || polling.config.named.iter().any(|name| poller.table(name).is_none());
        let rule = Arc::clone(&polling.config.rule);
        if may_grow && now.duration_since(polling.listed_at) >= LIST_INTERVAL {
            polling.listed_at = now;
            poller.list_tables(&*rule).map_err(|error| lost(&error))?;
            polling.tables = poller.tables().to_vec();
        }
        let mut is_new = false;
        if poller.tables().iter().any(PolledTable::is_tick) {
            match poller.take_tick().map_err(|error| lost(&error))? {
                Taken::Tick(tick) => {
                    // A table must be known to the first tick that shows rows of it: to the next one they are old.
                    let is_other = polling.seen.as_ref() != Some(&tick.snapshot);
                    if may_grow && is_other && poller.list_changed(&*rule).map_err(|error| lost(&error))? {
                        polling.tables = poller.tables().to_vec();
                    }
                    polling.seen = Some(tick.snapshot.clone());
                    is_new = self.session.take_tick(tick, &names(poller, true));
                    fail_point!("tick-read" if is_new);
                }
                Taken::Unflushed => {
                    polling.look_at = now + FLUSH_WAIT;
                    return Ok(Duration::ZERO);
                }
            }
        }
        let claimed = names(poller, false);
        let is_quiet = polling.wait > FIRST_WAIT && !is_new;
        if (claimed.is_empty() || is_quiet)
            && let Some(deadline_ms) = self.drain_by.take()
        {
            // Everything that was there at the signal is known now.
            return Err(Box::new(Input::Drain { deadline_ms, read_to: Some(self.session.known_end()) }));
        }
        let now_us = crate::status::unix_us();
        for table in claimed {
            if !polling.marks.is_busy(&table) {
                self.session.take_claim(table, now_us);
            }
        }
        Ok(Duration::ZERO)
    }

    /// Deals with what stands at the head of the rows.
    fn head(&mut self, polling: &mut Polling, handled: &mut usize) -> Heard<Step> {
        let Polling { poller: Some(poller), current: Some(current), shapes, cells: found, marks, .. } = polling else {
            return Ok(Step::Leave);
        };
        if current.columns.is_none() && matches!(poller.head().map_err(|error| lost(&error))?, Head::Row(_)) {
            let is_new = shapes[current.shape].learn(poller.columns());
            if is_new && self.plans.changed(TableId(current.shape)) {
                self.metrics.schema_change(&shapes[current.shape].name);
            }
            let relation = &shapes[current.shape].relation;
            let columns = poller.tables().get(current.table).map(|table| table.columns(|name| relation.column(name)));
            current.columns = columns.transpose().map_err(|column| {
                let message = format!("{relation} has no column `{column}`, which polling needs");
                stop(Kind::ColumnMissing, message)
            })?;
        }
        let (size, flow) = match poller.head().map_err(|error| lost(&error))? {
            Head::Pending => return Ok(Step::Empty),
            Head::End => {
                self.end_work(polling)?;
                return Ok(Step::On);
            }
            Head::Row(body) => {
                fail_point!("after-read");
                cells(body, found)
                    .map_err(|error| Box::new(Input::Lost(Fault { kind: error.kind(), message: error.to_string() })))?;
                (body.len(), self.polled_row(current, &shapes[current.shape].relation, marks, Row::new(body, found))?)
            }
        };
        match flow {
            Flow::Done => {
                poller.consume(size);
                *handled += size;
                current.index = None;
                if current.is_marked
                    && let Some(range) = current.handled(polling.config.poll.batch)
                {
                    marks.note(range);
                }
                self.pace.count();
                polling.has_rows = true;
                if self.blocked.is_some() {
                    self.unblock();
                }
                Ok(Step::On)
            }
            Flow::Blocked(why, wait) => {
                self.blocked_by(why, wait);
                Ok(Step::Leave)
            }
            Flow::Poisoned(suspect) => {
                self.poisoned(&suspect);
                Ok(Step::Leave)
            }
            Flow::Stop(fault) => Err(Box::new(Input::Stop(fault))),
            Flow::Lost(fault) => Err(Box::new(Input::Lost(fault))),
            Flow::Left | Flow::AskRoot(..) | Flow::AskCatalog(..) | Flow::Notice(_) => Ok(Step::Leave),
        }
    }

    /// A row takes the way that a change of the log takes, under the position that polling gives it.
    fn polled_row(&mut self, current: &mut Current, relation: &Relation, marks: &mut Marks, row: Row<'_>) -> Heard<Flow> {
        let Some(columns) = &current.columns else { return Ok(Flow::Left) };
        let work = &current.work;
        let text = |at: Option<usize>| match at.and_then(|at| row.get(at)) {
            Some(Value::Text(text)) => text,
            _ => &[],
        };
        let order = text(columns.order);
        let mut xid = Xid(0);
        let relay_pos = match &work.rows {
            Rows::Tick { .. } => {
                let Some(value) = std::str::from_utf8(order).ok().and_then(|order| order.parse::<i64>().ok()) else {
                    let message = format!("{relation}: the order column of a row is NULL");
                    return Err(stop(Kind::OrderRepeats, message));
                };
                self.session.seek_order(value).map_err(|fault| stop(fault.kind, format!("{relation}: {}", fault.message)))?;
                current.order = Some(value);
                let full = text(columns.xid);
                xid = Xid(std::str::from_utf8(full).ok().and_then(|xid| xid.parse::<u64>().ok()).unwrap_or(0) as u32);
                RelayPos::Tick { xid: full, order }
            }
            Rows::Claim => {
                let index = current.index.or_else(|| {
                    let key: Vec<String> =
                        columns.key.iter().map(|&at| String::from_utf8_lossy(text(Some(at))).into_owned()).collect();
                    match &current.places {
                        Some(places) => places.get(&key).copied(),
                        None => marks.claim_row(work.number, key),
                    }
                });
                let Some(index) = index else {
                    let message = format!("{relation}: a claimed row came back under another key");
                    return Err(stop(Kind::SourceProtocol, message));
                };
                current.index = Some(index);
                self.session.seek_index(index as u64);
                RelayPos::Claim { order }
            }
        };
        let transaction = Transaction { commit_lsn: work.number, commit_time_us: work.time_us, xid };
        let (_, plans, mut pass) = self.split(Place::default());
        pass.transaction = transaction;
        let (table, change) = (TableId(current.shape), Change::Insert { relation, new: row });
        Ok(match pass.session.admit() {
            Admission::Covered => pass.passed(),
            Admission::Fresh(position) => pass.row(plans, table, &change, At { position, relay_pos }),
            Admission::Condemned(position, poison) => pass.condemned(plans, table, &change, At { position, relay_pos }, poison),
        })
    }

    /// The rows of the work at hand are at their end.
    fn end_work(&mut self, polling: &mut Polling) -> Heard<()> {
        let Some(mut current) = polling.current.take() else { return Ok(()) };
        let number = current.work.number;
        if let Some(range) = current.take_range(true) {
            polling.marks.note(range);
        }
        polling.marks.end_claim(number);
        fail_point!("tick-page");
        self.session.end_work(number).map_err(|fault| Box::new(Input::Stop(fault)))
    }
}

/// What to do after a look at the head.
enum Step {
    /// On with the next.
    On,
    /// The turn is over.
    Leave,
    /// Nothing has come.
    Empty,
}

/// The tables whose order is `tick`, or those whose order is `claim`.
fn names(poller: &Poller, is_tick: bool) -> Vec<Arc<str>> {
    let tables = poller.tables().iter().filter(|table| table.is_tick() == is_tick);
    tables.map(|table| table.name.as_str().into()).collect()
}

/// What the server said, as the session takes it.
fn lost(error: &relay_postgres::Error) -> Box<Input> {
    let fault = error.fault();
    Box::new(match fault.kind.directive().action {
        relay_core::error::Action::StopStream => Input::Stop(fault),
        _ => Input::Lost(fault),
    })
}

fn stop(kind: Kind, message: String) -> Box<Input> {
    Box::new(Input::Stop(Fault { kind, message }))
}
