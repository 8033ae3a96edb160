//! RL001: the stored position against server and slot, as a start would compare them.

use relay_core::checkpoint::{Mode, ReadError, Reading, Record, RecordState};
use relay_core::session::{Server, Slot};
use relay_core::{Kind, Lsn};

use super::Stored;
use super::row::Row;
use crate::command::refusal::read_kind;
use crate::settings::{Guarantee, Settings, SourceMode};

const ID: &str = "RL001";

/// One row for each thing that a start would refuse, or one that says where it would go on.
pub(super) fn check(settings: &Settings, server: Result<Server, String>, stored: &Stored) -> Vec<Row> {
    let reading = match stored {
        None => return vec![Row::skip(ID, "sink.kind is \"stdout\", which keeps no checkpoint")],
        Some(Err(error @ ReadError::Unusable(text))) => {
            let row = Row::fail(ID, text.clone()).because("the topic, or a record in it, is not as relay needs it");
            return vec![row.so("relay does not start").cure(read_kind(error).directive().hint)];
        }
        Some(Err(error)) => return vec![Row::skip(ID, format!("the checkpoint cannot be read: {error}"))],
        Some(Ok(reading)) => reading,
    };
    let server = match server {
        Ok(server) => server,
        Err(message) => return vec![Row::skip(ID, format!("the slot cannot be looked at: {message}"))],
    };
    let is_exactly_once = settings.delivery.guarantee == Guarantee::ExactlyOnce;
    compare(&settings.source.log.slot, &server, reading, settings.source.mode == SourceMode::Poll, is_exactly_once)
}

fn compare(name: &str, server: &Server, reading: &Reading, is_poll: bool, is_exactly_once: bool) -> Vec<Row> {
    let slot = server.slot.as_ref();
    let record = match &reading.newest {
        None if is_exactly_once && (is_poll || slot.is_some()) => {
            return vec![
                Row::fail(ID, "no record, although something may have been published before")
                    .because("exactly-once takes nobody's word for what was published but the checkpoint's")
                    .so("relay does not start")
                    .cure("relay checkpoint init"),
            ];
        }
        None => {
            return vec![Row::ok(
                ID,
                match slot {
                    _ if is_poll => "no record: the first start publishes every row that the outbox tables hold".to_owned(),
                    None => "no record and no slot: relay has not been started yet".to_owned(),
                    Some(slot) => format!("no record: relay adopts slot {name} at {}", slot.confirmed_flush),
                },
            )];
        }
        Some(record) => record,
    };
    let was_poll = record.mode == Mode::Poll.name();
    let mut rows = identity(name, server, record, is_poll || was_poll);
    if rows.is_empty() && (is_poll || was_poll) {
        return vec![match (is_poll, was_poll) {
            (true, true) => polled(server, record),
            (true, false) => from_log(record),
            _ => to_log(name, slot.is_some(), record),
        }];
    }
    if rows.is_empty() {
        rows.extend(match (record.end_lsn, slot) {
            (None, _) => None,
            (Some(end), None) => Some(without_slot(name, end)),
            (Some(end), Some(slot)) => place(name, server, slot, record, end),
        });
    }
    if rows.is_empty() {
        let observed = match (record.state, record.end_lsn, slot) {
            (RecordState::Bootstrapping, ..) | (_, None, _) => {
                "a first start was interrupted; the next one resumes it".to_owned()
            }
            (_, Some(end), slot) => {
                let confirmed = slot.map_or(Lsn::ZERO, |slot| slot.confirmed_flush);
                format!(
                    "epoch {}, position {end}, slot confirmed at {confirmed}, {} bytes of WAL to read",
                    record.epoch,
                    server.wal_end.bytes_since(end)
                )
            }
        };
        rows.push(Row::ok(ID, observed));
    }
    rows
}

/// Server, database, slot and mode that the record names.
fn identity(name: &str, server: &Server, record: &Record, has_polled: bool) -> Vec<Row> {
    let foreign = |what: &str, stored: &str, ours: &str| {
        Row::fail(ID, format!("the checkpoint belongs to {what} {stored}, this is {what} {ours}"))
            .because("another server or slot than the one that was published from, or two pipelines with one name")
            .so("relay does not start")
            .cure(Kind::CheckpointForeign.directive().hint)
    };
    let mut rows = Vec::new();
    if record.system_id != server.system_id {
        rows.push(foreign("the server with system id", &record.system_id, &server.system_id));
    }
    if record.database != server.database {
        rows.push(foreign("database", &record.database, &server.database));
    }
    if let Some(slot) = record.slot.as_deref().filter(|slot| *slot != name && !has_polled) {
        rows.push(foreign("slot", slot, name));
    }
    rows
}

