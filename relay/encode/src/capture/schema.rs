//! Kafka Connect's schemas as JsonConverter writes them, rendered once per plan (event-format.md, section 4).

use super::column::ColumnPlan;
use super::flat::FlatRule;
use super::format::Format;
use crate::json;
use crate::types::{ColumnType, SchemaField};
use relay_core::{Relation, ReplicaIdentity};

/// Of which rows a struct of columns tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of whole rows.
    Row,
    /// Of what an old tuple has: other columns than those of the identity may be absent (D2).
    Old,
}

/// The block `source`.
const SOURCE: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},"#,
    r#"{"type":"string","optional":false,"field":"connector"},{"type":"string","optional":false,"field":"name"},"#,
    r#"{"type":"int64","optional":false,"field":"ts_ms"},"#,
    r#"{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":"#,
    r#""true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"default":"false","field":"snapshot"},"#,
    r#"{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},"#,
    r#"{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"},"#,
    r#"{"type":"string","optional":false,"field":"schema"},{"type":"string","optional":false,"field":"table"},"#,
    r#"{"type":"int64","optional":true,"field":"txId"},{"type":"int64","optional":true,"field":"lsn"},"#,
    r#"{"type":"int64","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},"#,
    r#"{"type":"int64","optional":true,"field":"origin_lsn"}],"optional":false,"#,
    r#""name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"}"#,
);

/// The transaction block.
const BLOCK: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},"#,
    r#"{"type":"int64","optional":false,"field":"total_order"},{"type":"int64","optional":false,"field":"data_collection_order"}],"#,
    r#""optional":true,"name":"event.block","version":1,"field":"transaction"}"#,
);

const TIMES: &str = concat!(
    r#"{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},"#,
    r#"{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}"#,
);

/// `{"schema":S,"payload":`.
pub(super) fn wrap(schema: impl FnOnce(&mut Vec<u8>)) -> Box<[u8]> {
    let mut out = b"{\"schema\":".to_vec();
    schema(&mut out);
    out.extend_from_slice(b",\"payload\":");
    out.into()
}

/// The key's struct.
pub(super) fn write_key(columns: &[ColumnPlan], topic: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    write_columns(columns, |column| column.is_nullable, out);
    out.extend_from_slice(b"],\"optional\":false,\"name\":");
    json::write_string(&format!("{topic}.Key"), out);
    out.push(b'}');
}

/// The envelope.
pub(super) fn write_envelope(format: &Format, relation: &Relation, columns: &[ColumnPlan], topic: &str, out: &mut Vec<u8>) {
    let has_old_rows = relation.identity != ReplicaIdentity::Nothing && columns.iter().any(|column| column.is_identity);
    // `before` has a struct of its own only where that says something else.
    let is_other = has_old_rows && columns.iter().any(|column| !column.is_identity && !column.is_nullable);
    let whose = if is_other && !format.is_debezium { Whose::Old } else { Whose::Row };
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    write_value(columns, topic, whose, Some("before"), out);
    out.push(b',');
    write_value(columns, topic, Whose::Row, Some("after"), out);
    for part in [SOURCE, BLOCK, TIMES] {
        out.push(b',');
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"],\"optional\":false,\"name\":");
    json::write_string(&format!("{topic}.Envelope"), out);
    out.extend_from_slice(b",\"version\":2}");
}

/// The struct of a row.
pub(super) fn write_value(columns: &[ColumnPlan], topic: &str, whose: Whose, field: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    let is_optional = |column: &ColumnPlan| column.is_nullable || (whose == Whose::Old && !column.is_identity);
    write_columns(columns, is_optional, out);
    out.extend_from_slice(b"],\"optional\":true,\"name\":");
    let name = if whose == Whose::Old { "Before" } else { "Value" };
    json::write_string(&format!("{topic}.{name}"), out);
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        json::write_string(field, out);
    }
    out.push(b'}');
}

