//! `relay checkpoint`: shows the stored position, or stores the slot's where there is none.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_core::checkpoint::{Checkpoint, Mode, PollPosition, ReadCheckpoint, Reading, Record, RecordState};
use relay_core::session::{self, Reads, Server, Slot};
use relay_core::{Acks, Kind, Lsn};
use relay_kafka::{CheckpointReader, Deps};
use relay_postgres::Source;
use relay_postgres::poll::Hold;

use super::confirm::confirm;
use super::refusal::Refusal;
use super::run::load_or_report;
use crate::cli::{ChangeArgs, CheckpointAction, CheckpointArgs, Flags};
use crate::clock::now_rfc3339;
use crate::parts;
use crate::settings::{Settings, SinkKind, SourceMode};
use crate::stream::Routes;

/// How long a store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command. Returns the exit code.
pub(crate) fn checkpoint(flags: &Flags, args: &CheckpointArgs) -> u8 {
    let settings = match load_or_report(flags) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    let done = match &args.action {
        CheckpointAction::Show => show(flags, &settings),
        CheckpointAction::Init(change) => init(flags, &settings, *change),
    };
    done.map_or_else(|refusal| refusal.report(), |()| 0)
}

/// Prints the newest record. Reads only, so it may run beside the daemon.
fn show(flags: &Flags, settings: &Settings) -> Result<(), Refusal> {
    match read(settings)?.newest {
        Some(record) => print(flags, &record),
        None => {
            let message =
                format!("no checkpoint of pipeline `{}` in topic {}", settings.name, settings.delivery.checkpoint_topic);
            return Err(Refusal::refused(message, "the first start of `relay run` stores one"));
        }
    }
    Ok(())
}

/// Stores end_lsn = the slot's confirmed position; in poll mode that nothing was published yet.
fn init(flags: &Flags, settings: &Settings, change: ChangeArgs) -> Result<(), Refusal> {
    let source = parts::source(settings).map_err(Refusal::config)?;
    let routes = Arc::new(parts::routes(settings).map_err(Refusal::config)?);
    let reading = read(settings)?;
    refuse_existing(&reading)?;
    if settings.source.mode == SourceMode::Poll {
        return init_polling(flags, settings, change, &source, &routes);
    }
    // Before anything is asked of the person: a slot that is in use makes every answer pointless.
    let pid = source.watch(&mut source.connect()?)?.active_pid;
    if let Some(pid) = pid {
        return Err(busy(&settings.source.log.slot, &format!("is active for pid {pid}")));
    }
    let make = |server: &Server, reading: &Reading| {
        let session = parts::session(settings, &routes, Reads::Log, None);
        let slot = usable_slot(server, settings)?;
        Ok::<_, Refusal>(Record {
            mode: Mode::Log.name().into(),
            slot: Some(session.slot.clone()),
            end_lsn: Some(slot.confirmed_flush),
            publication_fingerprint: server.publication.clone().unwrap_or_default(),
            ..record(server, reading, &session, settings.delivery.guarantee.as_str())
        })
    };
    let record = make(&source.inspect()?, &reading)?;
    if change.dry_run {
        eprintln!("dry run: this record would be stored in topic {}", settings.delivery.checkpoint_topic);
        print(flags, &record);
        return Ok(());
    }
    if !change.yes {
        confirm_store(&settings.name, &mut std::io::stdin().lock())?;
    }
    // Held, the slot cannot be taken by a relay that starts meanwhile, nor moved. Nothing is confirmed to it.
    let held = source.stream(Lsn::ZERO, settings.source.log.max_message.as_usize()).map_err(|error| match error.kind() {
        Kind::SlotBusy => busy(&settings.source.log.slot, &error.to_string()),
        _ => error.into(),
    })?;
    let server = source.inspect()?;
    let reading = read(settings)?;
    refuse_existing(&reading)?;
    let record = make(&server, &reading)?;
    store(settings, &record)?;
    drop(held);
    if flags.quiet == 0 {
        let end = record.end_lsn.unwrap_or_default();
        eprintln!("stored in topic {}: relay goes on at {end}", settings.delivery.checkpoint_topic);
    }
    print(flags, &record);
    Ok(())
}

