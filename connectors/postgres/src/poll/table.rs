//! One polled table: what its rows are ordered and marked by, and the statements that follow from it.

use relay_core::session::Tick;
use relay_core::{Lsn, Snapshot};
use relay_pgwire::{quote_identifier, quote_literal};
use std::fmt::Write;

/// How the rows of a table are found and ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollOrder {
    /// By ticks: a column of type xid8 tells when a row became visible, an integer column its order within the tick.
    Tick {
        /// The xid8 column.
        xid: String,
        /// The order column.
        order: String,
    },
    /// By the marks in the rows themselves; the first of these columns that exists gives the order.
    Claim {
        /// Order columns.
        order: Vec<String>,
    },
}

/// What becomes of a published row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Keep,
    /// It is deleted.
    Delete,
    /// These assignments are made: column and SQL expression.
    Update(Vec<(String, String)>),
}

/// What the route of a table says about polling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollRule {
    /// Order of its rows.
    pub order: PollOrder,
    /// SQL condition that a row must meet to be an event.
    pub condition: Option<String>,
    /// What becomes of a published row.
    pub mark: Mark,
}

/// A table with what the catalog says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolledTable {
    /// `schema.table`, the raw text.
    pub name: String,
    /// The same, quoted.
    pub(super) quoted: String,
    /// What its route says.
    pub rule: PollRule,
    /// Columns of its primary key with their types, in the key's order; else of a unique index over columns that are NOT NULL.
    pub(super) key: Vec<(String, String)>,
    /// The column that orders claimed rows.
    pub(super) claim_order: Option<String>,
    /// Whether the xid8 column takes NULL: such a row is in no tick.
    pub has_null_xid: bool,
    /// Whether the order column takes NULL.
    pub(super) has_null_order: bool,
}

/// The columns of a polled row that polling itself reads, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollColumns {
    /// The xid8 column.
    pub xid: Option<usize>,
    /// The order column.
    pub order: Option<usize>,
    /// The key's columns.
    pub key: Vec<usize>,
}

pub(crate) fn xid8(xid: u64) -> String {
    format!("'{xid}'::xid8")
}

fn snapshot(snapshot: &Snapshot) -> String {
    format!("'{snapshot}'::pg_snapshot")
}

/// SQL that is true of a row which the snapshot sees, going by its xid8 column, given as an identifier: by the index, then exactly.
pub(crate) fn seen_by(by: &Snapshot, xid: &str) -> String {
    format!("{xid} < {} AND pg_visible_in_snapshot({xid}, {})", xid8(by.xmax()), snapshot(by))
}

/// A list of xids as an array literal.
pub(crate) fn xids(list: &[u64]) -> String {
    let list: Vec<String> = list.iter().map(u64::to_string).collect();
    format!("'{{{}}}'::xid8[]", list.join(","))
}

// === impl Mark ===

impl Mark {
    /// SQL that is true of a row which carries the mark; `None` where no mark is left.
    #[must_use]
    pub fn is_done(&self) -> Option<String> {
        let Mark::Update(assignments) = self else { return None };
        let done = assignments.iter().map(|(column, value)| {
            let column = quote_identifier(column);
            if value == "now()" { format!("{column} IS NOT NULL") } else { format!("{column} IS NOT DISTINCT FROM {value}") }
        });
        Some(done.collect::<Vec<_>>().join(" AND "))
    }
}

// === impl PollRule ===

impl PollRule {
    /// SQL that is true of a row which is, or was before it was marked, an event; `None` where each row is.
    #[must_use]
    pub fn was_event(&self) -> Option<String> {
        let condition = self.condition.as_ref()?;
        Some(match self.mark.is_done() {
            Some(done) => format!("({condition}) OR ({done})"),
            None => condition.clone(),
        })
    }
}

// === impl PolledTable ===

impl PolledTable {
    fn and_condition(&self) -> String {
        self.rule.condition.as_ref().map(|condition| format!(" AND ({condition})")).unwrap_or_default()
    }

    /// The rows that `tick` sees and `previous` does not, in order, from the order value on.
    ///
    /// Written as a union: with OR, or with the lists taken out of the snapshots by the server, the planner reads the whole table.
    pub(super) fn tick_query(&self, previous: &Tick, tick: &Tick, from: Option<i64>) -> Option<String> {
        let PollOrder::Tick { xid, order } = &self.rule.order else { return None };
        let (previous, tick) = (&previous.snapshot, &tick.snapshot);
        let (table, xid, order) = (&self.quoted, quote_identifier(xid), quote_identifier(order));
        let mut sql = format!(
            "SELECT * FROM (SELECT * FROM {table} WHERE {xid} >= {} AND {xid} < {}",
            xid8(previous.xmax()),
            xid8(tick.xmax())
        );
        let open: Vec<u64> = previous.xip().iter().copied().filter(|&xid| tick.sees(xid)).collect();
        if !open.is_empty() {
            let _ = write!(sql, " UNION ALL SELECT * FROM {table} WHERE {xid} = ANY ({})", xids(&open));
        }
        let _ = write!(sql, ") AS o WHERE pg_visible_in_snapshot({xid}, {}){}", snapshot(tick), self.and_condition());
        if let Some(from) = from {
            let or_null = if self.has_null_order { format!(" OR {order} IS NULL") } else { String::new() };
            let _ = write!(sql, " AND ({order} >= {from}{or_null})");
        }
        let _ = write!(sql, " ORDER BY {order}");
        Some(sql)
    }

