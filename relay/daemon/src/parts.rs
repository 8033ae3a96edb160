//! From settings to each component's own configuration, and from there to the component: the one place where both are known.

use crate::settings::{
    Create, OnUnrouted, OriginFilter, Outbox, ProtoVersion, ReadCoalesce, RecordTimestamp, Secret, Settings, SinkKind, SourceMode,
};
use crate::stream::{self, Routes};
use crate::supervise::SinkParts;
use relay_core::session;
use relay_core::{Acks, Lsn};
use relay_encode::{FormatSettings, Order, OutboxSettings, Route, RouterValue};
use relay_postgres::Source;
use relay_postgres::poll::PollConfig;
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
        inserts_only: settings
            .outbox
            .iter()
            .all(|outbox| outbox.on_update.is_none_or(|on| on == crate::settings::OnUpdate::Ignore)),
        password,
    }))
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
    Ok(Routes::new(relay_encode::Routes::new(routes)))
}

/// Where rows come from.
fn mode(settings: &Settings) -> relay_encode::Mode {
    match settings.source.mode {
        SourceMode::Log => relay_encode::Mode::Log,
        SourceMode::Poll => relay_encode::Mode::Poll,
    }
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

/// What every route shares.
pub(crate) fn format(settings: &Settings) -> FormatSettings {
    let format = &settings.format;
    FormatSettings {
        mode: mode(settings),
        pipeline: settings.name.clone(),
        topic_prefix: format.topic_prefix.clone(),
        compat: format.compat.as_str().to_owned(),
        schemas: format.schemas,
        position_header: format.position_header,
        source_header: format.source_header,
        record_timestamp: match format.record_timestamp {
            RecordTimestamp::Commit => relay_encode::RecordTimestamp::Commit,
            RecordTimestamp::Now => relay_encode::RecordTimestamp::Now,
        },
        invalid_utf8: format.invalid_utf8.as_str().to_owned(),
        internal_topics: vec![settings.delivery.checkpoint_topic.clone(), settings.delivery.dlq_topic.clone()],
        allowed_topics: settings.sink.kafka.allowed_topics.clone(),
    }
}

/// One `[[outbox]]` as the encoder reads it.
pub(crate) fn outbox_settings(outbox: &Outbox) -> OutboxSettings {
    let router = outbox.router.0.iter().map(|(name, value)| (name.clone(), RouterValue::Text(value.clone()))).collect();
    OutboxSettings {
        preset: Some(outbox.preset.clone()),
        table: outbox.table.clone(),
        message: outbox.message.clone(),
        format: Some(outbox.format.as_str().to_owned()),
        matches: outbox.condition.clone(),
        id: outbox.id.clone(),
        topic: outbox.topic.clone(),
        topic_from: outbox.topic_from.clone().filter(|text| !text.is_empty()),
        topic_match: outbox.topic_match.clone().filter(|text| !text.is_empty()),
        key: outbox.key.clone(),
        value: outbox.value.clone(),
        value_encoding: outbox.value_encoding.clone(),
        envelope: outbox.envelope.clone(),
        schema_version: outbox.schema_version.clone(),
        headers: outbox.headers.clone(),
        missing_columns: outbox.missing_columns.map(|value| value.as_str().to_owned()),
        event_type: outbox.event_type.clone(),
        timestamp: outbox.timestamp.clone(),
        partition: outbox.partition.clone(),
        traceparent: outbox.traceparent.clone(),
        tracestate: outbox.tracestate.clone(),
        baggage: outbox.baggage.clone(),
        trace_properties: outbox.trace_properties.clone(),
        tombstone_on_null: outbox.tombstone_on_null,
        dataschema: outbox.dataschema.clone(),
        on_update: outbox.on_update.map(|value| value.as_str().to_owned()),
        on_non_transactional: None,
        on_scheduled: outbox.on_scheduled.map(|value| value.as_str().to_owned()),
        after_publish: outbox.after_publish.clone(),
        order: outbox.order.clone(),
        retention: outbox.retention,
        source_name: outbox.source_name.clone(),
        outbox_id: (outbox.outbox_id != 0).then_some(outbox.outbox_id as i64),
        router: (!outbox.router.0.is_empty()).then_some(router),
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
        slot: settings.source.log.slot.clone(),
        publication: settings.source.log.publication.clone(),
        may_create: settings.source.log.create == Create::IfMissing,
        is_durable: settings.sink.kind == SinkKind::Kafka,
        snapshot: None,
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
    config.allowed_topics = kafka.allowed_topics.clone();
    config.max_topics = kafka.max_topics as usize;
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
pub(crate) fn sink(settings: &Settings, acks: Arc<Acks>) -> Result<SinkParts, String> {
    if settings.sink.kind == SinkKind::Stdout {
        let sink = relay_stdout::StdoutSink::new(std::io::stdout(), acks);
        return Ok((
            Box::new(sink),
            Box::new(relay_stdout::NoCheckpoint::default()),
            Box::new(relay_stdout::NoCheckpoint::default()),
        ));
    }
    let kafka = kafka(settings)?.build(relay_kafka::Deps { acks }).map_err(|error| error.to_string())?;
    Ok((Box::new(kafka.sink), Box::new(kafka.checkpoint), Box::new(kafka.reader)))
}
