//! From settings to each component's own configuration, and from there to the component: the one place where both are known.

mod encode;

pub(crate) use encode::{capture_settings, format, outbox_settings};

use crate::settings::{
    Capture, Compat, Create, OnUnrouted, OriginFilter, Outbox, ProtoVersion, ReadCoalesce, Secret, Settings, SinkKind,
    SnapshotMode, SourceMode,
};
use crate::stream::{self, Routes, Store};
use crate::supervise::SinkParts;
use relay_core::checkpoint::Guarantee;
use relay_core::session::{self, Fault};
use relay_core::{Acks, Kind, Lsn};
use relay_encode::{Captures, Order, Route};
use relay_postgres::poll::PollConfig;
use relay_postgres::{Publish, Source};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// A short read waits this long before the next while relay is behind, so that the walsender is not woken for a message or two.
const COALESCE: Duration = Duration::from_micros(100);

/// Access to the database.
pub(crate) fn source(settings: &Settings) -> Result<Source, String> {
    let log = &settings.source.log;
    let mut wire = relay_pgwire::Config::parse(settings.source.url.reveal()).map_err(|error| format!("source.url: {error}"))?;
    wire.set_default_application_name(format!("relay_{}", settings.name));
    wire.set_allow_plaintext_password(settings.source.allow_plaintext_password);
    let password = settings.source.password.clone().map(|secret| {
        let read = move || secret.reveal().map(|text| text.to_string()).map_err(|error| error.to_string());
        Arc::new(read) as relay_postgres::Password
    });
    Ok(Source::new(relay_postgres::Config {
        wire,
        slot: log.slot.clone(),
        publication: log.publication.clone(),
        failover: log.failover,
        proto_version: match log.proto_version {
            ProtoVersion::Auto => None,
            ProtoVersion::V1 => Some(1),
            ProtoVersion::V2 => Some(2),
            ProtoVersion::V3 => Some(3),
            ProtoVersion::V4 => Some(4),
        },
        origin: if log.origin == OriginFilter::None { "none".into() } else { "any".into() },
        wal_sender_timeout_ms: log.wal_sender_timeout.as_millis() as u64,
        publish: publish(settings),
        password,
    }))
}

/// What the publication must send, for every outbox and capture to get what it asks for.
fn publish(settings: &Settings) -> Publish {
    let takes_truncates = |capture: &Capture| capture.operations.iter().any(|operation| operation == "truncate");
    let takes_updates = |outbox: &Outbox| outbox.on_update.is_some_and(|on| on != crate::settings::OnUpdate::Ignore);
    if settings.capture.iter().any(takes_truncates) {
        Publish::All
    } else if !settings.capture.is_empty() || settings.outbox.iter().any(takes_updates) {
        Publish::Rows
    } else {
        Publish::Inserts
    }
}

/// The routes, compiled as far as they can be without their tables.
pub(crate) fn routes(settings: &Settings) -> Result<Routes, String> {
    let format = format(settings);
    let mut routes = Vec::new();
    for (index, outbox) in settings.outbox.iter().enumerate() {
        match Route::new(outbox_settings(outbox), &format) {
            Ok(route) => routes.push(route),
            Err(errors) => {
                let text: Vec<String> =
                    errors.iter().map(|error| format!("outbox[{index}].{}: {}", error.field, error.message)).collect();
                return Err(text.join("; "));
            }
        }
    }
    Ok(Routes::new(relay_encode::Routes::new(routes), captures(settings)?))
}

/// The captures, compiled as far as they can be without their tables.
pub(crate) fn captures(settings: &Settings) -> Result<Captures, String> {
    let all = settings.capture.iter().map(capture_settings).collect();
    Captures::new(all, &format(settings)).map_err(|errors| {
        let text: Vec<String> =
            errors.iter().map(|(index, error)| format!("capture[{index}].{}: {}", error.field, error.message)).collect();
        text.join("; ")
    })
}

