//! The block `source`: where a record comes from, its constant parts rendered once.

use super::context::{Context, Marker};
use super::number::{write_i64, write_ns, write_u64};
use crate::json;
use relay_core::{Lsn, RelayPos};

/// Writes `source` of one table.
#[derive(Debug)]
pub(super) struct Source {
    /// From `{"version":` to `"ts_ms":`.
    head: Box<[u8]>,
    /// From the end of the marker to the inside of `sequence`.
    database: Box<[u8]>,
    /// From `,"schema":` to `"txId":`.
    table: Box<[u8]>,
    /// The constant fields as JSON strings.
    version: Box<[u8]>,
    name: Box<[u8]>,
    db: Box<[u8]>,
    schema_name: Box<[u8]>,
    table_name: Box<[u8]>,
}

/// What the changes of one transaction share of the block: rendered with the first, copied for the others.
#[derive(Debug, Default)]
pub(super) struct SharedSource {
    of: Option<Shared>,
    /// From `{"version":` to the LSN inside `sequence`, and from there to `"lsn":`.
    text: Vec<u8>,
    split: usize,
}

/// What the shared text depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shared {
    us: i64,
    marker: Marker,
    previous: Option<Lsn>,
    xid: Option<u32>,
}

/// One field of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceField {
    Version,
    Connector,
    Name,
    TsMs,
    Snapshot,
    Db,
    Sequence,
    TsUs,
    TsNs,
    Schema,
    Table,
    TxId,
    Lsn,
    Xmin,
    Origin,
    OriginLsn,
}

// === impl SourceField ===

impl SourceField {
    /// Every field by its name, in the order of the block.
    pub(super) const ALL: [(&'static str, SourceField); 16] = [
        ("version", SourceField::Version),
        ("connector", SourceField::Connector),
        ("name", SourceField::Name),
        ("ts_ms", SourceField::TsMs),
        ("snapshot", SourceField::Snapshot),
        ("db", SourceField::Db),
        ("sequence", SourceField::Sequence),
        ("ts_us", SourceField::TsUs),
        ("ts_ns", SourceField::TsNs),
        ("schema", SourceField::Schema),
        ("table", SourceField::Table),
        ("txId", SourceField::TxId),
        ("lsn", SourceField::Lsn),
        ("xmin", SourceField::Xmin),
        ("origin", SourceField::Origin),
        ("origin_lsn", SourceField::OriginLsn),
    ];

    pub(super) fn is_integer(self) -> bool {
        matches!(
            self,
            SourceField::TsMs
                | SourceField::TsUs
                | SourceField::TsNs
                | SourceField::TxId
                | SourceField::Lsn
                | SourceField::Xmin
                | SourceField::OriginLsn
        )
    }
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    json::write_string(text, &mut out);
    out.into()
}

// === impl Context ===

impl Context<'_> {
    /// LSN as the record shows it: none for a row of the watermark path.
    fn shown_lsn(&self) -> Option<Lsn> {
        (self.marker != Marker::Incremental).then_some(self.lsn)
    }

    /// Transaction id as the record shows it.
    pub(super) fn shown_xid(&self) -> Option<u32> {
        let has_none = self.marker == Marker::Incremental || matches!(self.pos, RelayPos::Message(_));
        (!has_none).then_some(self.transaction.xid.0)
    }

    /// First element of `sequence`. A message outside of transactions shows its own LSN twice.
    fn shown_previous(&self) -> Option<Lsn> {
        if matches!(self.pos, RelayPos::Message(_)) { self.shown_lsn() } else { self.previous_end }
    }
}

// === impl Source ===

impl Source {
    pub(super) fn new(version: &str, prefix: &str, database: &str, schema: &str, table: &str) -> Self {
        let [version, name, db, schema_name, table_name] = [version, prefix, database, schema, table].map(quoted);
        let head = [b"{\"version\":", &*version, b",\"connector\":\"postgresql\",\"name\":", &*name, b",\"ts_ms\":"].concat();
        let database = [b"\",\"db\":", &*db, b",\"sequence\":\"["].concat();
        let table = [b",\"schema\":", &*schema_name, b",\"table\":", &*table_name, b",\"txId\":"].concat();
        Self { head: head.into(), database: database.into(), table: table.into(), version, name, db, schema_name, table_name }
    }

