//! How the rows of a table look: the relation that its stream would announce, and the columns to ask for.

use super::tables::Found;
use crate::catalog::read_catalog;
use crate::error::Error;
use crate::inspect::server_version;
use relay_core::{Catalog, Column, Oid, Relation, ReplicaIdentity};
use relay_pgwire::{Connection, quote_identifier, quote_literal};
use std::sync::Arc;

/// A table's rows as a snapshot reads them.
#[derive(Debug)]
pub struct Shape {
    /// As the stream announces it.
    pub relation: Relation,
    /// The catalog's share.
    pub catalog: Catalog,
    /// The columns, quoted.
    columns: String,
    /// SQL of the publication's row filter.
    filter: Option<String>,
    /// What it was made from: another text means another shape.
    stamp: String,
}

/// Types from this oid on are not built in.
const FIRST_OID: u32 = 10_000;
const WHAT: &str = "the columns of a captured table";

// === impl Shape ===

impl Shape {
    /// The shape as it is now; `known` if it is still that.
    pub(super) fn read(
        connection: &mut Connection,
        found: &Found,
        publication: &str,
        known: Option<&Arc<Shape>>,
    ) -> Result<Option<Arc<Shape>>, Error> {
        let Some(stamp) = stamp(connection, found, publication)? else { return Ok(None) };
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(sent) = Sent::read(connection, found, publication)? else { return Ok(None) };
        let relation = relation(connection, found, &sent)?;
        let columns: Vec<String> = relation.columns.iter().map(|column| quote_identifier(&column.name)).collect();
        let catalog = read_catalog(connection, &relation)?;
        Ok(Some(Arc::new(Self { relation, catalog, columns: columns.join(", "), filter: sent.filter, stamp })))
    }

    /// Whether a table still has this shape.
    pub(super) fn is_still(&self, connection: &mut Connection, found: &Found, publication: &str) -> Result<bool, Error> {
        Ok(stamp(connection, found, publication)?.is_some_and(|stamp| stamp == self.stamp))
    }

    /// COPY of the rows that fit `conditions`, with their places in front if those are wanted.
    pub(super) fn copy(&self, found: &Found, has_place: bool, conditions: &[&str]) -> String {
        let place = if has_place { "ctid" } else { "" };
        let comma = if has_place && !self.columns.is_empty() { ", " } else { "" };
        let columns = &self.columns;
        let mut sql = format!("COPY (SELECT {place}{comma}{columns} FROM ONLY {}", found.quoted);
        let filter = self.filter.as_deref();
        for (at, condition) in conditions.iter().copied().chain(filter).enumerate() {
            sql.push_str(if at == 0 { " WHERE (" } else { " AND (" });
            sql.push_str(condition);
            // A comment at a condition's end must not swallow the bracket.
            sql.push_str("\n)");
        }
        sql.push_str(") TO STDOUT");
        sql
    }
}

/// A text that changes with the table's columns and keys, and with what the publication sends of it.
fn stamp(connection: &mut Connection, found: &Found, publication: &str) -> Result<Option<String>, Error> {
    let stream = found.stream;
    let has_lists = server_version(connection).unwrap_or(14) >= 15;
    let lists = if has_lists { "r.prattrs::text, r.prqual::text" } else { "''" };
    let publication = quote_literal(publication);
    let rows = connection.query(&format!(
        "SELECT concat_ws(' ', c.relname, c.relnamespace, c.relreplident, \
         (SELECT string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated), ';' \
            ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
         (SELECT string_agg(concat_ws(',', i.indkey, i.indisprimary, i.indisreplident, i.indisvalid, i.indimmediate), ';' \
            ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique), \
         (SELECT string_agg(concat_ws(',', r.prrelid, p.pubviaroot, {lists}), ';' ORDER BY r.prrelid) FROM pg_publication p \
            LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid IN ({stream}, {leaf}) WHERE p.pubname = {publication})) \
         FROM pg_class c WHERE c.oid = {stream}",
        leaf = found.leaf
    ))?;
    Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// What the publication sends of a table.
struct Sent {
    /// The columns, where it has a list of its own.
    columns: Option<Vec<String>>,
    filter: Option<String>,
}

// === impl Sent ===

impl Sent {
    /// `None` when it does not send the table.
    fn read(connection: &mut Connection, found: &Found, publication: &str) -> Result<Option<Self>, Error> {
        let has_lists = server_version(connection).unwrap_or(14) >= 15;
        let lists = if has_lists { "array_to_json(attnames), rowfilter" } else { "NULL, NULL" };
        let (schema, table) = &found.stream_name;
        let rows = connection.query(&format!(
            "SELECT {lists} FROM pg_publication_tables WHERE pubname = {} AND schemaname = {} AND tablename = {}",
            quote_literal(publication),
            quote_literal(schema),
            quote_literal(table)
        ))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let columns = row.get(0).map(serde_json::from_str).transpose().map_err(|_| Error::Answer { query: WHAT })?;
        Ok(Some(Self { columns, filter: row.get(1).map(str::to_owned) }))
    }
}

fn relation(connection: &mut Connection, found: &Found, sent: &Sent) -> Result<Relation, Error> {
    // Before 18 nothing sends generated columns; from then on the publication's list says which.
    let generated = if server_version(connection).unwrap_or(14) >= 18 { "" } else { " AND a.attgenerated = ''" };
    let rows = connection.query(&format!(
        "SELECT a.attname, a.atttypid, a.atttypmod, b.typname, c.relreplident, \
         CASE c.relreplident WHEN 'f' THEN true ELSE coalesce((SELECT a.attnum = ANY (i.indkey::int2[]) FROM pg_index i \
           WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END), false) END \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped{generated} \
         CROSS JOIN LATERAL (WITH RECURSIVE chain(oid, typname, typtype, typbasetype) AS (\
           SELECT t.oid, t.typname, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid \
           UNION ALL SELECT t.oid, t.typname, t.typtype, t.typbasetype FROM chain JOIN pg_type t ON t.oid = chain.typbasetype \
             WHERE chain.typtype = 'd') SELECT typname FROM chain WHERE typtype <> 'd' LIMIT 1) AS b \
         WHERE c.oid = {} ORDER BY a.attnum",
        found.stream
    ))?;
    let mut columns = Vec::new();
    let mut identity = ReplicaIdentity::Default;
    for row in &rows {
        let text = |at: usize| row.get(at).ok_or(Error::Answer { query: WHAT });
        let name = text(0)?;
        if sent.columns.as_ref().is_some_and(|sent| !sent.iter().any(|sent| sent == name)) {
            continue;
        }
        let type_oid = Oid(text(1)?.parse().map_err(|_| Error::Answer { query: WHAT })?);
        identity = match text(4)? {
            "f" => ReplicaIdentity::Full,
            "n" => ReplicaIdentity::Nothing,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        };
        columns.push(Column {
            name: name.into(),
            type_oid,
            type_modifier: text(2)?.parse().map_err(|_| Error::Answer { query: WHAT })?,
            type_name: (type_oid.0 >= FIRST_OID).then(|| text(3).map(Box::from)).transpose()?,
            is_key: text(5)? == "t",
        });
    }
    let (schema, name) = (found.stream_name.0.as_str().into(), found.stream_name.1.as_str().into());
    Ok(Relation { oid: found.stream, schema, name, identity, columns })
}
