//! Transactions that have been open for long.

use super::{Examination, Finding};

/// Minutes from which an open writer is named; chosen.
const LONG: &str = "interval '5 minutes'";

// === impl Examination: writers ===

impl Examination<'_> {
    /// PG018.
    pub(super) fn writers(&mut self) {
        let answer = self.ask(&format!(
            "SELECT 'pid ' || pid, extract(epoch FROM clock_timestamp() - xact_start)::bigint AS age, \
             format('SELECT pg_terminate_backend(%s);', pid) FROM pg_stat_activity \
             WHERE backend_xid IS NOT NULL AND xact_start < clock_timestamp() - {LONG} \
             UNION ALL SELECT 'gid ' || gid, extract(epoch FROM clock_timestamp() - prepared)::bigint, \
             format('ROLLBACK PREPARED %L;  -- or COMMIT PREPARED', gid) \
             FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - {LONG} ORDER BY age DESC LIMIT 5"
        ));
        let rows = match answer {
            Ok(rows) => rows,
            Err(reason) => return self.add(Finding::skip("PG018", &reason)),
        };
        for row in &rows {
            let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
            let effect = match self.expected.is_poll {
                true => "its own rows are not published before it ends, and vacuum cleans nothing that it might still see",
                false => "WAL is kept from its beginning on, and a new slot waits for its end",
            };
            self.add(
                Finding::warn("PG018", format!("transaction of {} has been open for {} s", text(0), text(1)))
                    .because("an application keeps it open, or a prepared transaction was forgotten")
                    .so(effect)
                    .cure(text(2)),
            );
        }
        if rows.is_empty() {
            // Without the right the server shows other roles' sessions without their transactions.
            let sees_all = self.ask_one("SELECT pg_has_role('pg_read_all_stats', 'USAGE')");
            let sees_all = sees_all.is_ok_and(|row| row.get(0) == Some("t"));
            let of = if sees_all { "" } else { " that the role may see (GRANT pg_read_all_stats shows all)" };
            self.add(Finding::ok("PG018", format!("no writing transaction{of} has been open for over 5 minutes")));
        }
    }
}