/// The struct of a flat row.
pub(super) fn write_flat(rule: &FlatRule, columns: &[ColumnPlan], topic: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    // A rewritten deletion has the identity columns only; where there is no identity, there is no deletion.
    let has_old_rows = rule.marks_deleted() && columns.iter().any(|column| column.is_identity);
    let is_optional =
        |column: &ColumnPlan| column.is_nullable || (has_old_rows && !column.is_identity && column.invented.is_none());
    write_columns(columns, is_optional, out);
    let deleted = rule.marks_deleted().then_some(("__deleted", "string"));
    let types = |is_integer| if is_integer { "int64" } else { "string" };
    let added = rule.fields.iter().map(|(name, metadata)| (name.as_str(), types(metadata.is_integer())));
    for (name, kind) in deleted.into_iter().chain(added) {
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"optional\":true,\"field\":").as_bytes());
        json::write_string(name, out);
        out.push(b'}');
    }
    // Debezium makes the struct anew, and not optional then; the null of a deletion keeps the optional one (recorded).
    out.extend_from_slice(b"],\"optional\":false,\"name\":");
    json::write_string(&format!("{topic}.Value"), out);
    out.push(b'}');
}

fn write_columns(columns: &[ColumnPlan], is_optional: impl Fn(&ColumnPlan) -> bool, out: &mut Vec<u8>) {
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        column.write_schema(is_optional(column), out);
    }
}

/// Key of a logical message.
pub(super) const MESSAGE_KEY: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":true,"field":"prefix"}],"optional":false,"#,
    r#""name":"io.debezium.connector.postgresql.MessageKey","version":1}"#,
);

/// Key of a BEGIN or END record.
pub(super) const TRANSACTION_KEY: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,"#,
    r#""name":"io.debezium.connector.common.TransactionMetadataKey","version":1}"#,
);

/// Value of a BEGIN or END record.
pub(super) const TRANSACTION_VALUE: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"status"},"#,
    r#"{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":true,"field":"event_count"},"#,
    r#"{"type":"array","items":{"type":"struct","fields":[{"type":"string","optional":false,"field":"data_collection"},"#,
    r#"{"type":"int64","optional":false,"field":"event_count"}],"optional":true,"name":"event.collection","version":1},"#,
    r#""optional":true,"field":"data_collections"},{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,"#,
    r#""name":"io.debezium.connector.common.TransactionMetadataValue","version":1}"#,
);

/// Key of a heartbeat.
pub(super) const SERVER_NAME_KEY: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"serverName"}],"optional":false,"#,
    r#""name":"io.debezium.connector.common.ServerNameKey","version":1}"#,
);

/// Value of a heartbeat.
pub(super) const HEARTBEAT: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,"#,
    r#""name":"io.debezium.connector.common.Heartbeat","version":1}"#,
);

/// Value of a logical message; `content` is the type of its bytes.
pub(super) fn write_message(content: &ColumnType, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[{\"type\":\"string\",\"optional\":false,\"field\":\"op\"},");
    out.extend_from_slice(b"{\"type\":\"int64\",\"optional\":true,\"field\":\"ts_ms\"},");
    out.extend_from_slice(SOURCE.as_bytes());
    out.push(b',');
    out.extend_from_slice(BLOCK.as_bytes());
    out.extend_from_slice(b",{\"type\":\"struct\",\"fields\":[{\"type\":\"string\",\"optional\":true,\"field\":\"prefix\"},");
    content.write_schema(&SchemaField { name: Some("content"), is_optional: true, default: None, mask: None }, out);
    out.extend_from_slice(b"],\"optional\":false,\"name\":\"io.debezium.connector.postgresql.Message\",\"version\":1,");
    out.extend_from_slice(b"\"field\":\"message\"}],\"optional\":false,");
    out.extend_from_slice(b"\"name\":\"io.debezium.connector.postgresql.MessageValue\",\"version\":1}");
}
