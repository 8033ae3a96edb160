//! Which tables are polled, and what the catalog says of them: read when polling starts, and again now and then for globs.

use super::table::{PollOrder, PollRule, PolledTable};
use crate::error::Error;
use relay_pgwire::{Connection, quote_identifier};

/// Ordinary and partitioned tables outside the system's schemas, each with its columns, and its key's in the key's order.
const TABLES: &str = "\
SELECT n.nspname, c.relname, c.relispartition, \
  (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) ORDER BY a.attnum) \
   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
  (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place) \
   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum), \
  (SELECT pn.nspname || '.' || p.relname FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace \
   WHERE c.relispartition AND p.oid = pg_partition_root(c.oid)) \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN LATERAL (SELECT x.indkey, x.indnkeyatts FROM pg_index x WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid \
  AND x.indpred IS NULL AND 0 <> ALL (x.indkey::int2[]) \
  AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (x.indkey::int2[]) AND NOT a.attnotnull) \
  ORDER BY x.indisprimary DESC, x.indexrelid LIMIT 1) AS i ON true \
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' \
ORDER BY 1, 2";

/// Changes with the names of all tables and with nothing else, at a fraction of the price of [`TABLES`].
const STAMP: &str = "\
SELECT sum(hashtextextended(c.relname || '.' || c.relnamespace, c.oid::bigint)) FROM pg_class c WHERE c.relkind IN ('r', 'p')";

/// A text that stays the same for as long as no table is made, renamed or dropped.
pub(super) fn stamp(connection: &mut Connection) -> Result<String, Error> {
    let rows = connection.query(STAMP)?;
    let stamp = rows.first().and_then(|row| row.get(0)).map(str::to_owned);
    stamp.ok_or(Error::Answer { query: "the names of all tables" })
}

/// Names of the tables that are wanted, `schema.table`; a partition is passed over where its root is wanted.
pub(super) fn names(connection: &mut Connection, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let rows = connection.query(TABLES)?;
    let name = |row: &relay_pgwire::Row| {
        let name = format!("{}.{}", row.get(0)?, row.get(1)?);
        (wanted(&name) && !row.get(5).is_some_and(wanted)).then_some(name)
    };
    Ok(rows.iter().filter_map(name).collect())
}

type ColumnRow = (String, String, bool);

/// The tables that `rule` wants. A partition is passed over where its root is wanted: its rows come with the root's.
pub(super) fn tables(connection: &mut Connection, rule: &dyn Fn(&str) -> Option<PollRule>) -> Result<Vec<PolledTable>, Error> {
    let mut tables = Vec::new();
    for row in connection.query(TABLES)? {
        let (Some(schema), Some(table)) = (row.get(0), row.get(1)) else { continue };
        let name = format!("{schema}.{table}");
        let Some(wanted) = rule(&name) else { continue };
        if row.get(5).is_some_and(|root| rule(root).is_some()) {
            continue;
        }
        const WHAT: &str = "the columns of a polled table";
        let columns: Vec<ColumnRow> =
            row.get(3).map(serde_json::from_str).transpose().map_err(|_| Error::Answer { query: WHAT })?.unwrap_or_default();
        let key: Vec<String> =
            row.get(4).map(serde_json::from_str).transpose().map_err(|_| Error::Answer { query: WHAT })?.unwrap_or_default();
        let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(table));
        tables.push(polled(name, quoted, wanted, &columns, key)?);
    }
    Ok(tables)
}

fn polled(name: String, quoted: String, rule: PollRule, columns: &[ColumnRow], key: Vec<String>) -> Result<PolledTable, Error> {
    let find = |wanted: &str| columns.iter().find(|(column, ..)| column == wanted);
    let missing = |column: &str, what: &str| Error::Column(format!("{name} has no column `{column}`, which is its {what}"));
    let mut claim_order = None;
    let (mut has_null_xid, mut has_null_order) = (false, false);
    match &rule.order {
        PollOrder::Tick { xid, order } => {
            let (_, kind, is_not_null) = find(xid).ok_or_else(|| missing(xid, "xid column"))?;
            if kind != "xid8" {
                return Err(Error::Column(format!("{name}: column `{xid}` is {kind}; order `tick` needs an xid8 column")));
            }
            has_null_xid = !is_not_null;
            let (_, kind, is_not_null) = find(order).ok_or_else(|| missing(order, "order column"))?;
            if !matches!(kind.as_str(), "bigint" | "integer" | "smallint") {
                return Err(Error::Column(format!("{name}: column `{order}` is {kind}; order `tick` needs an integer column")));
            }
            has_null_order = !is_not_null;
        }
        PollOrder::Claim { order } => {
            claim_order = order.iter().find(|column| find(column).is_some()).cloned();
            if claim_order.is_none() {
                return Err(missing(&order.join("` or `"), "order column"));
            }
            if key.is_empty() {
                return Err(Error::Column(format!(
                    "{name} has no primary key, and no unique index over columns that are NOT NULL; order `claim` marks rows by it"
                )));
            }
        }
    }
    let key =
        key.into_iter().filter_map(|column| find(&column).map(|(column, kind, _)| (column.clone(), kind.clone()))).collect();
    Ok(PolledTable { name, quoted, rule, key, claim_order, has_null_xid, has_null_order })
}
