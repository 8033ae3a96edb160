//! The slot: whether relay can read it, who holds it, and how much WAL hangs on it.

use super::{Examination, Finding, Missing, bytes};
use crate::inspect::unfit;
use relay_pgwire::{quote_identifier, quote_literal};

/// What the later checks need to know of the slot.
#[derive(Debug)]
pub(super) struct Seen {
    wal_status: String,
    safe_wal_bytes: Option<i64>,
    retained_bytes: u64,
}

// === impl Examination: slot ===

impl Examination<'_> {
    /// PG006; the slot, if there is one.
    pub(super) fn slot(&mut self) -> Option<Seen> {
        let name = self.source.config().slot.clone();
        let answer = self.ask_one(&format!(
            "SELECT s.slot_type, s.plugin, s.database, s.temporary, s.two_phase, s.wal_status, s.safe_wal_size, \
             pg_wal_lsn_diff(w.lsn, s.restart_lsn)::bigint, s.active_pid, a.usename, a.application_name, current_database() \
             FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                               ELSE pg_current_wal_flush_lsn() END AS lsn) AS w \
             LEFT JOIN pg_replication_slots AS s ON s.slot_name = {} \
             LEFT JOIN pg_stat_activity AS a ON a.pid = s.active_pid",
            quote_literal(&name)
        ));
        let row = match answer {
            Ok(row) => row,
            Err(reason) => {
                self.add(Finding::skip("PG006", &reason));
                return None;
            }
        };
        let Some(kind) = row.get(0) else {
            self.no_slot(&name);
            return None;
        };
        let reason = unfit(kind, row.get(1), row.get(2), row.get(3), row.get(4), row.get(11).unwrap_or_default());
        let holder = row.get(8).map(|pid| (pid, row.get(9), row.get(10)));
        let finding = match (reason, holder) {
            (Some(reason), _) => Finding::fail("PG006", format!("slot {name}: {reason}"))
                .because("another program, or another configuration, made a slot of this name")
                .so("relay refuses to read it")
                .cure(format!(
                    "name another slot in source.log.slot; or, if nobody needs it: SELECT pg_drop_replication_slot({});",
                    quote_literal(&name)
                )),
            (None, None) => Finding::ok("PG006", format!("slot {name} is logical, of pgoutput, and free")),
            (None, Some((pid, user, application))) => self.held(&name, pid, user, application),
        };
        self.add(finding);
        Some(Seen {
            wal_status: row.get(5).unwrap_or("unknown").to_owned(),
            safe_wal_bytes: row.get(6).and_then(|text| text.parse().ok()),
            retained_bytes: row.get(7).and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }

    fn held(&self, name: &str, pid: &str, user: Option<&str>, application: Option<&str>) -> Finding {
        let ours = self.source.config().wire.application_name().unwrap_or_default();
        // What another role runs is hidden from ours, and so cannot be this pipeline's relay.
        match application {
            Some(application) if application == ours => {
                Finding::ok("PG006", format!("slot {name} is held by pid {pid}, this pipeline's relay ({ours})"))
            }
            _ => {
                let user = user.unwrap_or("of another role");
                let application = application.filter(|text| !text.is_empty()).unwrap_or("unknown");
                Finding::fail("PG006", format!("slot {name} is held by pid {pid}, role {user}, application {application}"))
                    .because("somebody else reads this slot")
                    .so("relay waits as a standby, and what the other confirms never reaches relay")
                    .cure(format!("name another slot in source.log.slot, or end it: SELECT pg_terminate_backend({pid});"))
            }
        }
    }

    fn no_slot(&mut self, name: &str) {
        let absent = format!("slot {name} does not exist");
        let create = format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput');", quote_literal(name));
        let publication = quote_identifier(&self.source.config().publication);
        let finding = match &self.expected.missing {
            Missing::Created => Finding::ok("PG006", format!("{absent}; relay creates it at its first start")),
            Missing::Refused(why) => Finding::fail("PG006", absent)
                .because(why.clone())
                .so("relay does not start to read")
                .cure(format!("{create}  -- with publication {publication} in place, never before it")),
            Missing::Unknown(why) => Finding::warn("PG006", absent)
                .because(format!("whether relay would create it cannot be told: {why}"))
                .so("at a first start relay creates it; later, events between the old slot and a new one are gone")
                .cure("cure the findings about Kafka first, then run `relay doctor` again"),
        };
        self.add(finding);
    }

    /// PG007 in poll mode: a slot of log mode, which nobody reads any more.
    pub(super) fn left_over(&mut self) {
        let name = self.source.config().slot.clone();
        let answer = self.ask(&format!(
            "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, \
             restart_lsn)::bigint, active_pid FROM pg_replication_slots WHERE slot_name = {}",
            quote_literal(&name)
        ));
        let finding = match answer.as_ref().map(|rows| rows.first()) {
            Err(reason) => Finding::skip("PG007", reason),
            Ok(None) => Finding::ok("PG007", format!("no slot {name} is left over from log mode")),
            Ok(Some(row)) if row.get(1).is_some() => {
                Finding::warn("PG007", format!("slot {name} is in use by pid {}", row.get(1).unwrap_or_default()))
                    .because("another relay reads the log for this pipeline")
                    .so("both publish the same rows")
                    .cure("stop the one that reads the log")
            }
            Ok(Some(row)) => {
                let kept = bytes(row.get(0).and_then(|text| text.parse().ok()).unwrap_or(0));
                Finding::warn("PG007", format!("slot {name} is left over from log mode and holds {kept} of WAL back"))
                    .because("polling does not read it, and a switch leaves it in place")
                    .so("the disk fills while it is there, and a switch back to the log is refused")
                    .cure("relay slot drop")
            }
        };
        self.add(finding);
    }

    /// PG007.
    pub(super) fn retention(&mut self, slot: Option<&Seen>) {
        let Some(slot) = slot else {
            return self.add(Finding::skip("PG007", "not looked at: there is no slot (PG006)"));
        };
        let name = self.source.config().slot.clone();
        let safe = slot.safe_wal_bytes.map(|safe| u64::try_from(safe).unwrap_or(0));
        let mut observed = format!("wal_status {}, {} of WAL kept", slot.wal_status, bytes(slot.retained_bytes));
        if let Some(safe) = safe {
            observed.push_str(&format!(", {} left before the slot is in danger", bytes(safe)));
        }
        let budget = self.expected.wal_budget_bytes.filter(|budget| slot.retained_bytes > *budget);
        let finding = match slot.wal_status.as_str() {
            "lost" => Finding::fail("PG007", observed)
                .because("the server threw away WAL that the slot needs, because of max_slot_wal_keep_size or an idle time-out")
                .so("relay cannot go on from where it stood; the changes between are gone from the WAL")
                .cure(format!(
                    "SELECT pg_drop_replication_slot({0}); SELECT pg_create_logical_replication_slot({0}, 'pgoutput');  -- then \
                     start once with `relay run --accept-gap LSN`, and publish the rows of the gap again from the outbox table",
                    quote_literal(&name)
                )),
            "unreserved" => Finding::fail("PG007", observed)
                .because("relay is behind, or down, by more WAL than max_slot_wal_keep_size allows")
                .so("the slot is lost at the next checkpoint of the server")
                .cure(
                    "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();  -- now; then start relay and let \
                     it catch up",
                ),
            _ if budget.is_some() => {
                let budget = bytes(budget.unwrap_or_default());
                Finding::warn("PG007", format!("{observed}, above source.log.wal_budget ({budget})"))
                    .because("relay is behind or down, or a transaction is open for long")
                    .so("the disk fills while this goes on")
                    .cure("start relay, look at /status, and end transactions that nobody needs")
            }
            _ if safe.is_some_and(|safe| safe < slot.retained_bytes) => Finding::warn("PG007", observed)
                .because("more than half of what max_slot_wal_keep_size allows is used")
                .so("the slot is lost when relay stays behind")
                .cure("start relay, or raise max_slot_wal_keep_size while the disk has room"),
            _ => Finding::ok("PG007", observed),
        };
        self.add(finding);
    }
}
