//! The server itself: whether it lets us in, its version, its limits, and settings that would hurt.

use super::{Examination, Finding, Missing, bytes, words};
use crate::error::Error;
use crate::inspect::is_synchronous_standby;
use crate::source::Source;
use relay_core::Kind;
use relay_pgwire::{Connection, SslMode};

/// An outage that a slot should outlive, in seconds; chosen.
const OUTAGE_S: f64 = 24.0 * 3600.0;
/// An outage that every slot must outlive, in seconds; chosen.
const SHORT_OUTAGE_S: f64 = 3600.0;

/// PG001 of a server that lets us in.
pub(super) fn reached(source: &Source, connection: &Connection) -> Finding {
    let wire = &source.config().wire;
    let place = format!("{} as role {}, database {}", connection.server_address(), wire.user(), wire.database());
    if connection.is_encrypted() {
        return Finding::ok("PG001", format!("{place}, with TLS"));
    }
    let is_remote = wire.hosts().iter().any(|host| !host.is_unix() && !host.is_loopback());
    let mode = wire.ssl_mode().map_or_else(|| "not set".to_owned(), |mode| mode.to_string());
    match wire.ssl_mode() {
        Some(SslMode::Allow | SslMode::Prefer) if is_remote => {
            Finding::warn("PG001", format!("{place}, without TLS (sslmode {mode})"))
                .because("sslmode takes a connection without TLS where it gets no other")
                .so("rows and the handshake of the password can be read on the way, and nobody checks who answers")
                .cure("sslmode=verify-full in source.url, with sslrootcert where the authority is your own")
        }
        _ => Finding::ok("PG001", format!("{place}, without TLS (sslmode {mode})")),
    }
}

/// PG001 of a server that does not.
pub(super) fn unreached(source: &Source, error: &Error) -> Finding {
    let config = source.config();
    let (user, database) = (config.wire.user(), config.wire.database());
    let (cause, fix) = match error.kind() {
        Kind::SourceTls => (
            "TLS is not as sslmode asks",
            "compare sslmode and sslrootcert in source.url with the server's certificate; a self-signed certificate that is \
             marked CA:TRUE is refused: issue one with basicConstraints=CA:FALSE"
                .to_owned(),
        ),
        Kind::SourceAuth => (
            "the server refuses the role, its password, or the way it comes in",
            format!(
                "check source.password_file, and that pg_hba.conf has a line such as: hostssl {database} {user} <relay's \
                 address>/32 scram-sha-256"
            ),
        ),
        Kind::SourcePooler => (
            "a connection pooler answers in the server's place",
            "name the PostgreSQL server itself in source.url, not the pooler".to_owned(),
        ),
        Kind::SourceLimit => (
            "every connection that the server allows is taken",
            "ALTER SYSTEM SET max_connections = 200;  -- then restart the server, or end connections nobody needs".to_owned(),
        ),
        Kind::SourceUnavailable => {
            ("the server is starting up or shutting down", "wait, then run `relay doctor` again".to_owned())
        }
        Kind::ConfigValue => ("source.url cannot be used as it is", "correct source.url".to_owned()),
        _ => (
            "name resolution, a firewall, or a server that is down",
            "set host and port in source.url to a server that this host can reach".to_owned(),
        ),
    };
    Finding::fail("PG001", words(error)).because(cause).so("nothing can be read").cure(fix)
}

// === impl Examination: server ===

