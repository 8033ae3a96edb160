//! Turns `[source]` and `[source.poll]` into what the source needs to know.

use std::time::Duration;

use super::dsn::Dsn;
use super::schema::{Initial::Nested, Initial::Required, choice, flag, number, table, text, unset};
use super::secret::Secret;
use super::source_log::SourceLog;
use super::units::Size;

choice! {
    /// How rows are found.
    enum SourceMode {
        /// Logical replication.
        Log = "log",
        /// Outbox tables only, by SQL.
        Poll = "poll",
    }
}

table! {
    /// The PostgreSQL database that events come from.
    struct Source {
        /// libpq URL of the database: several hosts, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `channel_binding`,
        /// `require_auth`, `target_session_attrs`, `connect_timeout`, `application_name` (default `relay_` + name);
        /// `?host=/run/postgresql` for a unix socket. Without `sslmode` TLS is `verify-full`, and off for loopback hosts and
        /// unix sockets.
        url: Dsn = Required,
        /// Password of the role, where the URL has none.
        password: Option<Secret> = unset("none"),
        /// `log` is logical replication, `poll` reads outbox tables with SQL.
        mode: SourceMode = text("log"),
        /// Send a password (clear or md5) on a connection without TLS to a host that is not loopback.
        allow_plaintext_password: bool = flag(false),
        /// The replication slot and what is read through it.
        log: SourceLog = Nested,
        /// Polling of outbox tables.
        poll: SourcePoll = Nested,
    }
}

table! {
    /// Polling of outbox tables.
    struct SourcePoll {
        /// Upper bound of the adaptive wait between empty polls.
        interval: Duration = text("200ms"),
        /// Rows a page.
        batch: u32 = number(5000),
        /// A page ends here too.
        batch_bytes: Size = text("8MiB"),
        /// LISTEN channel that wakes the poller early; `""` = none.
        notify: String = text(""),
    }
}