/// Stores that nothing was published: every row that is kept will be.
fn init_polling(
    flags: &Flags,
    settings: &Settings,
    change: ChangeArgs,
    source: &Source,
    routes: &Arc<Routes>,
) -> Result<(), Refusal> {
    let (polling, reads) = parts::polling(settings, routes, false);
    if !matches!(reads, Reads::Poll { has_ticks: true, .. }) {
        let message = "no [[outbox]] is polled with order `tick`: the marks in the rows are the position";
        return Err(Refusal::refused(message.to_owned(), "`relay run` needs no checkpoint here"));
    }
    if change.dry_run {
        eprintln!("dry run: nothing is stored in topic {}", settings.delivery.checkpoint_topic);
    } else if !change.yes {
        confirm_store(&settings.name, &mut std::io::stdin().lock())?;
    }
    // Held, the lock keeps every relay of this pipeline waiting.
    let Hold::Held(held) = source.hold_lock(&polling.poll)? else {
        return Err(busy("", "the pipeline's advisory lock is held"));
    };
    let (server, _) = source.inspect_polling(&settings.name)?;
    let reading = read(settings)?;
    refuse_existing(&reading)?;
    let session = parts::session(settings, routes, reads, None);
    let record = Record {
        mode: Mode::Poll.name().into(),
        end_lsn: Some(server.wal_end),
        poll: Some(PollPosition::start()),
        ..record(&server, &reading, &session, settings.delivery.guarantee.as_str())
    };
    if !change.dry_run {
        store(settings, &record)?;
        if flags.quiet == 0 {
            eprintln!("stored in topic {}: every row that is kept will be published", settings.delivery.checkpoint_topic);
        }
    }
    drop(held);
    print(flags, &record);
    Ok(())
}

/// What is stored for the pipeline.
fn read(settings: &Settings) -> Result<Reading, Refusal> {
    if settings.sink.kind == SinkKind::Stdout {
        return Err(Refusal::refused("sink.kind is \"stdout\", which keeps no checkpoint", "the slot's own position is used"));
    }
    let kafka = parts::kafka(settings).map_err(Refusal::config)?;
    Ok(CheckpointReader::of(&kafka).read()?)
}

fn print(flags: &Flags, record: &Record) {
    let text = if flags.is_json() { Ok(record.to_json()) } else { serde_json::to_string_pretty(record) };
    // A reader that has gone away does not change what is stored.
    let _ = writeln!(std::io::stdout(), "{}", text.unwrap_or_else(|_| record.to_json()));
}

fn busy(slot: &str, what: &str) -> Refusal {
    let text = if what.starts_with("is ") { format!("slot `{slot}` {what}") } else { what.to_owned() };
    Refusal::of(Kind::SlotBusy, text).hint("stop the pipeline first, every instance of it")
}

fn refuse_existing(reading: &Reading) -> Result<(), Refusal> {
    match reading.newest.as_ref().and_then(|record| record.end_lsn.map(|end| (record, end))) {
        None => Ok(()),
        Some((record, end)) => Err(Refusal::refused(
            format!("pipeline `{}` has a checkpoint: epoch {}, position {end}", record.name, record.epoch),
            "`relay checkpoint show` prints it; `relay run` goes on from there",
        )),
    }
}

fn usable_slot<'a>(server: &'a Server, settings: &Settings) -> Result<&'a Slot, Refusal> {
    let name = &settings.source.log.slot;
    let Some(slot) = &server.slot else {
        let message = format!("slot `{name}` does not exist");
        return Err(Refusal::of(Kind::SlotMissing, message).hint("`relay run` creates publication and slot at its first start"));
    };
    if slot.is_lost {
        return Err(Refusal::of(Kind::SlotLost, format!("slot `{name}` was invalidated")));
    }
    if let Some(reason) = &slot.unfit {
        return Err(Refusal::of(Kind::SlotUnfit, format!("slot `{name}` cannot be used: {reason}")));
    }
    if server.publication.is_none() {
        let message = format!("publication `{}` does not exist", settings.source.log.publication);
        return Err(Refusal::of(Kind::PublicationMissing, message));
    }
    Ok(slot)
}