    /// Rows without a mark that nobody else has locked.
    pub(super) fn claim_query(&self, limit: usize) -> String {
        format!("{} LIMIT {limit} FOR UPDATE SKIP LOCKED", self.claimed(""))
    }

    /// Those of the rows with these keys that are still there without a mark.
    pub(super) fn reclaim_query(&self, keys: &[Vec<String>]) -> String {
        self.claimed(&format!(" AND {}", self.has_key(keys)))
    }

    fn claimed(&self, and: &str) -> String {
        let columns = self.claim_order.iter().chain(self.key.iter().map(|(name, _)| name));
        let order: Vec<String> = columns.map(|name| quote_identifier(name)).collect();
        format!("SELECT * FROM {} WHERE true{}{and} ORDER BY {}", self.quoted, self.and_condition(), order.join(", "))
    }

    fn has_key(&self, keys: &[Vec<String>]) -> String {
        let names: Vec<String> = self.key.iter().map(|(name, _)| quote_identifier(name)).collect();
        let array = |at: usize| {
            let items: Vec<String> = keys.iter().filter_map(|key| key.get(at)).map(|text| array_item(text)).collect();
            quote_literal(&format!("{{{}}}", items.join(",")))
        };
        let arrays: Vec<String> =
            self.key.iter().enumerate().map(|(at, (_, type_name))| format!("{}::{type_name}[]", array(at))).collect();
        match arrays.as_slice() {
            [array] => format!("{} = ANY ({array})", names.join("")),
            _ => format!("({}) IN (SELECT * FROM unnest({}))", names.join(", "), arrays.join(", ")),
        }
    }

    /// Marks claimed rows by their keys.
    #[must_use]
    pub fn mark_keys(&self, keys: &[Vec<String>]) -> Option<String> {
        self.mark(&self.has_key(keys))
    }

    /// Marks the rows of a tick whose order values lie in a range, once they are published.
    #[must_use]
    pub fn mark_range(&self, previous: &Tick, tick: &Tick, (low, high): (i64, i64)) -> Vec<String> {
        let PollOrder::Tick { xid, order } = &self.rule.order else { return Vec::new() };
        let (previous, tick) = (&previous.snapshot, &tick.snapshot);
        let (xid, order) = (quote_identifier(xid), quote_identifier(order));
        let rest = format!(
            "{order} BETWEEN {low} AND {high} AND pg_visible_in_snapshot({xid}, {}){}",
            snapshot(tick),
            self.and_condition()
        );
        let mut wheres = vec![format!("{xid} >= {} AND {xid} < {} AND {rest}", xid8(previous.xmax()), xid8(tick.xmax()))];
        let open: Vec<u64> = previous.xip().iter().copied().filter(|&xid| tick.sees(xid)).collect();
        if !open.is_empty() {
            wheres.push(format!("{xid} = ANY ({}) AND {rest}", xids(&open)));
        }
        wheres.iter().filter_map(|condition| self.mark(condition)).collect()
    }

    /// Marks what a process that died had published and not marked yet, at most so many rows: what `published` sees, and of a tick that was
    /// left unfinished what stands up to an order value.
    #[must_use]
    pub fn mark_left(&self, published: &Snapshot, half: Option<(&Snapshot, i64)>, limit: usize) -> Option<String> {
        let PollOrder::Tick { xid, order } = &self.rule.order else { return None };
        let xid = quote_identifier(xid);
        let mut left = seen_by(published, &xid);
        if let Some((tick, order_value)) = half {
            left = format!("({left} OR {} AND {} <= {order_value})", seen_by(tick, &xid), quote_identifier(order));
        }
        if self.rule.mark == Mark::Keep {
            return None;
        }
        let unmarked = self.rule.mark.is_done().map(|done| format!(" AND NOT ({done})")).unwrap_or_default();
        let rows =
            format!("SELECT tableoid, ctid FROM {} WHERE {left}{unmarked}{} LIMIT {limit}", self.quoted, self.and_condition());
        self.mark(&format!("(tableoid, ctid) IN ({rows})"))
    }

