//! Removes published rows of an outbox table: in ranges, or a whole old partition at once; never a row that is not known to be published.

use crate::error::Error;
use crate::outbox::quoted;
use crate::poll::{Mark, PollOrder, PollRule, seen_by};
use relay_core::Snapshot;
use relay_pgwire::{Connection, quote_identifier, quote_literal};
use std::time::Duration;

/// What to remove, and how gently.
#[derive(Clone, Debug)]
pub struct Prune {
    /// `schema.table`.
    pub table: String,
    /// How published rows are known.
    pub proof: Proof,
    /// Column with the row's time, and the age from which a row goes.
    pub older_than: Option<(String, Duration)>,
    /// SQL condition of rows that are events, see [`PollRule::was_event`]: others are not ours to remove.
    pub condition: Option<String>,
    /// Rows a statement.
    pub batch: u64,
    /// Pause between two statements.
    pub pause: Duration,
    /// Only count.
    pub is_dry: bool,
}

/// How published rows are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The snapshot of the checkpoint sees them: their xid8 column tells.
    Seen {
        /// The xid8 column.
        xid: String,
        /// What is published.
        published: Snapshot,
    },
    /// They carry the mark that polling gives them, as an SQL condition.
    Marked(String),
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows deleted one range after the other.
    pub rows: u64,
    /// Partitions dropped as a whole, `schema.table`.
    pub partitions: Vec<String>,
    /// Partitions that would have gone but for this: the reason.
    pub kept: Vec<(String, String)>,
}

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";
/// The same for the lock under which a partition goes: inserts queue behind whoever waits for it.
const DROP_TIMEOUT: &str = "SET LOCAL lock_timeout = '250ms'";
const KEPT: &str = "it holds rows that are not published, or that are no events";

// === impl Proof ===

impl Proof {
    /// How the published rows of a table are known, going by its rule; the reason where they are not.
    ///
    /// # Errors
    /// A text for people.
    pub fn of(rule: &PollRule, published: Option<&Snapshot>) -> Result<Self, String> {
        match (&rule.order, published) {
            (PollOrder::Tick { xid, .. }, Some(published)) => Ok(Self::Seen { xid: xid.clone(), published: published.clone() }),
            (PollOrder::Tick { .. }, None) => Err("the checkpoint knows no snapshot of what is published yet".to_owned()),
            (PollOrder::Claim { .. }, _) => match &rule.mark {
                Mark::Update(_) => Ok(Self::Marked(rule.mark.is_done().unwrap_or_default())),
                Mark::Delete => Err("published rows are deleted as soon as they are acknowledged".to_owned()),
                Mark::Keep => Err("its rows carry no mark".to_owned()),
            },
        }
    }

    fn condition(&self) -> String {
        match self {
            Proof::Seen { xid, published } => seen_by(published, &quote_identifier(xid)),
            Proof::Marked(condition) => condition.clone(),
        }
    }
}

// === impl Prune ===

impl Prune {
    /// Removes what may go, until nothing more does or `goes_on` says to stop.
    ///
    /// # Errors
    /// What the server says; what was removed by then stays removed.
    pub fn run(&self, connection: &mut Connection, mut goes_on: impl FnMut(u64) -> bool) -> Result<Pruned, Error> {
        self.check_proof(connection)?;
        let mut pruned = Pruned::default();
        for leaf in self.leaves(connection)? {
            if let Some(bound) = &leaf.upper_bound
                && self.is_old(connection, bound)?
            {
                match self.drop_partition(connection, &leaf)? {
                    None => {
                        pruned.partitions.push(leaf.name.clone());
                        continue;
                    }
                    Some(reason) => pruned.kept.push((leaf.name.clone(), reason)),
                }
            }
            match &leaf.rows {
                Some(rows) => self.delete(connection, rows, &mut pruned.rows, &mut goes_on)?,
                None => pruned.kept.push((leaf.name, "the role lacks SELECT and DELETE on it".to_owned())),
            }
        }
        Ok(pruned)
    }

