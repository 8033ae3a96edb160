//! From settings to what the encoder reads: formats, outboxes, captures.

use crate::settings::{Capture, Outbox, RecordTimestamp, Settings, SourceMode};
use relay_encode::{CaptureSettings, FlatSettings, FormatSettings, OutboxSettings, RouterValue};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Where rows come from.
fn mode(settings: &Settings) -> relay_encode::Mode {
    match settings.source.mode {
        SourceMode::Log => relay_encode::Mode::Log,
        SourceMode::Poll => relay_encode::Mode::Poll,
    }
}

/// What every route and capture shares.
pub(crate) fn format(settings: &Settings) -> FormatSettings {
    let format = &settings.format;
    FormatSettings {
        mode: mode(settings),
        pipeline: settings.name.clone(),
        topic_prefix: format.topic_prefix.clone(),
        compat: format.compat.as_str().to_owned(),
        schemas: format.schemas,
        decimal: format.decimal.as_str().to_owned(),
        time: format.time.as_str().to_owned(),
        interval: format.interval.as_str().to_owned(),
        binary: format.binary.as_str().to_owned(),
        hstore: format.hstore.as_str().to_owned(),
        money_scale: format.money_scale,
        unavailable_value: format.unavailable_value.clone(),
        tombstones: format.tombstones,
        transaction_metadata: format.transaction_metadata,
        unavailable_header: format.unavailable_header,
        source_version: format.source_version.clone(),
        cloudevents_mode: format.cloudevents_mode.as_str().to_owned(),
        cloudevents_source: format.cloudevents_source.clone(),
        cloudevents_type: format.cloudevents_type.clone(),
        cloudevents_content_type: format.cloudevents_content_type.clone(),
        cloudevents_partitionkey: format.cloudevents_partitionkey,
        messages: settings.source.log.messages.clone(),
        run_id: run_id(),
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

/// One `[[capture]]` as the encoder reads it.
pub(crate) fn capture_settings(capture: &Capture) -> CaptureSettings {
    CaptureSettings {
        tables: capture.tables.clone(),
        exclude: capture.exclude.clone(),
        format: capture.format.as_str().to_owned(),
        topic: capture.topic.clone(),
        key: capture.key.clone(),
        operations: capture.operations.clone(),
        filter: capture.filter.clone(),
        partition: capture.partition.clone(),
        key_change: capture.key_change.as_str().to_owned(),
        columns_exclude: capture.columns.exclude.clone(),
        mask: capture.columns.mask.0.iter().map(|(column, mask)| (column.clone(), mask.clone())).collect(),
        flat: FlatSettings {
            delete: capture.flat.delete.as_str().to_owned(),
            add_fields: capture.flat.add_fields.clone(),
            add_headers: capture.flat.add_headers.clone(),
            prefix: capture.flat.prefix.clone(),
        },
    }
}

/// A random UUID (version 4) that is the same for the life of the process.
fn run_id() -> String {
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let random = || RandomState::new().build_hasher().finish();
    let make = || {
        let (high, low) = (random() & !0xF000 | 0x4000, random() & (u64::MAX >> 2) | 1 << 63);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    };
    ID.get_or_init(make).clone()
}
