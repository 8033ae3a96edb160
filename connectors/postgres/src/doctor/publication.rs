//! The publication: whether it exists, is older than the slot, and sends what the routes name, under the name that they use.

use super::tables::Table;
use super::{Examination, Finding, Missing};
use crate::source::Publish;
use relay_pgwire::{Row, quote_identifier, quote_literal};
use std::collections::HashSet;

/// The publication's options.
struct Options {
    publishes_inserts: bool,
    publishes_updates: bool,
    publishes_deletes: bool,
    publishes_truncates: bool,
    is_via_root: bool,
    /// Its catalog row may be younger than what the slot decodes next.
    is_suspect: bool,
}

// === impl Examination: publication ===

impl Examination<'_> {
    /// PG010, one finding for each thing that is wrong.
    pub(super) fn publication(&mut self, tables: &[Table], has_slot: bool) {
        let name = self.source.config().publication.clone();
        let before = self.findings.len();
        match self.options() {
            Err(reason) => self.add(Finding::skip("PG010", &reason)),
            Ok(None) => self.no_publication(tables, has_slot),
            Ok(Some(options)) => {
                self.operations(&options);
                if let Err(reason) = self.coverage(tables, &options) {
                    self.add(Finding::skip("PG010", &reason));
                }
                self.age(&options);
                if self.findings.len() == before {
                    let mut observed = match tables.len() {
                        0 => format!("publication {name} exists"),
                        1 => format!("publication {name} has the table of the routes"),
                        count => format!("publication {name} has all {count} tables of the routes"),
                    };
                    if self.source.config().publish == Publish::Inserts
                        && (options.publishes_updates || options.publishes_deletes)
                    {
                        observed.push_str(
                            "; it also sends updates or deletes, which relay only counts: publish = 'insert' spares them",
                        );
                    }
                    self.add(Finding::ok("PG010", observed));
                }
            }
        }
    }

    fn options(&mut self) -> Result<Option<Options>, String> {
        let config = self.source.config();
        let sql = format!(
            "SELECT p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, \
             coalesce(age(p.xmin) BETWEEN 0 AND age(s.catalog_xmin), false) \
             FROM pg_publication AS p LEFT JOIN pg_replication_slots AS s ON s.slot_name = {} \
             WHERE p.pubname = {}",
            quote_literal(&config.slot),
            quote_literal(&config.publication)
        );
        let rows = self.ask(&sql)?;
        let is = |row: &Row, at: usize| row.get(at) == Some("t");
        Ok(rows.first().map(|row| Options {
            publishes_inserts: is(row, 0),
            publishes_updates: is(row, 1),
            publishes_deletes: is(row, 2),
            publishes_truncates: is(row, 3),
            is_via_root: is(row, 4),
            is_suspect: is(row, 5),
        }))
    }

    fn no_publication(&mut self, tables: &[Table], has_slot: bool) {
        let name = self.source.config().publication.clone();
        let quoted: Vec<String> = tables.iter().filter(|table| !table.is_unlogged).map(Table::quoted).collect();
        let create = format!("{};", self.source.publication_sql(&quoted));
        let absent = format!("publication {name} does not exist");
        let fail = |cause: String, fix: String| {
            Finding::fail("PG010", absent.clone()).because(cause).so("relay does not start to read").cure(fix)
        };
        if has_slot {
            let slot = quote_literal(&self.source.config().slot);
            let fix = format!(
                "{create}\nSELECT pg_drop_replication_slot({slot});  -- if nothing of it is needed: the slot must be younger \
                 than the publication\nSELECT pg_create_logical_replication_slot({slot}, 'pgoutput');"
            );
            let cause = "it was dropped, or never created before the slot; the server looks it up as of the WAL that it decodes";
            return self.add(fail(cause.to_owned(), fix));
        }
        let finding = match (&self.expected.missing, self.may_create(tables)) {
            (Missing::Created, Ok(true)) => Finding::ok("PG010", format!("{absent}; relay creates it at its first start")),
            (Missing::Created, Ok(false)) => fail(
                "the role may not create it: that takes CREATE on the database and ownership of every table".to_owned(),
                create,
            ),
            (Missing::Created, Err(reason)) => Finding::skip("PG010", &reason),
            _ => fail(self.why_missing().unwrap_or_default(), create),
        };
        self.add(finding);
    }

    fn may_create(&mut self, tables: &[Table]) -> Result<bool, String> {
        let row = self.ask_one("SELECT has_database_privilege(current_database(), 'CREATE')")?;
        Ok(row.get(0) == Some("t") && tables.iter().all(|table| table.is_owned))
    }

    fn operations(&mut self, options: &Options) {
        let config = self.source.config();
        let name = quote_identifier(&config.publication);
        let sends = [
            (options.publishes_inserts, Publish::Inserts, "inserts"),
            (options.publishes_updates, Publish::Rows, "updates"),
            (options.publishes_deletes, Publish::Rows, "deletes"),
            (options.publishes_truncates, Publish::All, "truncates"),
        ];
        let lacks: Vec<&str> =
            sends.iter().filter(|(is_sent, from, _)| !is_sent && config.publish >= *from).map(|(_, _, name)| *name).collect();
        if lacks.is_empty() {
            return;
        }
        let wanted = config.publish.operations();
        self.add(
            Finding::fail("PG010", format!("publication {name} does not send {}", lacks.join(", ")))
                .because("its option `publish` leaves them out")
                .so("rows are changed and no event comes of it")
                .cure(format!("ALTER PUBLICATION {name} SET (publish = '{wanted}');")),
        );
    }

    fn coverage(&mut self, tables: &[Table], options: &Options) -> Result<(), String> {
        let config = self.source.config();
        let (name, literal) = (quote_identifier(&config.publication), quote_literal(&config.publication));
        let rows =
            self.ask(&format!("SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = {literal}"))?;
        let listed: HashSet<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
        // Without the option the catalog lists the leaves of a partitioned table in its place; the table itself is then a member
        // by its own name, or through the leaves' root.
        let members = match tables.iter().any(|table| table.is_partitioned) && !options.is_via_root {
            true => self.ask(&format!(
                "SELECT n.nspname || '.' || c.relname, NULL FROM pg_publication AS p \
                 JOIN pg_publication_rel AS r ON r.prpubid = p.oid JOIN pg_class AS c ON c.oid = r.prrelid \
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE p.pubname = {literal} \
                 UNION SELECT rn.nspname || '.' || r.relname, t.schemaname || '.' || t.tablename FROM pg_publication_tables AS t \
                 JOIN pg_namespace AS n ON n.nspname = t.schemaname \
                 JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename \
                 JOIN pg_class AS r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace AS rn ON rn.oid = r.relnamespace \
                 WHERE t.pubname = {literal} AND c.relispartition"
            ))?,
            false => Vec::new(),
        };
        let is_member = |table: &Table| members.iter().any(|row| row.get(0) == Some(table.raw().as_str()));
        let leaves_are_wanted = |table: &Table| {
            let mut leaves = members.iter().filter(|row| row.get(0) == Some(table.raw().as_str())).filter_map(|row| row.get(1));
            let wanted = |leaf: &str| (self.expected.captured)(leaf);
            leaves.clone().next().is_some() && leaves.all(wanted)
        };
        let mut findings = Vec::new();
        for table in tables {
            let raw = table.raw();
            // An unlogged table cannot be in a publication: PG013 says so.
            if table.is_unlogged || listed.contains(raw.as_str()) || leaves_are_wanted(table) {
                continue;
            }
            let finding = if table.is_partitioned && !options.is_via_root && is_member(table) {
                Finding::fail("PG010", format!("publication {name} sends rows of {raw} under the names of its partitions"))
                    .because("publish_via_partition_root is off")
                    .so("nothing names the partitions, so relay stops at the first row")
                    .cure(format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);"))
            } else if let Some(root) = table.root.as_deref().filter(|root| options.is_via_root && listed.contains(root)) {
                Finding::fail("PG010", format!("publication {name} sends rows of {raw} under the name of {root}"))
                    .because("publish_via_partition_root is on, and the configuration names the partition")
                    .so("nothing names the root, so its rows are passed by")
                    .cure(format!(
                        "table = \"{root}\"  # in the [[outbox]], in place of the partition; `tables` in a [[capture]]"
                    ))
            } else {
                Finding::fail("PG010", format!("publication {name} lacks table {raw}"))
                    .because("the table was not added, or was created later")
                    .so("rows are written and no event comes of them")
                    .cure(format!("ALTER PUBLICATION {name} ADD TABLE {};", table.quoted()))
            };
            findings.push(finding);
        }
        self.findings.extend(findings);
        Ok(())
    }

    /// A guess: the row's writer is not older than the oldest transaction that the slot's catalog snapshot must see. ALTER
    /// PUBLICATION looks the same, and both pass once the slot moves on.
    fn age(&mut self, options: &Options) {
        if !options.is_suspect {
            return;
        }
        let config = self.source.config();
        let (name, slot) = (quote_identifier(&config.publication), quote_literal(&config.slot));
        let effect = match self.major {
            ..=17 => "the server refuses to decode the WAL before it (42704), for ever",
            _ => "the changes in the WAL before it are silently not sent",
        };
        self.add(
            Finding::warn("PG010", format!("publication {name} may be younger than the slot's position"))
                .because(
                    "it was created or altered after the WAL that the slot decodes next; after ALTER alone this passes by itself",
                )
                .so(effect)
                .cure(format!(
                    "if it was created after the slot, and nothing of the slot is needed: SELECT \
                     pg_drop_replication_slot({slot}); SELECT pg_create_logical_replication_slot({slot}, 'pgoutput');"
                )),
        );
    }
}
