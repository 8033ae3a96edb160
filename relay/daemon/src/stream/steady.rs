//! The steady state allocates nothing on the wire thread: a counting allocator watches it from decoded frame to acknowledgement.

use super::plans::Planned;
use super::{Config, Control, OnPoison, Parts, Routes, Stream};
use crate::metrics::{Build, Metrics, Setup};
use crate::status::Status;
use relay_core::session::{self, Input, Order, Server, Session, Slot};
use relay_core::window::{Limits, Window};
use relay_core::{Acks, Catalog, Lsn};
use relay_encode::{CaptureSettings, FormatSettings, OutboxSettings, Route};
use relay_postgres::TableId;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Writes pgoutput messages of one table.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn value(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.bytes(b"n"),
            Some(text) => self.bytes(b"t").bytes(&(text.len() as u32).to_be_bytes()).bytes(text.as_bytes()),
        }
    }
}

const COLUMNS: [(&str, u32); 9] = [
    ("id", 2950),
    ("topic", 25),
    ("aggregate_type", 25),
    ("key", 25),
    ("type", 25),
    ("payload", 3802),
    ("headers", 3802),
    ("traceparent", 25),
    ("created_at", 1184),
];

fn relation() -> Vec<u8> {
    let mut wire = Wire::default();
    wire.bytes(b"R").bytes(&16_400_u32.to_be_bytes()).text("public").text("outbox").bytes(b"d");
    wire.bytes(&(COLUMNS.len() as u16).to_be_bytes());
    for (name, oid) in COLUMNS {
        wire.bytes(&[0]).text(name).bytes(&oid.to_be_bytes()).bytes(&(-1_i32).to_be_bytes());
    }
    wire.0
}

fn begin(commit_lsn: u64) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.bytes(b"B").bytes(&commit_lsn.to_be_bytes()).bytes(&800_000_000_000_000_i64.to_be_bytes()).bytes(&7_u32.to_be_bytes());
    wire.0
}

fn commit(commit_lsn: u64) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.bytes(b"C\0")
        .bytes(&commit_lsn.to_be_bytes())
        .bytes(&(commit_lsn + 8).to_be_bytes())
        .bytes(&800_000_000_000_000_i64.to_be_bytes());
    wire.0
}

fn insert(number: u64) -> Vec<u8> {
    let payload = format!("{{\"n\": {number}, \"text\": \"{}\"}}", "x".repeat(280));
    let mut wire = Wire::default();
    wire.bytes(b"I").bytes(&16_400_u32.to_be_bytes()).bytes(b"N").bytes(&(COLUMNS.len() as u16).to_be_bytes());
    wire.value(Some("018f0000-0000-7000-8000-000000000001"))
        .value(None)
        .value(Some("order"))
        .value(Some(if number.is_multiple_of(2) { "even" } else { "odd" }))
        .value(Some("Placed"))
        .value(Some(&payload))
        .value(Some("{\"tenant\": \"a\"}"))
        .value(None)
        .value(Some("2026-01-02 03:04:05.678901+00"));
    wire.0
}

const CAPTURED: [(&str, u32, bool); 8] = [
    ("id", 20, true),
    ("amount", 1700, false),
    ("name", 25, false),
    ("at", 1184, false),
    ("data", 3802, false),
    ("tags", 1009, false),
    ("raw", 17, false),
    ("ratio", 701, false),
];

fn captured_relation() -> Vec<u8> {
    let mut wire = Wire::default();
    wire.bytes(b"R").bytes(&16_500_u32.to_be_bytes()).text("public").text("orders").bytes(b"d");
    wire.bytes(&(CAPTURED.len() as u16).to_be_bytes());
    for (name, oid, is_key) in CAPTURED {
        wire.bytes(&[u8::from(is_key)]).text(name).bytes(&oid.to_be_bytes()).bytes(&(-1_i32).to_be_bytes());
    }
    wire.0
}