    /// Appends the block.
    #[inline]
    pub(super) fn write(&self, context: &Context<'_>, shared: &mut SharedSource, out: &mut Vec<u8>) {
        let us = context.transaction.commit_time_us;
        let of = Shared { us, marker: context.marker, previous: context.shown_previous(), xid: context.shown_xid() };
        if shared.of != Some(of) {
            self.render(of, shared);
        }
        let (before, after) = shared.text.split_at_checked(shared.split).unwrap_or_default();
        let lsn = context.shown_lsn();
        out.extend_from_slice(before);
        write_position(lsn, out);
        out.extend_from_slice(after);
        write_optional(lsn.map(|lsn| lsn.0), out);
        match context.origin {
            None => out.extend_from_slice(b",\"xmin\":null,\"origin\":null,\"origin_lsn\":null}"),
            Some((name, lsn)) => {
                out.extend_from_slice(b",\"xmin\":null,\"origin\":");
                json::write_string(name, out);
                out.extend_from_slice(b",\"origin_lsn\":");
                write_u64(lsn.0, out);
                out.push(b'}');
            }
        }
    }

    /// Everything but the LSN and the origin.
    fn render(&self, of: Shared, shared: &mut SharedSource) {
        let out = &mut shared.text;
        out.clear();
        out.extend_from_slice(&self.head);
        write_i64(of.us.div_euclid(1_000), out);
        out.extend_from_slice(b",\"snapshot\":\"");
        out.extend_from_slice(of.marker.name().as_bytes());
        out.extend_from_slice(&self.database);
        write_position(of.previous, out);
        out.push(b',');
        shared.split = out.len();
        out.extend_from_slice(b"]\",\"ts_us\":");
        write_i64(of.us, out);
        out.extend_from_slice(b",\"ts_ns\":");
        write_ns(of.us, out);
        out.extend_from_slice(&self.table);
        write_optional(of.xid.map(u64::from), out);
        out.extend_from_slice(b",\"lsn\":");
        shared.of = Some(of);
    }

    /// Appends one field as JSON.
    pub(super) fn write_field(&self, field: SourceField, context: &Context<'_>, out: &mut Vec<u8>) {
        let us = context.transaction.commit_time_us;
        match field {
            SourceField::Version => out.extend_from_slice(&self.version),
            SourceField::Connector => out.extend_from_slice(b"\"postgresql\""),
            SourceField::Name => out.extend_from_slice(&self.name),
            SourceField::TsMs => write_i64(us.div_euclid(1_000), out),
            SourceField::Snapshot => {
                out.push(b'"');
                out.extend_from_slice(context.marker.name().as_bytes());
                out.push(b'"');
            }
            SourceField::Db => out.extend_from_slice(&self.db),
            SourceField::Sequence => {
                out.extend_from_slice(b"\"[");
                write_position(context.shown_previous(), out);
                out.push(b',');
                write_position(context.shown_lsn(), out);
                out.extend_from_slice(b"]\"");
            }
            SourceField::TsUs => write_i64(us, out),
            SourceField::TsNs => write_ns(us, out),
            SourceField::Schema => out.extend_from_slice(&self.schema_name),
            SourceField::Table => out.extend_from_slice(&self.table_name),
            SourceField::TxId => write_optional(context.shown_xid().map(u64::from), out),
            SourceField::Lsn => write_optional(context.shown_lsn().map(|lsn| lsn.0), out),
            SourceField::Xmin => out.extend_from_slice(b"null"),
            SourceField::Origin => match context.origin {
                Some((name, _)) => json::write_string(name, out),
                None => out.extend_from_slice(b"null"),
            },
            SourceField::OriginLsn => write_optional(context.origin.map(|(_, lsn)| lsn.0), out),
        }
    }
}

/// An element of `sequence`, inside a JSON string.
#[inline]
fn write_position(lsn: Option<Lsn>, out: &mut Vec<u8>) {
    match lsn {
        Some(lsn) => {
            out.extend_from_slice(b"\\\"");
            write_u64(lsn.0, out);
            out.extend_from_slice(b"\\\"");
        }
        None => out.extend_from_slice(b"null"),
    }
}

#[inline]
fn write_optional(number: Option<u64>, out: &mut Vec<u8>) {
    match number {
        Some(number) => write_u64(number, out),
        None => out.extend_from_slice(b"null"),
    }
}
