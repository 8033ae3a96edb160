//! The attributes of a CloudEvent, as headers of a Kafka record or as members of its value (event-format.md, section 13).

use crate::json;
use crate::timestamp::civil_from_days;
use relay_core::{Event, Lsn};
use std::io::Write;

/// `content-type` of a value that carries its attributes.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";

/// The attributes of one event; texts that a row brings were checked for UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) source: &'a str,
    pub(crate) event_type: &'a [u8],
    pub(crate) time: Time,
    pub(crate) subject: Option<&'a [u8]>,
    pub(crate) content_type: &'a str,
    pub(crate) data_schema: Option<&'a [u8]>,
    pub(crate) partition_key: Option<&'a [u8]>,
    /// Commit and index of the change.
    pub(crate) sequence: Option<(Lsn, u64)>,
    /// `traceparent` and `tracestate`.
    pub(crate) trace: [Option<&'a [u8]>; 2],
}

/// An instant in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) us: i64,
}

// === impl Attributes ===

impl Attributes<'_> {
    /// Binary mode: `content-type`, and a header `ce_…` for every other attribute.
    pub(crate) fn write_headers(&self, event: &mut Event) {
        event.header("content-type", Some(self.content_type.as_bytes()));
        event.header("ce_specversion", Some(b"1.0"));
        event.header("ce_id", Some(self.id));
        event.header("ce_source", Some(self.source.as_bytes()));
        event.header("ce_type", Some(self.event_type));
        self.time.write_us(event.out());
        event.end_header("ce_time");
        for (name, value) in
            [("ce_subject", self.subject), ("ce_dataschema", self.data_schema), ("ce_partitionkey", self.partition_key)]
        {
            if let Some(value) = value {
                event.header(name, Some(value));
            }
        }
        if let Some(sequence) = self.sequence {
            write_sequence(sequence, event.out());
            event.end_header("ce_sequence");
        }
        for (name, value) in ["ce_traceparent", "ce_tracestate"].into_iter().zip(self.trace) {
            if let Some(value) = value {
                event.header(name, Some(value));
            }
        }
    }

    /// Structured mode: `{"specversion":…` and every other attribute; the data and the closing brace are left to the caller.
    pub(crate) fn write_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":\"1.0\"");
        let text = |name: &str, value: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            json::write_string(std::str::from_utf8(value).unwrap_or_default(), out);
        };
        text("id", self.id, out);
        text("source", self.source.as_bytes(), out);
        text("type", self.event_type, out);
        out.extend_from_slice(b",\"time\":\"");
        self.time.write_us(out);
        out.push(b'"');
        if let Some(subject) = self.subject {
            text("subject", subject, out);
        }
        text("datacontenttype", self.content_type.as_bytes(), out);
        for (name, value) in [("dataschema", self.data_schema), ("partitionkey", self.partition_key)] {
            if let Some(value) = value {
                text(name, value, out);
            }
        }
        if let Some(sequence) = self.sequence {
            out.extend_from_slice(b",\"sequence\":\"");
            write_sequence(sequence, out);
            out.push(b'"');
        }
        for (name, value) in ["traceparent", "tracestate"].into_iter().zip(self.trace) {
            if let Some(value) = value {
                text(name, value, out);
            }
        }
    }
}

/// `<commit_lsn 16 hex>-<seq 10 digits>`: as text it stands as the log does.
fn write_sequence((lsn, seq): (Lsn, u64), out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{:016X}-{seq:010}", lsn.0);
}

// === impl Time ===

impl Time {
    /// RFC 3339 in UTC with microseconds.
    pub(crate) fn write_us(self, out: &mut Vec<u8>) {
        self.write_seconds(out);
        let _ = write!(out, ".{:06}Z", self.us.rem_euclid(1_000_000));
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(crate) fn write_ms(self, out: &mut Vec<u8>) {
        self.write_seconds(out);
        let _ = write!(out, ".{:03}Z", self.us.rem_euclid(1_000_000) / 1_000);
    }

    fn write_seconds(self, out: &mut Vec<u8>) {
        let seconds = self.us.div_euclid(1_000_000);
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    }
}