fn captured_row(wire: &mut Wire, id: u64) {
    wire.bytes(&(CAPTURED.len() as u16).to_be_bytes());
    wire.value(Some(&id.to_string()))
        .value(Some("12345.6700"))
        .value(Some("ü \"quoted\" text"))
        .value(Some("2026-01-02 03:04:05.678901+00"))
        .value(Some("{\"tenant\": \"a\"}"))
        .value(Some("{a,\"b c\",NULL}"))
        .value(Some("\\x0102ff"))
        .value(Some("0.1"));
}

fn old_key(wire: &mut Wire, id: u64) {
    wire.bytes(b"K").bytes(&(CAPTURED.len() as u16).to_be_bytes()).value(Some(&id.to_string()));
    for _ in 1..CAPTURED.len() {
        wire.value(None);
    }
}

/// A row is inserted, gets another key, and is deleted: six records.
fn captured_changes(id: u64) -> [Vec<u8>; 3] {
    let [mut insert, mut update, mut delete] = [b"I", b"U", b"D"].map(|tag| {
        let mut wire = Wire::default();
        wire.bytes(tag).bytes(&16_500_u32.to_be_bytes());
        wire
    });
    insert.bytes(b"N");
    captured_row(&mut insert, id);
    old_key(&mut update, id);
    update.bytes(b"N");
    captured_row(&mut update, id + 1);
    old_key(&mut delete, id + 1);
    [insert.0, update.0, delete.0]
}

/// A session that has been through the start protocol.
fn streaming(acks: &Arc<Acks>) -> Session {
    let config = session::Config {
        name: "steady".into(),
        instance: "00000001".into(),
        reads: session::Reads::Log,
        guarantee: relay_core::checkpoint::Guarantee::AtLeastOnce,
        commit_interval_ms: 100,
        slot: "relay_steady".into(),
        publication: "relay_steady".into(),
        may_create: false,
        is_durable: false,
        snapshot: None,
        accept_gap: None,
        checkpoint_interval_ms: 3_600_000,
        idle_checkpoint_interval_ms: 3_600_000,
        config_fingerprint: String::new(),
        relay_version: String::new(),
        seed: 1,
    };
    let limits = Limits { bytes: 64 << 20, events: 100_000 };
    let mut session = Session::new(config, Window::new(Arc::clone(acks), limits));
    let server = Server {
        system_id: "1".into(),
        timeline: 1,
        switch_points: Vec::new(),
        database: "shop".into(),
        wal_end: Lsn(1_000),
        is_standby: false,
        snapshot: None,
        slot: Some(Slot { unfit: None, is_lost: false, confirmed_flush: Lsn(100), is_active: false }),
        publication: Some(String::new()),
    };
    for _ in 0..20 {
        let orders: Vec<Order> = session.orders().collect();
        for order in orders {
            match order {
                Order::Inspect => session.input(Input::Inspected(Ok(server.clone()))),
                Order::ReadCheckpoint => session.input(Input::CheckpointRead(Ok(Default::default()))),
                Order::Hold(_) => session.input(Input::Held(Ok(()))),
                Order::Store(_) => session.input(Input::Stored(Ok(()))),
                _ => {}
            }
        }
    }
    assert!(session.is_streaming());
    session
}