/// How to poll, and how the session reads then. `ends_in_log`: only up to a new slot.
pub(crate) fn polling(settings: &Settings, routes: &Arc<Routes>, ends_in_log: bool) -> (stream::poll::Config, session::Reads) {
    let poll = &settings.source.poll;
    let has = |wanted: fn(&Order) -> bool| routes.orders().any(wanted);
    let reads = session::Reads::Poll {
        has_ticks: has(|order| matches!(order, Order::Tick { .. })),
        has_claims: has(|order| matches!(order, Order::Claim { .. })),
        ends_in_log,
    };
    let shared = Arc::clone(routes);
    let (globs, named): (Vec<String>, Vec<String>) = routes.tables().map(str::to_owned).partition(|table| table.contains('*'));
    let config = stream::poll::Config {
        interval: poll.interval,
        poll: PollConfig {
            name: settings.name.clone(),
            batch: poll.batch as usize,
            batch_bytes: poll.batch_bytes.as_usize(),
            notify: poll.notify.clone(),
        },
        ends_in_log,
        rule: Arc::new(move |table| shared.poll_rule(table)),
        has_globs: !globs.is_empty(),
        named,
    };
    (config, reads)
}

/// When captured tables are read as a whole; `None` where none is captured.
fn snapshots(settings: &Settings, routes: &Routes) -> Option<session::SnapshotConfig> {
    let is_log = settings.source.mode == SourceMode::Log;
    (is_log && !routes.captures().is_empty()).then_some(session::SnapshotConfig {
        mode: match settings.snapshot.mode {
            SnapshotMode::Initial => session::SnapshotMode::Initial,
            SnapshotMode::Never => session::SnapshotMode::Never,
            SnapshotMode::Always => session::SnapshotMode::Always,
            SnapshotMode::Only => session::SnapshotMode::Only,
        },
        chunk_rows: settings.snapshot.chunk,
    })
}

/// How snapshots are read, if there can be any.
pub(crate) fn snapshot(settings: &Settings, routes: &Arc<Routes>) -> Option<stream::snapshot::Config> {
    snapshots(settings, routes)?;
    let captures = |routes: &Arc<Routes>| {
        let routes = Arc::clone(routes);
        move |table: &str| routes.captures().names_table(table) && !routes.names_outbox(table)
    };
    let (captured, subset) = (captures(routes), settings.snapshot.tables.clone());
    Some(stream::snapshot::Config {
        subset: subset.clone(),
        threads: settings.snapshot.threads as usize,
        captured: Arc::new(captures(routes)),
        initial: Arc::new(move |table| captured(table) && (subset.is_empty() || subset.iter().any(|wanted| wanted == table))),
    })
}

/// What is promised.
fn guarantee(settings: &Settings) -> Guarantee {
    match settings.delivery.guarantee {
        crate::settings::Guarantee::AtLeastOnce => Guarantee::AtLeastOnce,
        crate::settings::Guarantee::ExactlyOnce => Guarantee::ExactlyOnce,
    }
}

/// What the session must know.
pub(crate) fn session(settings: &Settings, routes: &Routes, reads: session::Reads, accept_gap: Option<Lsn>) -> session::Config {
    let seed = RandomState::new().build_hasher().finish();
    let partitioner = settings.sink.kafka.partitioner.as_str();
    session::Config {
        name: settings.name.clone(),
        instance: format!("{:08x}", seed >> 32),
        reads,
        guarantee: guarantee(settings),
        commit_interval_ms: settings.delivery.commit_interval.as_millis() as u64,
        slot: settings.source.log.slot.clone(),
        publication: settings.source.log.publication.clone(),
        may_create: settings.source.log.create == Create::IfMissing,
        is_durable: settings.sink.kind == SinkKind::Kafka,
        snapshot: snapshots(settings, routes),
        accept_gap,
        checkpoint_interval_ms: settings.delivery.checkpoint_interval.as_millis() as u64,
        idle_checkpoint_interval_ms: settings.delivery.idle_checkpoint_interval.as_millis() as u64,
        config_fingerprint: routes.fingerprint(&[("partitioner", partitioner)]),
        relay_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed,
    }
}

