//! Captured tables as a snapshot reads them: each partition for itself, by rights and row security of its own.

use super::tables::Table;
use super::{Examination, Finding};

// === impl Examination: captured tables ===

impl Examination<'_> {
    /// PG022 and PG026 of a captured table of which snapshots may be taken.
    pub(super) fn readable(&mut self, table: &Table) {
        let found = self.ask(&format!(
            "SELECT format('%I.%I', n.nspname, c.relname), has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid) \
             FROM pg_class r LEFT JOIN LATERAL pg_partition_tree(r.oid) t ON t.isleaf \
             JOIN pg_class c ON c.oid = coalesce(t.relid, r.oid) JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE r.oid = {} ORDER BY 1",
            table.oid
        ));
        let rows = match found {
            Ok(rows) => rows,
            Err(reason) => {
                self.add(Finding::skip("PG022", &reason));
                return self.add(Finding::skip("PG026", &reason));
            }
        };
        let named = |column: usize, value: &str| {
            let rows = rows.iter().filter(|row| row.get(column) == Some(value));
            rows.filter_map(|row| row.get(0)).collect::<Vec<_>>().join(", ")
        };
        let (closed, hidden) = (named(1, "f"), named(2, "t"));
        let role = self.role();
        if !closed.is_empty() {
            self.add(
                Finding::fail("PG022", format!("role {role} lacks SELECT on {closed}"))
                    .because("a snapshot reads each partition for itself; the stream needs no right")
                    .so("no snapshot can be taken of this table")
                    .cure(format!("GRANT SELECT ON {closed} TO {role};")),
            );
        }
        if !hidden.is_empty() {
            self.add(
                Finding::fail("PG026", format!("row security applies to role {role} on {hidden}"))
                    .because("relay reads with row_security = off: an error instead of rows that are silently left out")
                    .so("snapshots of this table fail")
                    .cure(format!("ALTER ROLE {role} BYPASSRLS;")),
            );
        }
    }
}