impl Examination<'_> {
    /// PG002; whether the server is one that the other checks know.
    pub(super) fn version(&mut self) -> bool {
        let text = self.connection.parameter("server_version").unwrap_or("of unknown version").to_owned();
        if self.major < 14 {
            self.add(
                Finding::fail("PG002", format!("PostgreSQL {text}"))
                    .because("the server is older than PostgreSQL 14")
                    .so("relay refuses to read from it")
                    .cure("upgrade the server to a version that PostgreSQL still maintains"),
            );
            return false;
        }
        let gates = [
            (15, "row filters, column lists"),
            (16, "origin filter, decoding on standbys"),
            (17, "failover slots, slots kept over a clean restart"),
            (18, "generated columns, idle slot time-out"),
        ];
        let (has, lacks): (Vec<_>, Vec<_>) = gates.into_iter().partition(|(since, _)| self.major >= *since);
        let list = |gates: &[(u32, &str)]| gates.iter().map(|(_, what)| *what).collect::<Vec<_>>().join(", ");
        let mut observed = format!("PostgreSQL {text}");
        if !has.is_empty() {
            observed.push_str(&format!("; has {}", list(&has)));
        }
        if !lacks.is_empty() {
            observed.push_str(&format!("; lacks {}", list(&lacks)));
        }
        if !(15..=18).contains(&self.major) {
            observed.push_str("; relay is tested on 15 to 18");
        }
        self.add(Finding::ok("PG002", observed));
        true
    }

    /// PG003.
    pub(super) fn wal_level(&mut self) {
        let answer = self.ask_one("SELECT coalesce(current_setting('effective_wal_level', true), current_setting('wal_level'))");
        let finding = match answer.as_ref().map(|row| row.get(0).unwrap_or("unknown")) {
            Ok("logical") => Finding::ok("PG003", "wal_level is logical"),
            Ok(level) => Finding::fail("PG003", format!("wal_level is {level}"))
                .because("the server writes too little into its WAL for logical decoding")
                .so("no slot can be created or read")
                .cure("ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server"),
            Err(reason) => Finding::skip("PG003", reason),
        };
        self.add(finding);
    }

    /// PG005; whether a walsender is free for a look.
    pub(super) fn limits(&mut self) -> bool {
        let slot = relay_pgwire::quote_literal(&self.source.config().slot);
        let answer = self.ask_one(&format!(
            "SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots), \
             current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication), \
             (SELECT active_pid FROM pg_replication_slots WHERE slot_name = {slot}), \
             EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {slot})"
        ));
        let row = match answer {
            Ok(row) => row,
            Err(reason) => {
                self.add(Finding::skip("PG005", &reason));
                return true;
            }
        };
        let number = |at: usize| row.get(at).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let (slots_max, slots, senders_max, senders) = (number(0), number(1), number(2), number(3));
        let (is_held, has_slot) = (row.get(4).is_some(), row.get(5) == Some("t"));
        let observed = format!("{slots} of {slots_max} slots and {senders} of {senders_max} walsenders are in use");
        let mut is_good = true;
        if !has_slot && slots >= slots_max {
            is_good = false;
            self.add(
                Finding::fail("PG005", observed.clone())
                    .because("no replication slot is free")
                    .so("relay's slot cannot be created")
                    .cure(format!(
                        "ALTER SYSTEM SET max_replication_slots = {};  -- then restart the server, or drop a slot nobody reads",
                        slots_max + 4
                    )),
            );
        }
        let has_walsender = senders < senders_max;
        if !has_walsender && !is_held {
            is_good = false;
            self.add(
                Finding::fail("PG005", observed.clone())
                    .because("no walsender is free")
                    .so("relay cannot open its replication connection")
                    .cure(format!(
                        "ALTER SYSTEM SET max_wal_senders = {};  -- then restart the server, or end a walsender nobody needs",
                        senders_max + 4
                    )),
            );
        }
        if is_good {
            self.add(Finding::ok("PG005", observed));
        }
        has_walsender
    }

    /// PG008: a limit is proposed from the WAL that the server has written since its statistics were reset.
    pub(super) fn keep_size(&mut self) {
        let answer = self.ask_one(
            "SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), \
             (SELECT wal_bytes / greatest(extract(epoch FROM clock_timestamp() - stats_reset), 1) FROM pg_stat_wal)",
        );
        let row = match answer {
            Ok(row) => row,
            Err(reason) => return self.add(Finding::skip("PG008", &reason)),
        };
        let limit_mib = row.get(0).and_then(|text| text.parse::<i64>().ok());
        let rate = row.get(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        let wanted_gib = (rate * OUTAGE_S / f64::from(1 << 30)).ceil().max(4.0) as u64;
        let shown = format!("the server writes about {} of WAL an hour", bytes((rate * SHORT_OUTAGE_S) as u64));
        let cure = format!(
            "ALTER SYSTEM SET max_slot_wal_keep_size = '{wanted_gib}GB'; SELECT pg_reload_conf();  -- a day without relay at the \
             measured rate, 4GB at least; less than the disk has free"
        );
        let finding = match limit_mib {
            None => Finding::skip("PG008", "cannot be read: the server does not show max_slot_wal_keep_size"),
            Some(..=-1) => Finding::warn("PG008", format!("max_slot_wal_keep_size is -1; {shown}"))
                .because("the server keeps WAL for a slot without any limit")
                .so("a relay that is down long enough fills the disk, and the database stops")
                .cure(cure),
            Some(limit) if (limit as f64) * f64::from(1 << 20) < rate * SHORT_OUTAGE_S => {
                Finding::warn("PG008", format!("max_slot_wal_keep_size is {limit}MB; {shown}"))
                    .because("the limit is below one hour of WAL")
                    .so("the slot is lost, and events with it, when relay is down for less than an hour")
                    .cure(cure)
            }
            Some(limit) => Finding::ok("PG008", format!("max_slot_wal_keep_size is {limit}MB; {shown}")),
        };
        self.add(finding);
    }

    /// PG025.
    pub(super) fn synchronous_standby(&mut self) {
        let answer = self.ask_one("SELECT current_setting('synchronous_standby_names')");
        let ours = self.source.config().wire.application_name().unwrap_or_default().to_owned();
        let finding = match answer.as_ref().map(|row| row.get(0).unwrap_or_default()) {
            Ok("") => Finding::ok("PG025", "synchronous_standby_names is empty"),
            Ok(names) if is_synchronous_standby(names, &ours) => Finding::fail(
                "PG025",
                format!("synchronous_standby_names is `{names}`, relay's application_name is `{ours}`"),
            )
            .because("the server counts relay as a synchronous standby")
            .so("every commit waits until Kafka has acknowledged it, and for ever while relay is down")
            .cure(
                "ALTER SYSTEM SET synchronous_standby_names = '<names of the real standbys>'; SELECT pg_reload_conf();  -- or \
                         set another application_name in source.url",
            ),
            Ok(names) => Finding::ok("PG025", format!("synchronous_standby_names is `{names}`, without `{ours}`")),
            Err(reason) => Finding::skip("PG025", reason),
        };
        self.add(finding);
    }

    /// What relay does about a missing object, as the end of a finding's cause.
    pub(super) fn why_missing(&self) -> Option<String> {
        match &self.expected.missing {
            Missing::Created => None,
            Missing::Refused(why) | Missing::Unknown(why) => Some(why.clone()),
        }
    }
}