    fn mark(&self, condition: &str) -> Option<String> {
        let table = &self.quoted;
        match &self.rule.mark {
            Mark::Keep => None,
            Mark::Delete => Some(format!("DELETE FROM {table} WHERE {condition}")),
            Mark::Update(assignments) => {
                let set: Vec<String> =
                    assignments.iter().map(|(column, value)| format!("{} = {value}", quote_identifier(column))).collect();
                Some(format!("UPDATE {table} SET {} WHERE {condition}", set.join(", ")))
            }
        }
    }

    /// Whether its rows are read in ticks.
    #[must_use]
    pub fn is_tick(&self) -> bool {
        matches!(self.rule.order, PollOrder::Tick { .. })
    }

    /// Finds the columns that polling reads in the rows' shape; the name of one that is missing.
    ///
    /// # Errors
    /// The missing column.
    pub fn columns(&self, column: impl Fn(&str) -> Option<usize>) -> Result<PollColumns, String> {
        let find = |name: &str| column(name).ok_or_else(|| name.to_owned());
        let (xid, order) = match &self.rule.order {
            PollOrder::Tick { xid, order } => (Some(find(xid)?), Some(find(order)?)),
            PollOrder::Claim { .. } => (None, self.claim_order.as_deref().map(find).transpose()?),
        };
        let key =
            if self.is_tick() { Vec::new() } else { self.key.iter().map(|(name, _)| find(name)).collect::<Result<_, _>>()? };
        Ok(PollColumns { xid, order, key })
    }
}

/// A text inside an array literal.
fn array_item(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The statement that reads who and where in time the server is; on an idle server it is all that polling asks.
pub(super) const TICK: &str = "SELECT pg_current_snapshot(), pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(), \
                               (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Whether WAL is on disk up to a position that was the end of what had been inserted.
///
/// Behind a full page the insert position stands after the next page's header, the flush position before it.
pub(super) fn is_flushed(inserted: Lsn, flushed: Lsn) -> bool {
    const PAGE: u64 = 8192;
    const HEADER_MAX: u64 = 40;
    flushed >= inserted || (flushed.0.is_multiple_of(PAGE) && inserted.0 - flushed.0 <= HEADER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(snapshot: &str) -> Tick {
        Tick { snapshot: snapshot.parse().expect("legal"), wal_end: Lsn(0), time_us: 0 }
    }

    fn table(order: PollOrder, mark: Mark) -> PolledTable {
        PolledTable {
            name: "public.outbox".into(),
            quoted: "\"public\".\"outbox\"".into(),
            rule: PollRule { order, condition: Some("a = 1".into()), mark },
            key: vec![("id".into(), "uuid".into())],
            claim_order: Some("id".into()),
            has_null_xid: false,
            has_null_order: false,
        }
    }

    #[test]
    fn a_tick_asks_by_range_and_by_the_list_of_those_that_were_open() {
        let table = table(PollOrder::Tick { xid: "xid".into(), order: "seq".into() }, Mark::Delete);
        let sql = table.tick_query(&tick("10:20:12,15"), &tick("15:30:15,25"), Some(7)).expect("a tick");
        assert_eq!(
            sql,
            "SELECT * FROM (SELECT * FROM \"public\".\"outbox\" WHERE \"xid\" >= '20'::xid8 AND \"xid\" < '30'::xid8 \
             UNION ALL SELECT * FROM \"public\".\"outbox\" WHERE \"xid\" = ANY ('{12}'::xid8[])) AS o \
             WHERE pg_visible_in_snapshot(\"xid\", '15:30:15,25'::pg_snapshot) AND (a = 1) AND (\"seq\" >= 7) ORDER BY \"seq\""
        );
        let marks = table.mark_range(&tick("10:20:"), &tick("20:30:"), (3, 9));
        assert_eq!(marks.len(), 1);
        assert!(marks[0].starts_with("DELETE FROM \"public\".\"outbox\" WHERE \"xid\" >= '20'::xid8"), "{}", marks[0]);
    }

    #[test]
    fn keys_are_quoted_as_array_items() {
        let table = table(PollOrder::Claim { order: vec!["id".into()] }, Mark::Update(vec![("done".into(), "now()".into())]));
        let sql = table.mark_keys(&[vec!["a\"b\\c'd".into()], vec!["e".into()]]).expect("a mark");
        assert!(sql.starts_with("UPDATE \"public\".\"outbox\" SET \"done\" = now() WHERE \"id\" = ANY ("), "{sql}");
        assert!(sql.contains(r#"\"b"#) && sql.contains("''d"), "{sql}");
    }

    #[test]
    fn a_page_header_is_no_unflushed_wal() {
        assert!(is_flushed(Lsn(8192 + 24), Lsn(8192)) && is_flushed(Lsn(8192 + 40), Lsn(8192)) && is_flushed(Lsn(5), Lsn(5)));
        assert!(!is_flushed(Lsn(8192 + 41), Lsn(8192)) && !is_flushed(Lsn(8300), Lsn(8299)));
    }
}
