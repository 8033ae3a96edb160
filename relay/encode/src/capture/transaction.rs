//! BEGIN and END of a transaction, and heartbeats: records of no row (event-format.md, section 6).

use super::context::Context;
use super::format::{Format, clean_topic};
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
        event.out().extend_from_slice(clean_topic(&format!("__debezium-heartbeat.{}", format.prefix)).as_bytes());
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

    fn encode_status(&self, context: &Context<'_>, status: Status<'_>, event: &mut Event) {
        let format = &*self.format;
        event.clear();
        event.out().extend_from_slice(clean_topic(&format!("{}.transaction", format.prefix)).as_bytes());
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
