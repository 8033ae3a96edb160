//! RL001: the stored position against server and slot, as a start would compare them.

use relay_core::checkpoint::{ReadError, Reading, Record, RecordState};
use relay_core::session::{Server, Slot};
use relay_core::{Kind, Lsn};

use super::Stored;
use super::row::Row;
use crate::command::refusal::read_kind;
use crate::settings::Settings;

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
    compare(&settings.source.log.slot, &server, reading)
}

fn compare(name: &str, server: &Server, reading: &Reading) -> Vec<Row> {
    let slot = server.slot.as_ref();
    let record = match &reading.newest {
        None => {
            return vec![Row::ok(
                ID,
                match slot {
                    None => "no record and no slot: relay has not been started yet".to_owned(),
                    Some(slot) => format!("no record: relay adopts slot {name} at {}", slot.confirmed_flush),
                },
            )];
        }
        Some(record) => record,
    };
    let mut rows = identity(name, server, record);
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
fn identity(name: &str, server: &Server, record: &Record) -> Vec<Row> {
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
    if let Some(slot) = record.slot.as_deref().filter(|slot| *slot != name) {
        rows.push(foreign("slot", slot, name));
    }
    if record.mode != "log" {
        rows.push(foreign("mode", &record.mode, "log"));
    }
    rows
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
        let rows = compare("relay_orders", server, &Reading::of(record));
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
        assert_eq!(of(&server(None), Some(record(RecordState::Bootstrapping, None))).status, Status::Ok);
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
