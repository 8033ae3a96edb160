//! How full an outbox table is: its size, what vacuum has not cleaned, and in poll mode the rows that are still to be published.

use crate::error::Error;
use crate::poll::{PollOrder, PollRule, xid8, xids};
use crate::source::Source;
use relay_core::Snapshot;
use relay_pgwire::{Connection, quote_identifier, quote_literal};

/// A table as it was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxFacts {
    /// `schema.table`.
    pub table: String,
    /// The table, its partitions and their indexes.
    pub size_bytes: u64,
    /// Dead tuples, by the server's statistics.
    pub dead_rows: u64,
    /// Poll mode: what is not published yet; `None` where that is not known, or takes too long to count.
    pub pending: Option<Pending>,
}

/// Rows that are not published yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pending {
    /// How many.
    pub rows: u64,
    /// Age of the oldest in seconds; `None` without a column that tells.
    pub oldest_seconds: Option<f64>,
}

/// What decides which rows of a table are pending.
#[derive(Clone, Debug)]
pub struct Wanting {
    /// How the table is polled.
    pub rule: PollRule,
    /// The column that tells a row's age.
    pub timestamp: Option<String>,
}

/// Counting may take so long: it is for a metric.
const COUNT_TIMEOUT: &str = "SET LOCAL statement_timeout = '2s'";

/// `schema.table`, quoted.
pub(crate) fn quoted(table: &str) -> String {
    let (schema, name) = table.split_once('.').unwrap_or(("public", table));
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

// === impl Wanting ===

impl Wanting {
    /// Counts the rows that are not published; `None` where nothing tells them apart.
    fn sql(&self, table: &str, published: Option<&Snapshot>) -> Option<String> {
        let table = quoted(table);
        let age = self.timestamp.as_deref().map_or_else(|| "NULL::timestamptz".to_owned(), quote_identifier);
        let and = self.rule.condition.as_ref().map(|condition| format!(" AND ({condition})")).unwrap_or_default();
        let rows = match (&self.rule.order, published) {
            (PollOrder::Tick { xid, .. }, Some(published)) => {
                // As the tick query: a union, so that each half is read by the index.
                let xid = quote_identifier(xid);
                format!(
                    "SELECT {age} AS at FROM {table} WHERE {xid} >= {}{and} UNION ALL \
                     SELECT {age} FROM {table} WHERE {xid} = ANY ({}){and}",
                    xid8(published.xmax()),
                    xids(published.xip())
                )
            }
            (PollOrder::Tick { .. }, None) => return None,
            (PollOrder::Claim { .. }, _) => format!("SELECT {age} AS at FROM {table} WHERE true{and}"),
        };
        // relay's sessions run in UTC: a column without a zone is read so, as everywhere.
        Some(format!("SELECT count(*), extract(epoch FROM clock_timestamp() - min(at)::timestamptz) FROM ({rows}) AS o"))
    }
}

// === impl Source ===

impl Source {
    /// Looks at a table; `wanting` where it is polled.
    ///
    /// # Errors
    /// What the server says.
    pub fn outbox_facts(
        &self,
        connection: &mut Connection,
        table: &str,
        wanting: Option<(&Wanting, Option<&Snapshot>)>,
    ) -> Result<OutboxFacts, Error> {
        const WHAT: &str = "the size of an outbox table";
        let rows = connection.query(&format!(
            "SELECT coalesce(sum(pg_total_relation_size(o.oid)), 0)::bigint, coalesce(sum(pg_stat_get_dead_tuples(o.oid)), 0)::bigint \
             FROM {} AS o",
            tree(&format!("to_regclass({})", quote_literal(&quoted(table))))
        ))?;
        let number = |at: usize| rows.first().and_then(|row| row.get(at)?.parse::<u64>().ok());
        let (size_bytes, dead_rows) = number(0).zip(number(1)).ok_or(Error::Answer { query: WHAT })?;
        let pending = match wanting.and_then(|(wanting, published)| wanting.sql(table, published)) {
            Some(sql) => count(connection, &sql)?,
            None => None,
        };
        Ok(OutboxFacts { table: table.to_owned(), size_bytes, dead_rows, pending })
    }
}

/// A table that is given as an oid, and all of its partitions, as a subquery with the one column `oid`.
pub(crate) fn tree(table: &str) -> String {
    format!(
        "(SELECT coalesce(t.relid, r.oid) AS oid \
         FROM pg_class AS r LEFT JOIN LATERAL pg_partition_tree(r.oid) AS t ON true WHERE r.oid = {table})"
    )
}

fn count(connection: &mut Connection, sql: &str) -> Result<Option<Pending>, Error> {
    match connection.query(&format!("BEGIN READ ONLY; {COUNT_TIMEOUT}; {sql}; COMMIT")) {
        Ok(rows) => {
            let row = rows.first();
            let pending = row
                .and_then(|row| row.get(0)?.parse().ok())
                .map(|rows| Pending { rows, oldest_seconds: row.and_then(|row| row.get(1)?.parse().ok()) });
            Ok(pending)
        }
        // Cancelled by the time-out, or a role without the right: the metric is absent.
        Err(error) if matches!(error.sqlstate(), Some("57014" | "42501")) => {
            connection.query("ROLLBACK")?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Mark;

    #[test]
    fn pending_is_what_the_published_snapshot_does_not_see() {
        let rule = |order| PollRule { order, condition: Some("a = 1".into()), mark: Mark::Keep };
        let tick =
            Wanting { rule: rule(PollOrder::Tick { xid: "xid".into(), order: "seq".into() }), timestamp: Some("at".into()) };
        let published: Snapshot = "5:9:7".parse().expect("legal");
        let sql = tick.sql("s.O", Some(&published)).expect("known");
        assert!(sql.contains("FROM \"s\".\"O\" WHERE \"xid\" >= '9'::xid8 AND (a = 1) UNION ALL"), "{sql}");
        assert!(sql.contains("\"xid\" = ANY ('{7}'::xid8[]) AND (a = 1)"), "{sql}");
        assert_eq!(tick.sql("s.O", None), None);
        let claim = Wanting { rule: rule(PollOrder::Claim { order: vec!["id".into()] }), timestamp: None };
        assert!(claim.sql("s.O", None).expect("known").contains("WHERE true AND (a = 1)"));
    }
}
