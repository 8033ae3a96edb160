//! Turns `[admin]`, `[log]` and `[shutdown]` into how the process is watched and stopped.

use std::time::Duration;

use super::schema::{choice, list, number, table, text, unset};
use super::secret::Secret;

choice! {
    /// The shape of a log line.
    enum LogFormat {
        /// Text on a terminal, else JSON.
        Auto = "auto",
        /// Text.
        Text = "text",
        /// JSON.
        Json = "json",
        /// `key=value` pairs.
        Logfmt = "logfmt",
    }
}

choice! {
    /// What a stop waits for.
    enum Drain {
        /// The events that the sink has accepted.
        InFlight = "in-flight",
        /// The WAL end seen at the signal.
        CaughtUp = "caught-up",
    }
}

table! {
    /// The admin listener.
    struct Admin {
        /// `/metrics`, `/livez`, `/readyz`, `/startupz`, `/status` and `/api/v1/snapshot`; several
        /// addresses with commas, `unix:/path` too; `""` = off.
        listen: String = text("127.0.0.1:9464"),
        /// Needed by every request that changes something.
        token: Option<Secret> = unset("none"),
        /// Further `Host` names that the API accepts.
        hosts: Vec<String> = list(&[]),
        /// A side unseen for so long makes `/readyz` fail.
        not_ready_after: Duration = text("30s"),
        /// No progress for so long while there is WAL to read: exit 1.
        watchdog: Duration = text("10m"),
        /// Distinct values of a data-driven metric label.
        label_limit: u32 = number(500),
    }
}

table! {
    /// relay's own log.
    struct Log {
        /// `error`, `warn`, `info`, `debug`, `trace`, or filters such as `info,relay_kafka=debug`.
        level: String = text("info"),
        /// `auto` is text on a terminal, else JSON.
        format: LogFormat = text("auto"),
    }
}

table! {
    /// The end of the process.
    struct Shutdown {
        /// The longest a stop may take.
        grace: Duration = text("25s"),
        /// `in-flight`, or `caught-up` (first read to the WAL end seen at the signal).
        drain: Drain = text("in-flight"),
    }
}

// === impl Admin ===

impl Admin {
    /// The address to listen on; `None` when the listener is off or the address is not one, which `check` reports.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        self.listen.parse().ok()
    }
}