/// A record of everything but the position.
fn record(server: &Server, reading: &Reading, session: &session::Config, guarantee: &str) -> Record {
    Record {
        v: Record::VERSION,
        state: RecordState::Stopped,
        name: session.name.clone(),
        epoch: reading.highest_epoch + 1,
        instance: session.instance.clone(),
        guarantee: guarantee.into(),
        mode: String::new(),
        system_id: server.system_id.clone(),
        timeline: server.timeline,
        database: server.database.clone(),
        slot: None,
        end_lsn: None,
        commit_lsn: None,
        seq: None,
        snapshot: None,
        poll: None,
        log_poll: None,
        publication_fingerprint: String::new(),
        config_fingerprint: session.config_fingerprint.clone(),
        accepted_gaps: Vec::new(),
        written_at: now_rfc3339(),
        relay_version: session.relay_version.clone(),
    }
}

/// Asks for the pipeline's name.
fn confirm_store(name: &str, answers: &mut impl BufRead) -> Result<(), Refusal> {
    let question = format!("This stores the slot's position as the checkpoint of pipeline `{name}`. Type its name");
    confirm(&question, name, "nothing was stored", answers)
}

/// Stores one record and waits until Kafka has it.
fn store(settings: &Settings, record: &Record) -> Result<(), Refusal> {
    let deps = Deps { acks: Acks::new(16) };
    let mut kafka = parts::kafka(settings).map_err(Refusal::config)?;
    // Outside of transactions: a command fences nobody.
    kafka.is_exactly_once = false;
    let mut kafka = kafka.build(deps).map_err(|error| Refusal::of(error.kind(), error.to_string()))?;
    let began = Instant::now();
    kafka.checkpoint.begin_store(record);
    loop {
        if let Some(outcome) = kafka.checkpoint.outcome() {
            return Ok(outcome?);
        }
        if began.elapsed() > STORE_TIMEOUT {
            let cause = kafka.health.last_error().map_or_else(String::new, |(_, error)| format!(": {error}"));
            let message = format!("Kafka did not acknowledge the record within {} s{cause}", STORE_TIMEOUT.as_secs());
            return Err(
                Refusal::of(Kind::CheckpointUnreachable, message).hint("`relay checkpoint show` tells whether it arrived")
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(slot: Option<Slot>, publication: Option<&str>) -> Server {
        Server {
            system_id: "1".into(),
            timeline: 1,
            switch_points: Vec::new(),
            database: "shop".into(),
            wal_end: Lsn(90),
            is_standby: false,
            snapshot: None,
            slot,
            publication: publication.map(str::to_owned),
        }
    }

    #[test]
    fn only_the_typed_name_goes_on() {
        for (typed, is_good) in [("orders\n", true), (" orders \r\n", true), ("order\n", false), ("", false), ("y\n", false)] {
            assert_eq!(confirm_store("orders", &mut typed.as_bytes()).is_ok(), is_good, "{typed:?}");
        }
    }

    #[test]
    fn a_slot_must_be_one_that_relay_can_read() {
        let mut settings = Settings::default();
        settings.source.log.slot = "relay_a".into();
        let slot = |unfit: Option<&str>, is_lost| {
            Some(Slot { unfit: unfit.map(str::to_owned), is_lost, confirmed_flush: Lsn(7), is_active: false })
        };
        let refused = |server: &Server| usable_slot(server, &settings).unwrap_err().text();
        assert!(refused(&server(None, Some("x"))).contains("R0221"));
        assert!(refused(&server(slot(None, true), Some("x"))).contains("R0222"));
        assert!(refused(&server(slot(Some("it is temporary"), false), Some("x"))).contains("it is temporary"));
        assert!(refused(&server(slot(None, false), None)).contains("R0224"));
        let good = server(slot(None, false), Some("x"));
        assert_eq!(usable_slot(&good, &settings).unwrap().confirmed_flush, Lsn(7));
    }
}
