//! BEGIN and END of a transaction, and heartbeats: records of no row (event-format.md, section 6).

use super::context::Context;
use super::format::Format;
use super::message::server_key;
use super::number::{write_i64, write_u64};
use super::rule::Captures;
use super::schema;
use crate::json;
use relay_core::{Event, RelayPos};

/// What a transaction record says.
#[derive(Clone, Copy, Debug)]
enum Status<'a> {
    Begin,
    /// Records of each table, in the order of first appearance.
    End(&'a [(String, u64)]),
}

// === impl Captures ===

impl Captures {
    /// Encodes the BEGIN record of the transaction into `event`, which is cleared first.
    pub fn encode_begin(&self, context: &Context<'_>, event: &mut Event) {
        self.encode_status(context, Status::Begin, event);
    }

    /// Encodes the END record. `counts` has a name and the number of records for each table, `schema.table`, in the order of first
    /// appearance; a logical message is a table of its own, [`Captures::MESSAGE_NAME`].
    pub fn encode_end(&self, context: &Context<'_>, counts: &[(String, u64)], event: &mut Event) {
        self.encode_status(context, Status::End(counts), event);
    }

    /// What stands for the table of a logical message among the counts (D29).
    pub const MESSAGE_NAME: &'static str = "LOGICAL_DECODING_MESSAGE";

    /// Encodes a heartbeat into `event`, which is cleared first.
    pub fn encode_heartbeat(&self, now_ns: i64, event: &mut Event) {
        let format = &*self.format;
        let now_ms = now_ns.div_euclid(1_000_000);
        event.clear();
        event.out().extend_from_slice(format.heartbeat_topic.as_bytes());
        event.end_topic();
        wrapped(format, schema::SERVER_NAME_KEY, event, |out| out.extend_from_slice(&server_key(&format.prefix)));
        event.end_key();
        wrapped(format, schema::HEARTBEAT, event, |out| {
            out.extend_from_slice(b"{\"ts_ms\":");
            write_i64(now_ms, out);
            out.push(b'}');
        });
        event.end_value();
        event.timestamp_ms = now_ms;
        event.partition = Some(0);
    }

    /// The topics of records that belong to no row, as far as they are written: the configuration chooses them.
    #[must_use]
    pub fn topics(&self, has_heartbeat: bool) -> Vec<String> {
        let format = &*self.format;
        let topics = [
            (format.transaction_metadata, &format.transaction_topic),
            (self.has_messages(), &format.message_topic),
            (has_heartbeat, &format.heartbeat_topic),
        ];
        topics.into_iter().filter(|(is_written, _)| *is_written).map(|(_, topic)| topic.to_string()).collect()
    }

    fn encode_status(&self, context: &Context<'_>, status: Status<'_>, event: &mut Event) {
        let format = &*self.format;
        event.clear();
        event.out().extend_from_slice(format.transaction_topic.as_bytes());
        event.end_topic();
        wrapped(format, schema::TRANSACTION_KEY, event, |out| {
            out.extend_from_slice(b"{\"id\":\"");
            context.write_transaction_id(out);
            out.extend_from_slice(b"\"}");
        });
        event.end_key();
        let commit = context.transaction.commit_lsn;
        let pos = match status {
            Status::Begin => RelayPos::Begin(commit),
            Status::End(_) => RelayPos::End(commit),
        };
        format.write_own_headers(pos, event);
        event.timestamp_ms = format.timestamp_ms(context);
        if format.is_debezium && self.makes_cloudevents() {
            // Debezium's CloudEvents converter knows no such record.
            return;
        }
        wrapped(format, schema::TRANSACTION_VALUE, event, |out| write_status(context, status, out));
        event.end_value();
    }
}

/// Appends what `write` writes, with its schema if values carry theirs.
fn wrapped(format: &Format, schema: &str, event: &mut Event, write: impl FnOnce(&mut Vec<u8>)) {
    let out = event.out();
    if !format.schemas {
        return write(out);
    }
    out.extend_from_slice(b"{\"schema\":");
    out.extend_from_slice(schema.as_bytes());
    out.extend_from_slice(b",\"payload\":");
    write(out);
    out.push(b'}');
}