    /// The column that the proof rests on must be there, and no 32-bit xid, which comes round again.
    fn check_proof(&self, connection: &mut Connection) -> Result<(), Error> {
        let Proof::Seen { xid, .. } = &self.proof else { return Ok(()) };
        let rows = connection.query(&format!(
            "SELECT FROM pg_attribute WHERE attrelid = to_regclass({}) AND attname = {} AND atttypid = 'xid8'::regtype \
             AND NOT attisdropped",
            quote_literal(&quoted(&self.table)),
            quote_literal(xid)
        ))?;
        if rows.is_empty() && !self.leaves(connection)?.is_empty() {
            let table = &self.table;
            return Err(Error::Column(format!(
                "{table} has no xid8 column `{xid}`: nothing tells which of its rows are published"
            )));
        }
        Ok(())
    }

    /// The table itself, or its partitions.
    fn leaves(&self, connection: &mut Connection) -> Result<Vec<Leaf>, Error> {
        const WHAT: &str = "the table and its partitions";
        let (schema, table) = self.table.split_once('.').unwrap_or(("public", &self.table));
        let root = quoted(&self.table);
        let sql = format!(
            "SELECT n.nspname, l.relname, pg_get_expr(l.relpartbound, l.oid), \
             pg_get_partkeydef(p.oid), (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a, pg_partitioned_table k \
               WHERE k.partrelid = p.oid AND a.attrelid = p.oid AND a.attnum = k.partattrs[0] AND k.partnatts = 1 \
               AND k.partstrat = 'r'), pg_has_role(l.relowner, 'USAGE') AND pg_has_role(p.relowner, 'USAGE'), \
               quote_ident(m.nspname) || '.' || quote_ident(p.relname), \
               has_table_privilege(l.oid, 'SELECT') AND has_table_privilege(l.oid, 'DELETE'), \
               'tableoid = ' || l.oid || ' AND ' || pg_get_partition_constraintdef(l.oid) \
             FROM pg_class r JOIN pg_namespace s ON s.oid = r.relnamespace \
             LEFT JOIN LATERAL pg_partition_tree(r.oid) t ON true \
             JOIN pg_class l ON l.oid = coalesce(t.relid, r.oid) JOIN pg_namespace n ON n.oid = l.relnamespace \
             LEFT JOIN pg_class p ON p.oid = t.parentrelid LEFT JOIN pg_namespace m ON m.oid = p.relnamespace \
             WHERE s.nspname = {} AND r.relname = {} AND r.relkind IN ('r', 'p') AND l.relkind = 'r' ORDER BY 1, 2",
            quote_literal(schema),
            quote_literal(table)
        );
        let rows = connection.query(&sql)?;
        if rows.is_empty() {
            return Err(Error::Column(format!("there is no table {}", self.table)));
        }
        let time_column = self.older_than.as_ref().map(|(column, _)| column.as_str());
        let leaf = |row: &relay_pgwire::Row| {
            let (schema, table) = (row.get(0)?, row.get(1)?);
            // Only a range over the very column that the age is measured by says how old all its rows are.
            let is_by_time = row.get(3).is_some_and(|key| {
                time_column.is_some_and(|column| {
                    key == format!("RANGE ({column})") || key == format!("RANGE ({})", quote_identifier(column))
                })
            });
            let upper_bound = row.get(2).filter(|_| is_by_time && row.get(5) == Some("t")).and_then(upper_bound);
            let upper_bound = upper_bound.zip(row.get(4)).map(|(bound, kind)| format!("{bound}::{kind}"));
            let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(table));
            let parent = row.get(6).map_or_else(|| quoted.clone(), str::to_owned);
            // A right on the outbox is none on its partitions: then they are reached through it, by their bounds. The rest, which has none,
            // is not.
            let rows = match (row.get(7), row.get(2), row.get(8)) {
                (Some("t"), ..) | (_, None, _) => Some((quoted.clone(), "true".to_owned())),
                (_, Some("DEFAULT"), _) => None,
                (_, _, bounds) => Some((root.clone(), bounds?.to_owned())),
            };
            Some(Leaf { name: format!("{schema}.{table}"), quoted, parent, upper_bound, rows })
        };
        rows.iter().map(|row| leaf(row).ok_or(Error::Answer { query: WHAT })).collect()
    }

    fn cutoff(&self) -> Option<(String, String)> {
        let (column, age) = self.older_than.as_ref()?;
        Some((quote_identifier(column), format!("now() - interval '{} milliseconds'", age.as_millis())))
    }

    fn is_old(&self, connection: &mut Connection, bound: &str) -> Result<bool, Error> {
        let Some((_, cutoff)) = self.cutoff() else { return Ok(false) };
        let rows = connection.query(&format!("SELECT {bound} <= {cutoff}"))?;
        Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
    }

    /// Rows that may go, but for their age.
    fn goes(&self) -> String {
        let proof = self.proof.condition();
        match (&self.proof, &self.condition) {
            // A marked row does not meet the condition any more.
            (Proof::Marked(_), _) | (_, None) => format!("({proof})"),
            (Proof::Seen { .. }, Some(condition)) => format!("({proof} AND ({condition}))"),
        }
    }

    /// Drops a partition whose rows are all old, if they are all published; else the reason why it stays.
    fn drop_partition(&self, connection: &mut Connection, leaf: &Leaf) -> Result<Option<String>, Error> {
        let table = &leaf.quoted;
        // Rows that are no events are not ours to remove either, and what is NULL proves nothing.
        let unpublished = format!("SELECT FROM {table} WHERE NOT coalesce({}, false) LIMIT 1", self.goes());
        let rows = connection.query(&format!("SELECT EXISTS ({unpublished})"))?;
        if rows.first().and_then(|row| row.get(0)) != Some("f") {
            return Ok(Some(KEPT.to_owned()));
        }
        if self.is_dry {
            return Ok(None);
        }
        // With the lock held nobody is in the middle of an insert: what is there is all there will be.
        // The parent first, as queries lock them: DROP needs it too, and the other way round is a deadlock with a reader.
        let lock = format!(
            "BEGIN; {DROP_TIMEOUT}; LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; \
             SELECT EXISTS ({unpublished})",
            leaf.parent
        );
        let dropped = connection.query(&lock).and_then(|rows| match rows.last().and_then(|row| row.get(0)) {
            Some("f") => connection.query(&format!("DROP TABLE {table}; COMMIT")).map(|_| None),
            _ => Ok(Some(KEPT.to_owned())),
        });
        let reason = match dropped {
            Ok(reason) => reason,
            Err(error) if matches!(error.sqlstate(), Some("55P03" | "42501" | "40P01")) => Some(error.to_string()),
            Err(error) => {
                let _ = connection.query("ROLLBACK");
                return Err(error.into());
            }
        };
        if reason.is_some() {
            connection.query("ROLLBACK")?;
        }
        Ok(reason)
    }

    /// Deletes range after range, in the order in which the rows lie: each statement goes on where the one before ended, so that no part of
    /// the table is read twice.
    fn delete(
        &self,
        connection: &mut Connection,
        (table, inside): &(String, String),
        rows: &mut u64,
        goes_on: &mut impl FnMut(u64) -> bool,
    ) -> Result<(), Error> {
        const WHAT: &str = "a range of rows";
        let age = self.cutoff().map(|(column, cutoff)| format!(" AND {column} < {cutoff}")).unwrap_or_default();
        let wanted = format!("{inside} AND {}{age}", self.goes());
        if self.is_dry {
            let counted = connection.query(&format!("SELECT count(*) FROM {table} WHERE {wanted}"))?;
            *rows += counted.first().and_then(|row| row.get(0)?.parse::<u64>().ok()).ok_or(Error::Answer { query: WHAT })?;
            return Ok(());
        }
        let mut from = "(0,0)".to_owned();
        loop {
            let sql = format!(
                "BEGIN; {LOCK_TIMEOUT}; WITH found AS MATERIALIZED (SELECT ctid FROM {table} WHERE ctid >= '{from}'::tid AND {wanted} \
                 ORDER BY ctid LIMIT {}), \
                 gone AS (DELETE FROM {table} WHERE {inside} AND ctid = ANY (ARRAY(SELECT ctid FROM found)) RETURNING 1) \
                 SELECT (SELECT count(*) FROM gone), (SELECT max(ctid) FROM found); COMMIT",
                self.batch
            );
            let answer = match connection.query(&sql) {
                Ok(answer) => answer,
                Err(error) => {
                    let _ = connection.query("ROLLBACK");
                    return Err(error.into());
                }
            };
            let row = answer.first().ok_or(Error::Answer { query: WHAT })?;
            let gone: u64 = row.get(0).and_then(|text| text.parse().ok()).ok_or(Error::Answer { query: WHAT })?;
            *rows += gone;
            let Some(last) = row.get(1) else { return Ok(()) };
            if !goes_on(gone) || gone < self.batch {
                return Ok(());
            }
            from = last.to_owned();
            std::thread::sleep(self.pause);
        }
    }
}

