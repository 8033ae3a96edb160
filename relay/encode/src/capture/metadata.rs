//! A piece of metadata by name, written as JSON or as text: fields and headers of the flat format.

use super::context::Context;
use super::number::{write_i64, write_u64};
use super::source::{Source, SourceField};
use crate::json;

/// Where a piece of metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    Op,
    TsMs,
    TsUs,
    TsNs,
    TransactionId,
    TotalOrder,
    CollectionOrder,
    Source(SourceField),
}

// === impl Metadata ===

impl Metadata {
    /// Reads `name`, `struct.name`, each with `:alias` behind it, and gives the full name beside it; `None` for a name that does not
    /// exist, which is skipped as Debezium does.
    pub(super) fn parse(text: &str, prefix: &str) -> Option<(String, Self)> {
        let (path, alias) = match text.trim().split_once(':') {
            Some((path, alias)) => (path.trim(), Some(alias.trim())),
            None => (text.trim(), None),
        };
        let metadata = match path.split_once('.') {
            Some(("source", name)) => Metadata::Source(source_field(name)?),
            Some(("transaction", name)) => transaction_field(name)?,
            Some(_) => return None,
            None => match path {
                "op" => Metadata::Op,
                "ts_ms" => Metadata::TsMs,
                "ts_us" => Metadata::TsUs,
                "ts_ns" => Metadata::TsNs,
                _ => match transaction_field(path) {
                    Some(field) => field,
                    None => Metadata::Source(source_field(path)?),
                },
            },
        };
        let name = alias.map_or_else(|| path.replace('.', "_"), str::to_owned);
        Some((format!("{prefix}{name}"), metadata))
    }

    /// Whether its schema is int64; else it is a string.
    pub(super) fn is_integer(self) -> bool {
        match self {
            Metadata::Op | Metadata::TransactionId => false,
            Metadata::Source(field) => field.is_integer(),
            _ => true,
        }
    }

    /// Appends it as JSON; `order` is that of the record.
    pub(super) fn write(self, op: u8, source: &Source, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Metadata::Op => out.extend_from_slice(&[b'"', op, b'"']),
            Metadata::TsMs => write_i64(context.now_ns.div_euclid(1_000_000), out),
            Metadata::TsUs => write_i64(context.now_ns.div_euclid(1_000), out),
            Metadata::TsNs => write_i64(context.now_ns, out),
            Metadata::Source(field) => source.write_field(field, context, out),
            Metadata::TransactionId | Metadata::TotalOrder | Metadata::CollectionOrder => match (self, context.order) {
                (_, None) => out.extend_from_slice(b"null"),
                (Metadata::TotalOrder, Some(order)) => write_u64(order.total, out),
                (Metadata::CollectionOrder, Some(order)) => write_u64(order.in_table, out),
                (_, Some(_)) => {
                    out.push(b'"');
                    context.write_transaction_id(out);
                    out.push(b'"');
                }
            },
        }
    }

    /// Appends it as the text of a header: a string without its quotes.
    pub(super) fn write_text(self, op: u8, source: &Source, context: &Context<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(op, source, context, out);
        let Some(inside) = out.get(start..).and_then(json::string_inside) else { return };
        if memchr::memchr(b'\\', inside).is_none() {
            out.pop();
            out.remove(start);
            return;
        }
        // `sequence`, and names that need escapes.
        let mut plain = Vec::new();
        if json::unescape(inside, &mut plain) {
            out.truncate(start);
            out.extend_from_slice(&plain);
        }
    }
}

fn source_field(name: &str) -> Option<SourceField> {
    SourceField::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field)
}

fn transaction_field(name: &str) -> Option<Metadata> {
    match name {
        "id" => Some(Metadata::TransactionId),
        "total_order" => Some(Metadata::TotalOrder),
        "data_collection_order" => Some(Metadata::CollectionOrder),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for (text, want) in [
            ("op", Some(("__op", Metadata::Op))),
            ("lsn", Some(("__lsn", Metadata::Source(SourceField::Lsn)))),
            ("source.ts_ms", Some(("__source_ts_ms", Metadata::Source(SourceField::TsMs)))),
            ("ts_ms", Some(("__ts_ms", Metadata::TsMs))),
            ("transaction.id", Some(("__transaction_id", Metadata::TransactionId))),
            ("id", Some(("__id", Metadata::TransactionId))),
            ("table: Origin", Some(("__Origin", Metadata::Source(SourceField::Table)))),
            ("nosuch", None),
            ("after.x", None),
        ] {
            assert_eq!(Metadata::parse(text, "__"), want.map(|(name, metadata)| (name.to_owned(), metadata)), "{text}");
        }
    }
}