fn write_status(context: &Context<'_>, status: Status<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(match status {
        Status::Begin => b"{\"status\":\"BEGIN\",\"id\":\"",
        Status::End(_) => b"{\"status\":\"END\",\"id\":\"",
    });
    context.write_transaction_id(out);
    match status {
        Status::Begin => out.extend_from_slice(b"\",\"event_count\":null,\"data_collections\":null"),
        Status::End(counts) => {
            out.extend_from_slice(b"\",\"event_count\":");
            write_u64(counts.iter().map(|(_, count)| count).sum(), out);
            out.extend_from_slice(b",\"data_collections\":[");
            for (at, (name, count)) in counts.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"{\"data_collection\":" } else { b",{\"data_collection\":" });
                json::write_string(name, out);
                out.extend_from_slice(b",\"event_count\":");
                write_u64(*count, out);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(b",\"ts_ms\":");
    write_i64(context.transaction.commit_time_us.div_euclid(1_000), out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::super::{CaptureSettings, Marker};
    use super::*;
    use crate::settings::FormatSettings;
    use relay_core::{Lsn, Position, Transaction, Xid};

    fn captures(schemas: bool) -> Captures {
        let format = FormatSettings { pipeline: "srv".to_owned(), schemas, ..FormatSettings::default() };
        Captures::new(vec![CaptureSettings::default()], &format).expect("legal")
    }

    fn context() -> Context<'static> {
        Context {
            transaction: Transaction { commit_lsn: Lsn(0xA0), commit_time_us: 1_755_000_000_123_456, xid: Xid(555) },
            pos: Position { commit_lsn: Lsn(0xA0), seq: 0 }.into(),
            lsn: Lsn(0x90),
            previous_end: None,
            origin: None,
            now_ns: 1_755_000_000_200_111_222,
            marker: Marker::Streamed,
            order: None,
        }
    }

    fn printed(event: &Event) -> [String; 4] {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"\\N").to_vec()).expect("UTF-8");
        let headers = event.headers().map(|(name, value)| format!("{}={}", text(Some(name)), text(value))).collect();
        [event.topic().to_owned(), text(event.key()), text(event.value()), headers]
    }

    #[test]
    fn a_transaction_begins_and_ends_with_one_id() {
        let (captures, mut event) = (captures(false), Event::default());
        captures.encode_begin(&context(), &mut event);
        let begin = r#"{"status":"BEGIN","id":"555:160","event_count":null,"data_collections":null,"ts_ms":1755000000123}"#;
        assert_eq!(printed(&event), ["srv.transaction", r#"{"id":"555:160"}"#, begin, "relay-pos=A0.b"]);
        let counts = [("public.t".to_owned(), 2), (Captures::MESSAGE_NAME.to_owned(), 1)];
        captures.encode_end(&context(), &counts, &mut event);
        let end = concat!(
            r#"{"status":"END","id":"555:160","event_count":3,"data_collections":[{"data_collection":"public.t","event_count":2},"#,
            r#"{"data_collection":"LOGICAL_DECODING_MESSAGE","event_count":1}],"ts_ms":1755000000123}"#,
        );
        assert_eq!(printed(&event), ["srv.transaction", r#"{"id":"555:160"}"#, end, "relay-pos=A0.e"]);
    }

    #[test]
    fn a_heartbeat_goes_to_partition_0() {
        let mut event = Event::default();
        captures(false).encode_heartbeat(1_755_000_000_200_111_222, &mut event);
        let want = ["__debezium-heartbeat.srv", r#"{"serverName":"srv"}"#, r#"{"ts_ms":1755000000200}"#, ""];
        assert_eq!(printed(&event), want);
        assert_eq!((event.partition, event.timestamp_ms), (Some(0), 1_755_000_000_200));
    }

    #[test]
    fn with_schemas_they_are_json_still() {
        let (captures, mut event) = (captures(true), Event::default());
        let check = |event: &Event| {
            for document in [event.key(), event.value()].into_iter().flatten() {
                let value: serde_json::Value = serde_json::from_slice(document).expect("JSON");
                assert!(value["schema"]["name"].is_string() && value["payload"].is_object(), "{value}");
            }
        };
        captures.encode_begin(&context(), &mut event);
        check(&event);
        captures.encode_end(&context(), &[("a.b".to_owned(), 1)], &mut event);
        check(&event);
        captures.encode_heartbeat(0, &mut event);
        check(&event);
    }
}