/// Poll mode on a poll record: what the tick saw must be in the server's history.
fn polled(server: &Server, record: &Record) -> Row {
    let (Some(position), end) = (&record.poll, record.end_lsn.unwrap_or_default()) else {
        return Row::ok(ID, format!("epoch {}; the marks in the rows are the position", record.epoch));
    };
    let is_ahead = server.snapshot.as_ref().is_some_and(|now| position.tick.xmax() > now.xmax()) || end > server.wal_end;
    let has_parted = server.timeline < record.timeline
        || server.switch_points.iter().any(|(ended, at)| *ended >= record.timeline && *at < end);
    if is_ahead || has_parted {
        return Row::fail(ID, format!("the checkpoint's tick {} is not in the server's history", position.tick))
            .because("the server was restored from a backup, a failover lost what was published, or this is another copy of it")
            .so("relay does not start: transaction ids that were published are given out again")
            .cure(format!("relay run --accept-gap {end}  # after comparing what was published with the tables"));
    }
    Row::ok(ID, format!("epoch {}, published up to tick {}", record.epoch, position.snapshot))
}

/// Poll mode on a log record.
fn from_log(record: &Record) -> Row {
    match &record.log_poll {
        Some(pair) => Row::ok(
            ID,
            format!(
                "the checkpoint is of log mode: polling starts at snapshot {}; what was published since comes twice",
                pair.snapshot
            ),
        ),
        None => Row::fail(ID, "the checkpoint is of log mode and knows no snapshot to poll from")
            .because("log mode has not run long enough to store one")
            .so("relay does not start in poll mode")
            .cure("run in log mode for some seconds first"),
    }
}

/// Log mode on a poll record.
fn to_log(name: &str, has_slot: bool, record: &Record) -> Row {
    if has_slot && record.slot.as_deref() != Some(name) {
        return Row::fail(ID, format!("the checkpoint is of poll mode, and slot {name} exists already"))
            .because("where the slot stands has nothing to do with where polling stands")
            .so("relay does not switch to the log")
            .cure("relay slot drop  # if nobody needs it; relay then makes its own");
    }
    Row::ok(ID, "the checkpoint is of poll mode: relay makes the slot, reads a last tick in its snapshot, and goes on in the log")
}

fn without_slot(name: &str, end: Lsn) -> Row {
    Row::fail(ID, format!("the checkpoint stands at {end}, but slot {name} does not exist"))
        .because("the slot was dropped, or lost in a failover")
        .so("relay does not start; changes since the checkpoint may be gone")
        .cure(Kind::SlotMissing.directive().hint)
}