/// An ordinary table or a partition.
struct Leaf {
    name: String,
    quoted: String,
    /// The table that it is a partition of, quoted; the table itself where it is none.
    parent: String,
    /// The table that its rows are reached by, and a condition that tells them; `None` where the role may not.
    rows: Option<(String, String)>,
    /// Where its range of time ends, as SQL; absent where it has none, or where we may not drop it.
    upper_bound: Option<String>,
}

/// The end of `FOR VALUES FROM ('…') TO ('…')`.
fn upper_bound(bound: &str) -> Option<String> {
    let (_, to) = bound.rsplit_once(" TO (")?;
    let value = to.strip_suffix(')')?;
    let inside = value.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inside.contains('\'')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_range_is_read_out_of_its_bound() {
        let bound = "FOR VALUES FROM ('2026-01-05 00:00:00+00') TO ('2026-01-12 00:00:00+00')";
        assert_eq!(upper_bound(bound).as_deref(), Some("'2026-01-12 00:00:00+00'"));
        for other in [
            "DEFAULT",
            "FOR VALUES FROM ('2026-01-05') TO (MAXVALUE)",
            "FOR VALUES IN ('a')",
            "FOR VALUES FROM (1) TO (2)",
            "x TO (')",
        ] {
            assert_eq!(upper_bound(other), None, "{other}");
        }
    }

    #[test]
    fn a_claimed_table_goes_by_its_marks_and_a_tick_by_its_snapshot() {
        let tick = PollOrder::Tick { xid: "xid".into(), order: "seq".into() };
        let claim = PollOrder::Claim { order: vec!["id".into()] };
        let rule = |order: &PollOrder, mark: Mark| PollRule { order: order.clone(), condition: None, mark };
        let published: Snapshot = "5:9:7".parse().expect("legal");
        let proof = Proof::of(&rule(&tick, Mark::Keep), Some(&published)).expect("known");
        assert_eq!(proof.condition(), "\"xid\" < '9'::xid8 AND pg_visible_in_snapshot(\"xid\", '5:9:7'::pg_snapshot)");
        assert!(Proof::of(&rule(&tick, Mark::Keep), None).is_err());
        let mark = Mark::Update(vec![("done".into(), "now()".into()), ("status".into(), "'x'".into())]);
        let proof = Proof::of(&rule(&claim, mark), None).expect("known");
        assert_eq!(proof.condition(), "\"done\" IS NOT NULL AND \"status\" IS NOT DISTINCT FROM 'x'");
        assert!(Proof::of(&rule(&claim, Mark::Delete), None).is_err());
    }
}
