//! PG011: what tells the rows of a published table apart, against what is published of them.

use super::tables::Table;
use super::{Examination, Finding};
use crate::source::Publish;
use relay_pgwire::quote_literal;

// === impl Examination: identity ===

impl Examination<'_> {
    /// PG011, at least once.
    pub(super) fn identities(&mut self, tables: &[Table]) {
        let before = self.findings.len();
        if self.source.config().publish > Publish::Inserts {
            for table in tables {
                self.identity(table);
            }
        }
        if self.findings.len() == before {
            let observed = match self.source.config().publish {
                Publish::Inserts => "only inserts are read: no replica identity is needed",
                _ => "each table tells its rows apart",
            };
            self.add(Finding::ok("PG011", observed));
        }
    }

    fn identity(&mut self, table: &Table) {
        // Rows of a partitioned table are updated in its leaves, and each of them has an identity of its own.
        let answer = self.ask(&format!(
            "SELECT format('%I.%I', n.nspname, c.relname), c.relreplident, n.nspname || '.' || c.relname, \
             EXISTS (SELECT 1 FROM pg_publication_tables AS t JOIN pg_publication AS p ON p.pubname = t.pubname \
               WHERE p.pubname = {} AND (p.pubupdate OR p.pubdelete)) \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND (c.oid = {1} OR c.relispartition AND pg_partition_root(c.oid) = {1}) \
             AND CASE c.relreplident WHEN 'f' THEN false WHEN 'n' THEN true \
               ELSE NOT EXISTS (SELECT 1 FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indislive \
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END ORDER BY 1",
            quote_literal(&self.source.config().publication),
            table.oid
        ));
        let rows = match answer {
            Ok(rows) => rows,
            Err(reason) => return self.add(Finding::skip("PG011", &reason)),
        };
        for row in &rows {
            let quoted = row.get(0).unwrap_or_default();
            let raw = row.get(2).unwrap_or_default();
            let cause = match row.get(1) {
                Some("n") => "its replica identity is NOTHING",
                Some("i") => "the index of its replica identity was dropped",
                _ => "it has no primary key, and its replica identity is DEFAULT",
            };
            let effect = match row.get(3) {
                Some("t") => "the server refuses every UPDATE and DELETE of it",
                _ => "once its updates are published, the server refuses every UPDATE and DELETE of it",
            };
            self.add(
                Finding::fail("PG011", format!("nothing tells the rows of {raw} apart")).because(cause).so(effect).cure(format!(
                    "ALTER TABLE {quoted} REPLICA IDENTITY FULL;  -- or add a primary key, or publish inserts alone"
                )),
            );
        }
    }
}