/// Timeline, end of the WAL, confirmed position.
fn place(name: &str, server: &Server, slot: &Slot, record: &Record, end: Lsn) -> Option<Row> {
    let accept = format!("relay run --accept-gap {}", slot.confirmed_flush);
    // Of a transaction begun, at least the first byte of its commit record was published.
    let published = record.commit_lsn.map_or(end, |commit| end.max(Lsn(commit.0 + 1)));
    let parted = server.switch_points.iter().find(|(ended, at)| *ended >= record.timeline && *at < published);
    let diverged = match parted {
        _ if server.timeline < record.timeline => {
            Some(format!("the checkpoint is of timeline {}, the server is on timeline {}", record.timeline, server.timeline))
        }
        Some((ended, at)) => Some(format!("the server left timeline {ended} at {at}, the checkpoint stands at {published}")),
        None => None,
    };
    if let Some(observed) = diverged {
        return Some(
            Row::fail(ID, observed)
                .because("a failover lost WAL that was published already, or this is another copy of the server")
                .so("relay does not start")
                .cure(format!("{accept}  # after comparing what was published past that point with the tables")),
        );
    }
    if end > server.wal_end {
        let observed = format!("the checkpoint stands at {end}, the server's WAL ends at {}", server.wal_end);
        return Some(match server.is_standby {
            true => Row::warn(ID, observed)
                .because("the standby is behind its primary")
                .so("relay waits until it has caught up")
                .cure("wait"),
            false => Row::fail(ID, observed)
                .because("this is the wrong server, or it was restored from a backup")
                .so("relay does not start")
                .cure("point source.url at the server that was published from, or give the pipeline a new name"),
        });
    }
    if slot.confirmed_flush > end {
        let gap = slot.confirmed_flush.bytes_since(end);
        let observed = format!("slot {name} stands at {}, {gap} bytes past the checkpoint at {end}", slot.confirmed_flush);
        return Some(
            Row::fail(ID, observed)
                .because("the slot was created again or moved by somebody else, or checkpoints were lost")
                .so("relay does not start; the changes between the two positions will not come")
                .cure(format!("{accept}  # after publishing the rows of the gap again from the outbox table")),
        );
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::command::doctor::row::Status;
    use relay_core::checkpoint::{LogPoll, PollPosition};

    pub(in crate::command::doctor) fn record(state: RecordState, end_lsn: Option<&str>) -> Record {
        let json = serde_json::json!({
            "v": 1, "state": state, "name": "orders", "epoch": 3, "instance": "9f3a61c2", "guarantee": "at-least-once",
            "mode": "log", "system_id": "7", "timeline": 2, "database": "shop", "slot": "relay_orders", "end_lsn": end_lsn,
            "commit_lsn": null, "seq": null, "snapshot": null, "poll": null, "log_poll": null, "publication_fingerprint": "",
            "config_fingerprint": "", "accepted_gaps": [], "written_at": "", "relay_version": "",
        });
        Record::from_json(json.to_string().as_bytes()).unwrap()
    }

    fn server(confirmed: Option<u64>) -> Server {
        Server {
            system_id: "7".into(),
            timeline: 2,
            switch_points: vec![(1, Lsn(0x10))],
            database: "shop".into(),
            wal_end: Lsn(0x100),
            is_standby: false,
            snapshot: None,
            slot: confirmed.map(|lsn| Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(lsn), is_active: false }),
            publication: Some(String::new()),
        }
    }

    fn of(server: &Server, record: Option<Record>) -> Row {
        let rows = compare("relay_orders", server, &Reading::of(record), false, false);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    fn running(end: &str) -> Option<Record> {
        Some(record(RecordState::Running, Some(end)))
    }

    #[test]
    fn a_position_that_fits_is_ok() {
        assert_eq!(
            of(&server(Some(0x50)), running("0/60")).observed,
            "epoch 3, position 0/60, slot confirmed at 0/50, 160 bytes of WAL to read"
        );
        assert!(of(&server(Some(0x50)), None).observed.contains("adopts slot relay_orders at 0/50"));
        assert!(of(&server(None), None).observed.contains("not been started"));
        let strict = |slot, is_poll| compare("relay_orders", &server(slot), &Reading::default(), is_poll, true).remove(0);
        assert!(strict(Some(0x50), false).fix.contains("relay checkpoint init") && strict(None, true).status == Status::Fail);
        assert_eq!(strict(None, false).status, Status::Ok);
        assert_eq!(of(&server(None), Some(record(RecordState::Bootstrapping, None))).status, Status::Ok);
    }

    #[test]
    fn the_other_mode_is_a_switch_and_polling_goes_by_its_tick() {
        let of = |server: &Server, record: &Record, is_poll| {
            compare("relay_orders", server, &Reading::of([record.clone()]), is_poll, false).remove(0)
        };
        let log = record(RecordState::Running, Some("0/60"));
        assert_eq!(of(&server(None), &log, true).status, Status::Fail, "no pair yet");
        let pair = LogPoll { snapshot: "5:9:7".parse().unwrap(), lsn: Lsn(0x50) };
        let paired = Record { log_poll: Some(pair), ..log.clone() };
        assert!(of(&server(None), &paired, true).observed.contains("5:9:7"));
        let position = PollPosition::at("5:9:7".parse().unwrap());
        let poll = Record { mode: "poll".into(), slot: None, poll: Some(position), ..log };
        let now = |snapshot: &str| Server { snapshot: Some(snapshot.parse().unwrap()), ..server(None) };
        assert_eq!(of(&now("9:12:"), &poll, true).status, Status::Ok);
        assert!(of(&now("5:8:"), &poll, true).fix.contains("--accept-gap 0/60"), "restored");
        assert_eq!(of(&server(None), &poll, false).status, Status::Ok);
        assert!(of(&server(Some(0x50)), &poll, false).fix.contains("relay slot drop"));
        let begun = Record { slot: Some("relay_orders".into()), ..poll };
        assert_eq!(of(&server(Some(0x50)), &begun, false).status, Status::Ok, "a slot of our own attempt");
    }

    #[test]
    fn what_a_start_would_refuse_fails_with_its_cure() {
        let gap = of(&server(Some(0x70)), running("0/60"));
        assert!(gap.status == Status::Fail && gap.fix.starts_with("relay run --accept-gap 0/70 "), "{gap:?}");
        assert!(of(&server(Some(0x50)), running("0/200")).observed.contains("WAL ends at 0/100"));
        let standby = Server { is_standby: true, ..server(Some(0x50)) };
        assert_eq!(of(&standby, running("0/200")).status, Status::Warn);
        assert!(of(&server(None), running("0/60")).observed.contains("does not exist"));
        let promoted = Server { timeline: 3, switch_points: vec![(1, Lsn(0x10)), (2, Lsn(0x58))], ..server(Some(0x50)) };
        assert!(of(&promoted, running("0/60")).observed.contains("left timeline 2 at 0/58"));
        assert_eq!(of(&promoted, running("0/58")).status, Status::Ok);
        let older = Server { timeline: 1, switch_points: Vec::new(), ..server(Some(0x50)) };
        assert!(of(&older, running("0/60")).observed.contains("is on timeline 1"));
        let foreign = Server { system_id: "8".into(), ..server(Some(0x50)) };
        assert!(of(&foreign, running("0/60")).observed.contains("system id 7"));
    }
}