fn stream(acks: Arc<Acks>, brokers: &str) -> Stream {
    let settings = OutboxSettings { table: Some("public.outbox".into()), ..OutboxSettings::default() };
    let route = Route::new(settings, &FormatSettings::default()).expect("the preset is sound");
    let format = FormatSettings { pipeline: "steady".into(), transaction_metadata: true, ..FormatSettings::default() };
    let tables = vec!["public.orders".into()];
    let capture = CaptureSettings { tables, ..CaptureSettings::default() };
    let captures = relay_encode::Captures::new(vec![capture], &format).expect("the capture is sound");
    let wire = relay_pgwire::Config::parse("postgres://relay@127.0.0.1/shop").expect("a URL");
    let source = relay_postgres::Source::new(relay_postgres::Config {
        wire,
        slot: "relay_steady".into(),
        publication: "relay_steady".into(),
        failover: false,
        proto_version: None,
        origin: "any".into(),
        wal_sender_timeout_ms: 30_000,
        publish: relay_postgres::Publish::Inserts,
        password: None,
    });
    let mut kafka = relay_kafka::Config::new("steady", brokers);
    kafka.create_topics = "never".into();
    let session = streaming(&acks);
    let window_events = acks.capacity();
    let kafka = kafka.build(relay_kafka::Deps { acks }).expect("a producer");
    let (control_sender, control) = mpsc::channel::<Control>();
    Stream::new(Parts {
        snapshots: None,
        polling: None,
        config: Config {
            name: "steady".into(),
            slot: "relay_steady".into(),
            on_poison: OnPoison::Stop,
            dlq_topic: "steady.dlq".into(),
            stops_on_unrouted: false,
            coalesce: None,
            coalesce_is_adaptive: true,
            max_message_bytes: 1 << 20,
            receive_timeout: Duration::from_secs(15),
            status_interval: Duration::from_secs(7),
            server_shutdown_grace: Duration::from_secs(5),
            watchdog: Duration::from_secs(600),
            transaction_metadata: true,
            loose_messages: false,
            tells_lost_values: false,
            heartbeat_interval: None,
        },
        session,
        source,
        sink: Box::new(kafka.sink),
        store: super::Store::plain(kafka.checkpoint),
        reader: Box::new(kafka.reader),
        routes: Arc::new(Routes::new(relay_encode::Routes::new([route]), captures)),
        metrics: Arc::new(Metrics::with("steady", 10, Build::default(), Setup::default())),
        status: Status::new(),
        control,
        control_sender,
        window_events,
    })
}

/// One transaction of ten rows, from frames to acknowledgements.
fn transaction(stream: &mut Stream, commit_lsn: u64, frames: &[Vec<u8>]) {
    for frame in frames {
        let end = Instant::now() + Duration::from_secs(20);
        while !stream.take_whole(frame) {
            assert!(Instant::now() < end, "the sink takes no event at {commit_lsn}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    stream.nudge();
    let end = Instant::now() + Duration::from_secs(20);
    while stream.session.window().events() > 0 {
        assert!(Instant::now() < end, "no acknowledgement at {commit_lsn}");
        stream.tally.acknowledged(&mut stream.session);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_allocation_an_event_in_the_steady_state() {
    let mock = relay_kafka::mock::Mock::start(1).expect("a mock cluster");
    for topic in ["outbox.event.order", "steady.public.orders", "steady.transaction"] {
        mock.create_topic(topic, 4).expect("a topic");
    }
    let mut stream = stream(Acks::new(100_000), &mock.bootstrap_servers().expect("an address"));
    stream.plans.connected("shop");
    assert!(stream.take_whole(&relation()) && stream.take_whole(&captured_relation()));
    let frames = |n: u64| -> Vec<Vec<u8>> {
        let commit_lsn = 1_000 + n * 100;
        let rows = (0..10).map(|row| insert(n * 10 + row));
        let changes = (0..4).flat_map(|row| captured_changes(n * 10 + row));
        std::iter::once(begin(commit_lsn)).chain(rows).chain(changes).chain([commit(commit_lsn)]).collect()
    };
    let captured = stream.assembler.relation(TableId(1));
    assert!(matches!(stream.plans.of(TableId(1), captured), Planned::Reading(_)), "the catalog is read first");
    let catalog = Catalog { primary_key: vec!["id".into()], ..Catalog::default() };
    stream.plans.learned(TableId(1), 1, captured, Ok(catalog));
    // The first transactions meet the topic, the table and the buffers' sizes.
    for n in 0..20 {
        transaction(&mut stream, n, &frames(n));
    }
    assert!(allocation_counter::measure(|| drop(vec![1_u8; 8])).count_total > 0, "the counter counts");
    let batches: Vec<Vec<Vec<u8>>> = (20..120).map(frames).collect();
    let counted = allocation_counter::measure(|| {
        for (n, frames) in batches.iter().enumerate() {
            transaction(&mut stream, n as u64, frames);
        }
    });
    println!(
        "1,000 outbox events and 2,600 records of captures: {} allocations, {} bytes",
        counted.count_total, counted.bytes_total
    );
    assert_eq!(counted.count_total, 0, "the wire thread allocates for events");
}
