//! The outbox tables: whether relay may do with them what it is told to, how full they are, and who else is at work on them.

use super::tables::Table;
use super::{Examination, Finding, OF_TABLES, OutboxRule, bytes};
use crate::detect::dispatchers;
use crate::outbox::tree;
use crate::poll::{Mark, PollOrder};
use relay_pgwire::{quote_identifier, quote_literal};

/// Statements that read rows may take so long.
const ROWS_TIMEOUT: &str = "SET LOCAL statement_timeout = '3s'";
/// Dead rows below this are nobody's concern.
const MANY_DEAD: u64 = 10_000;
/// Seconds between a row's own time and the server's from which something is wrong; chosen.
const TIME_OFF_S: f64 = 300.0;

// === impl Examination: outbox ===

impl Examination<'_> {
    /// PG013, PG021, PG022, PG026 and PG027, each at least once.
    pub(super) fn outboxes(&mut self, tables: &[Table], captured: &[Table]) {
        let before = self.findings.len();
        for table in tables.iter().chain(captured) {
            self.logged(table);
        }
        for table in captured {
            if (self.expected.outbox)(&table.raw()).is_captured {
                self.readable(table);
            }
        }
        for table in tables {
            let rule = (self.expected.outbox)(&table.raw());
            self.rights(table, &rule);
            self.row_security(table, &rule);
            self.growth(table, &rule);
            self.order(table, &rule);
            self.default_partition(table);
            self.emptied(table, &rule);
            self.clock(table, &rule);
        }
        self.others();
        for id in OF_TABLES {
            if !self.findings[before..].iter().any(|finding| finding.id == id) {
                self.add(Finding::ok(id, well(id, tables.len() + captured.len())));
            }
        }
    }

    /// PG013: the log carries nothing of an unlogged table.
    fn logged(&mut self, table: &Table) {
        if table.is_unlogged && !self.expected.is_poll {
            let observed = format!("table {} is unlogged", table.raw());
            // Where a star takes it, it may well be meant to stay out.
            let (finding, otherwise) = match (self.expected.insists)(&table.raw()) {
                true => (Finding::fail("PG013", observed), ""),
                false => (Finding::warn("PG013", observed), "  -- or leave it out with `exclude`"),
            };
            self.add(
                finding
                    .because("an unlogged table leaves no trace in the WAL")
                    .so("no event comes of its rows")
                    .cure(format!("ALTER TABLE {} SET LOGGED;{otherwise}", table.quoted())),
            );
        }
    }

    /// PG022: what polling and pruning need.
    fn rights(&mut self, table: &Table, rule: &OutboxRule) {
        let (is_claim, mark) = match &rule.rule {
            Some(rule) if self.expected.is_poll => (matches!(rule.order, PollOrder::Claim { .. }), rule.mark.clone()),
            _ => (false, Mark::Keep),
        };
        let mut needed = Vec::new();
        if self.expected.is_poll || rule.is_pruned {
            needed.push(("SELECT", "to read the rows"));
        }
        if is_claim || matches!(mark, Mark::Update(_)) {
            needed.push(("UPDATE", if is_claim { "to claim rows" } else { "to mark published rows" }));
        }
        if mark == Mark::Delete || rule.is_pruned {
            needed.push(("DELETE", "to remove published rows"));
        }
        for (right, why) in needed {
            // A column's right is enough to lock a row, and to set the column.
            let function = if right == "UPDATE" { "has_any_column_privilege" } else { "has_table_privilege" };
            match self.ask_one(&format!("SELECT {function}({}::oid, '{right}')", table.oid)) {
                Ok(row) if row.get(0) == Some("t") => {}
                Ok(_) => {
                    let role = self.role();
                    self.add(
                        Finding::fail("PG022", format!("role {role} lacks {right} on {}", table.raw()))
                            .because(format!("relay needs it {why}"))
                            .so(match right {
                                "DELETE" => "published rows stay",
                                _ => "polling stops at this table",
                            })
                            .cure(format!("GRANT {right} ON {} TO {role};", table.quoted())),
                    );
                }
                Err(reason) => self.add(Finding::skip("PG022", &reason)),
            }
        }
    }

    /// PG026.
    fn row_security(&mut self, table: &Table, rule: &OutboxRule) {
        if !self.expected.is_poll && !rule.is_pruned {
            return;
        }
        match self.ask_one(&format!("SELECT row_security_active({}::oid)", table.oid)) {
            Ok(row) if row.get(0) == Some("t") => {
                let role = self.role();
                self.add(
                    Finding::fail("PG026", format!("row security applies to role {role} on {}", table.raw()))
                        .because("relay reads with row_security = off: an error instead of rows that are silently left out")
                        .so("polling and pruning fail on this table")
                        .cure(format!("ALTER ROLE {role} BYPASSRLS;")),
                );
            }
            Ok(_) => {}
            Err(reason) => self.add(Finding::skip("PG026", &reason)),
        }
    }

    /// PG021: size, vacuum, the oldest row.
    fn growth(&mut self, table: &Table, rule: &OutboxRule) {
        let answer = self.ask_one(&format!(
            "SELECT sum(pg_total_relation_size(o.oid))::bigint, sum(pg_stat_get_live_tuples(o.oid))::bigint, \
             sum(pg_stat_get_dead_tuples(o.oid))::bigint, \
             max(greatest(pg_stat_get_last_vacuum_time(o.oid), pg_stat_get_last_autovacuum_time(o.oid)))::text \
             FROM {} AS o",
            tree(&table.oid.to_string())
        ));
        let row = match answer {
            Ok(row) => row,
            Err(reason) => return self.add(Finding::skip("PG021", &reason)),
        };
        let number = |at: usize| row.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (size, live, dead) = (number(0), number(1), number(2));
        let vacuumed = row.get(3).map_or_else(|| "never".to_owned(), str::to_owned);
        let mut observed = format!("{}: {}, {live} rows, {dead} dead, vacuumed {vacuumed}", table.raw(), bytes(size));
        if let Some(column) = &rule.timestamp {
            let age = format!(
                "SELECT extract(epoch FROM clock_timestamp() - min({})::timestamptz)::bigint FROM {}",
                quote_identifier(column),
                table.quoted()
            );
            if let Ok(Some(age)) = self.ask_rows(&age) {
                observed.push_str(&format!(", the oldest row is {age} s old"));
            }
        }
        let quoted = table.quoted();
        self.add(if dead > MANY_DEAD && dead > live {
            Finding::warn("PG021", observed)
                .because("rows are deleted or marked faster than vacuum cleans up, or an open transaction holds it back (PG018)")
                .so("the table grows, and polling reads ever more pages for the same rows")
                .cure(format!("VACUUM {quoted};  -- and: ALTER TABLE … SET (autovacuum_vacuum_scale_factor = 0.01);"))
        } else {
            Finding::ok("PG021", observed)
        });
    }

    /// PG021: what the tick query leans on.
    fn order(&mut self, table: &Table, rule: &OutboxRule) {
        let Some(PollOrder::Tick { xid, order }) = rule.rule.as_ref().map(|rule| &rule.order) else { return };
        if !self.expected.is_poll {
            return;
        }
        let (xid_column, order_column) = (quote_identifier(xid), quote_identifier(order));
        // A partitioned table's index cannot be made concurrently.
        let how = if table.is_partitioned { "" } else { " CONCURRENTLY" };
        let index = self.ask_one(&format!(
            "SELECT EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
             WHERE i.indrelid = {} AND i.indisvalid AND i.indpred IS NULL AND a.attname = {})",
            table.oid,
            quote_literal(xid)
        ));
        match index {
            Ok(row) if row.get(0) == Some("t") => {}
            Ok(_) => self.add(
                Finding::warn("PG021", format!("{} has no index that begins with {xid_column}", table.raw()))
                    .because("each look asks for the rows of the newest transactions")
                    .so("each look reads the whole table")
                    .cure(format!("CREATE INDEX{how} ON {} ({xid_column}, {order_column});", table.quoted())),
            ),
            Err(reason) => self.add(Finding::skip("PG021", &reason)),
        }
        let cache = self.ask_rows(&format!(
            "SELECT CASE WHEN s.seqcache > 1 THEN s.seqrelid::regclass::text END FROM pg_sequence AS s \
             WHERE s.seqrelid = pg_get_serial_sequence({}, {})::regclass",
            quote_literal(&table.quoted()),
            quote_literal(order)
        ));
        if let Ok(Some(sequence)) = cache {
            self.add(
                Finding::warn("PG021", format!("sequence {sequence} of {order_column} hands out numbers in batches"))
                    .because("with CACHE above 1 a session keeps numbers for later")
                    .so("inside a tick a later insert may come before an earlier one")
                    .cure(format!("ALTER SEQUENCE {sequence} CACHE 1;")),
            );
        }
    }

    /// PG027 (T19): rows for which nobody made a partition.
    fn default_partition(&mut self, table: &Table) {
        let found = self.ask_rows(&format!(
            "SELECT p.partdefid::regclass::text FROM pg_partitioned_table AS p JOIN pg_class AS c ON c.oid = p.partdefid \
             WHERE p.partrelid = {} AND (pg_stat_get_live_tuples(c.oid) > 0 OR c.reltuples > 0)",
            table.oid
        ));
        if let Ok(Some(partition)) = found {
            self.add(
                Finding::warn("PG027", format!("rows of {} lie in its DEFAULT partition {partition}", table.raw()))
                    .because("there was no partition for their time when they were written")
                    .so("they are never dropped with an old partition, and a partition for that time cannot be made while they lie there")
                    .cure("make partitions ahead of time; move the rows with DELETE … RETURNING and INSERT"),
            );
        }
    }

    /// PG027 (T1): whoever deletes rows in the transaction that inserts them leaves nothing to a poller.
    fn emptied(&mut self, table: &Table, rule: &OutboxRule) {
        let deletes = rule.is_pruned || rule.rule.as_ref().is_some_and(|rule| rule.mark == Mark::Delete);
        if !self.expected.is_poll || deletes {
            return;
        }
        let inserted = self.ask_rows(&format!(
            "SELECT nullif(sum(pg_stat_get_tuples_inserted(o.oid)), 0)::bigint FROM {} AS o",
            tree(&table.oid.to_string())
        ));
        let is_empty = self.ask_rows(&format!("SELECT NOT EXISTS (SELECT FROM {})", table.quoted()));
        if let (Ok(Some(inserted)), Ok(Some("t"))) = (inserted, is_empty.as_ref().map(Option::as_deref)) {
            self.add(
                Finding::warn("PG027", format!("table {} is empty, and {inserted} rows were inserted", table.raw()))
                    .because("somebody deletes the rows, perhaps in the transaction that inserts them")
                    .so("a poller never sees such rows")
                    .cure("source.mode = \"log\", or switch the removal after insert off in the application"),
            );
        }
    }

    /// PG027 (T15): a time without a zone is read as UTC.
    fn clock(&mut self, table: &Table, rule: &OutboxRule) {
        let Some(column) = &rule.timestamp else { return };
        let is_zoneless = self.ask_rows(&format!(
            "SELECT atttypid = 'timestamp'::regtype FROM pg_attribute WHERE attrelid = {} AND attname = {} AND NOT attisdropped",
            table.oid,
            quote_literal(column)
        ));
        if !matches!(is_zoneless, Ok(Some(ref is)) if is == "t") {
            return;
        }
        let has_commit_times = self.ask_rows("SHOW track_commit_timestamp");
        let (column, quoted) = (quote_identifier(column), table.quoted());
        let off = match has_commit_times {
            Ok(Some(on)) if on == "on" => format!(
                "SELECT extract(epoch FROM {column} - pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC')::bigint FROM {quoted} \
                 WHERE {column} IS NOT NULL ORDER BY {column} DESC LIMIT 1"
            ),
            // Without commit times only what lies ahead shows.
            _ => format!(
                "SELECT greatest(extract(epoch FROM max({column}) - clock_timestamp() AT TIME ZONE 'UTC'), 0)::bigint FROM {quoted}"
            ),
        };
        let Ok(Some(off)) = self.ask_rows(&off) else { return };
        if off.parse::<f64>().is_ok_and(|off| off.abs() > TIME_OFF_S) {
            self.add(
                Finding::warn(
                    "PG027",
                    format!("{}: {column} of the newest row is {off} s from its commit, read as UTC", table.raw()),
                )
                .because("the column has no zone, and whoever writes it writes local time")
                .so("the records' timestamps, and retention, are off by as much")
                .cure("write UTC, make the column timestamptz, or set timestamp = \"\" in the [[outbox]]"),
            );
        }
    }

    /// PG027 (T10): others who publish the same rows, where they have been at work lately.
    fn others(&mut self) {
        let found = dispatchers(&mut self.connection).unwrap_or_default();
        for dispatcher in found {
            let is_active = match &dispatcher.table {
                Some((schema, table)) => self.is_fresh(schema, table),
                None => self
                    .ask_rows(&format!(
                        "SELECT active FROM pg_replication_slots WHERE 'slot ' || slot_name = {}",
                        quote_literal(&dispatcher.seen)
                    ))
                    .is_ok_and(|active| active.as_deref() == Some("t")),
            };
            if is_active {
                self.add(
                    Finding::warn("PG027", format!("{} is at work: {}", dispatcher.whose, dispatcher.seen))
                        .because("it was active within the last 5 minutes")
                        .so("events that it publishes too come twice")
                        .cure("stop it where it handles the same table; docs/presets.md says how"),
                );
            }
        }
    }

    /// Whether any time in the table lies within the last 5 minutes, or ahead.
    fn is_fresh(&mut self, schema: &str, table: &str) -> bool {
        let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(table));
        let columns = self.ask(&format!(
            "SELECT attname, atttypid = 'timestamp'::regtype FROM pg_attribute WHERE attrelid = to_regclass({}) AND attnum > 0 \
             AND NOT attisdropped AND atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype)",
            quote_literal(&quoted)
        ));
        let fresh: Vec<String> = columns
            .unwrap_or_default()
            .iter()
            .filter_map(|row| Some(format!("{}::timestamptz > now() - interval '5 minutes'", quote_identifier(row.get(0)?))))
            .collect();
        !fresh.is_empty()
            && self
                .ask_rows(&format!("SELECT EXISTS (SELECT FROM {quoted} WHERE {})", fresh.join(" OR ")))
                .is_ok_and(|fresh| fresh.as_deref() == Some("t"))
    }

    /// The first column of the first row of a query that reads rows, within a time-out.
    fn ask_rows(&mut self, sql: &str) -> Result<Option<String>, String> {
        match self.connection.query(&format!("BEGIN READ ONLY; {ROWS_TIMEOUT}; {sql}; COMMIT")) {
            Ok(rows) => Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned)),
            Err(error) => {
                let _ = self.connection.query("ROLLBACK");
                Err(format!("cannot be read: {error}"))
            }
        }
    }
}

/// What a check says that found nothing.
fn well(id: &str, tables: usize) -> String {
    match id {
        "PG013" => "no table is unlogged".to_owned(),
        "PG022" => format!("the role has the rights that it needs on {tables} tables"),
        "PG026" => "row security hides no row from relay".to_owned(),
        "PG027" => "nobody else is seen at work on the outbox tables".to_owned(),
        _ => "there is no outbox table to look at".to_owned(),
    }
}
