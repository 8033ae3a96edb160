//! Turns a slot into the CPU time of the server process that serves it.

use std::time::{Duration, Instant};

use postgres::Client;
use relay_tests::Postgres;

use crate::cpu;

/// Follows the walsender of a slot, which is a new process for each connection.
pub(crate) struct Walsender {
    client: Client,
    slot: String,
    pid: Option<u32>,
    since: Option<Instant>,
    before: Duration,
    now: Duration,
}

// === impl Walsender ===

impl Walsender {
    /// Of a slot that nobody reads yet.
    pub(crate) fn of(db: &Postgres, slot: &str) -> Walsender {
        let (before, now) = (Duration::ZERO, Duration::ZERO);
        Walsender { client: db.superuser(), slot: slot.to_owned(), pid: None, since: None, before, now }
    }

    /// Asks the server for the process until it has one, afterwards only the kernel: cheap enough for every few ms.
    pub(crate) fn look(&mut self) {
        let Some(pid) = self.pid else { return self.search() };
        match cpu::look(pid).filter(|look| !look.has_ended) {
            Some(look) => self.now = look.cpu,
            None => {
                self.before += std::mem::take(&mut self.now);
                self.pid = None;
            }
        }
    }

    /// CPU time up to the last look.
    pub(crate) fn cpu(&self) -> Duration {
        self.before + self.now
    }

    /// When the slot was first seen in use.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether the slot has confirmed a position.
    pub(crate) fn has_confirmed(&mut self, lsn: &str) -> bool {
        let query = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2";
        let row = self.client.query_opt(query, &[&lsn, &self.slot]).expect("look at the slot");
        row.and_then(|row| row.get(0)).unwrap_or(false)
    }

    fn search(&mut self) {
        let query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_opt(query, &[&self.slot]).expect("look at the slot");
        self.pid = row.and_then(|row| row.get::<_, Option<i32>>(0)).and_then(|pid| u32::try_from(pid).ok());
        if self.pid.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
    }
}