/// What the wire thread must know.
pub(crate) fn stream(settings: &Settings) -> stream::Config {
    let log = &settings.source.log;
    let status_interval = Duration::from_secs(10).min(log.wal_sender_timeout / 4).max(Duration::from_millis(100));
    stream::Config {
        name: settings.name.clone(),
        slot: log.slot.clone(),
        on_poison: match settings.delivery.on_poison {
            crate::settings::OnPoison::Skip => stream::OnPoison::Skip,
            crate::settings::OnPoison::Dlq => stream::OnPoison::Dlq,
            crate::settings::OnPoison::Stop | crate::settings::OnPoison::DlqHoldKey => stream::OnPoison::Stop,
        },
        dlq_topic: settings.delivery.dlq_topic.clone(),
        stops_on_unrouted: log.on_unrouted == OnUnrouted::Stop,
        coalesce: match log.read_coalesce {
            ReadCoalesce::Auto => Some(COALESCE),
            ReadCoalesce::Off => None,
            ReadCoalesce::Wait(wait) => Some(wait),
        },
        coalesce_is_adaptive: log.read_coalesce == ReadCoalesce::Auto,
        max_message_bytes: log.max_message.as_usize(),
        receive_timeout: log.effective_receive_timeout(),
        status_interval,
        server_shutdown_grace: log.server_shutdown_grace,
        watchdog: settings.admin.watchdog,
        transaction_metadata: settings.format.transaction_metadata,
        loose_messages: log.nontransactional_messages,
        tells_lost_values: settings.format.compat == Compat::Debezium,
        heartbeat_interval: settings.format.heartbeat_interval,
    }
}

/// The Kafka side's configuration.
pub(crate) fn kafka(settings: &Settings) -> Result<relay_kafka::Config, String> {
    let kafka = &settings.sink.kafka;
    let security = &kafka.security;
    let path = |text: &Option<String>| text.as_ref().map(std::path::PathBuf::from);
    let mut config = relay_kafka::Config::new(&settings.name, &kafka.brokers.0.join(","));
    config.create_topics = kafka.create_topics.as_str().to_owned();
    config.partitions = kafka.partitions;
    config.replication_factor = kafka.replication_factor;
    config.partitioner = kafka.partitioner.as_str().to_owned();
    // The encoder holds outboxes to it. Here it would also refuse the topics of captured tables, which no row chooses.
    if settings.capture.is_empty() {
        config.allowed_topics = kafka.allowed_topics.clone();
    }
    config.max_topics = kafka.max_topics as usize;
    config.configured_topics = captures(settings)?.topics(settings.format.heartbeat_interval.is_some());
    config.checkpoint_topic = settings.delivery.checkpoint_topic.clone();
    config.dlq_topic =
        (settings.delivery.on_poison == crate::settings::OnPoison::Dlq).then(|| settings.delivery.dlq_topic.clone());
    config.security = relay_kafka::Security {
        protocol: security.protocol.as_str().to_owned(),
        mechanism: security.mechanism.as_str().to_owned(),
        username: security.username.clone(),
        password: secret(security.password.as_ref())?,
        ca_file: path(&security.ca_file),
        certificate_file: path(&security.certificate_file),
        key_file: path(&security.key_file),
        key_password: secret(security.key_password.as_ref())?,
        token: secret(security.token.as_ref())?,
        allow_plaintext_password: security.allow_plaintext_password,
    };
    config.properties = kafka.properties.0.clone();
    config.allow_unsafe = kafka.is_unsafe;
    config.in_flight_bytes = settings.delivery.in_flight.bytes();
    config.is_exactly_once = guarantee(settings) == Guarantee::ExactlyOnce;
    Ok(config)
}

fn secret(secret: Option<&Secret>) -> Result<Option<relay_kafka::SecretSource>, String> {
    let Some(secret) = secret else { return Ok(None) };
    if let Some(file) = secret.file() {
        return Ok(Some(relay_kafka::SecretSource::File(file.to_owned())));
    }
    let text = secret.reveal().map_err(|error| error.to_string())?;
    Ok(Some(relay_kafka::SecretSource::Text(text.to_string().into())))
}

/// The sink with its checkpoint store.
pub(crate) fn sink(settings: &Settings, acks: Arc<Acks>) -> Result<SinkParts, Fault> {
    if settings.sink.kind == SinkKind::Stdout {
        let sink = relay_stdout::StdoutSink::new(std::io::stdout(), acks);
        return Ok((
            Box::new(sink),
            Store::plain(relay_stdout::NoCheckpoint::default()),
            Box::new(relay_stdout::NoCheckpoint::default()),
        ));
    }
    let config = kafka(settings).map_err(|message| Fault { kind: Kind::ConfigFile, message })?;
    let refused = |error: relay_kafka::Error| Fault { kind: error.kind(), message: error.to_string() };
    let kafka = config.build(relay_kafka::Deps { acks }).map_err(refused)?;
    let store = match kafka.transactions {
        Some(transactions) => Store::transactional(transactions),
        None => Store::plain(kafka.checkpoint),
    };
    Ok((Box::new(kafka.sink), store, Box::new(kafka.reader)))
}
