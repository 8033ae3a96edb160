//! Turns `[source.log]` into what the replication connection needs to know.

use std::time::Duration;

use super::field::not_a_choice;
use super::schema::{Fault, Field, Form, choice, derived, flag, list, table, text};
use super::tree::Value;
use super::units::Size;

choice! {
    /// Whether relay creates what is missing.
    enum Create {
        /// On the first start, where the role may.
        IfMissing = "if-missing",
        /// Never; the error says what to create.
        Never = "never",
    }
}

choice! {
    /// Whether the server streams transactions that are still in progress.
    enum Streaming {
        /// `on` once its spool ships; behaves as `off` until then.
        Auto = "auto",
        /// Streamed.
        On = "on",
        /// Whole transactions only.
        Off = "off",
    }
}

choice! {
    /// What a missing slot leads to.
    enum OnMissingSlot {
        /// The stream stops and says so.
        Stop = "stop",
        /// A new slot, a gap report, and a repair from the table.
        Recreate = "recreate",
    }
}

choice! {
    /// Server-side filter by replication origin.
    enum OriginFilter {
        /// All changes.
        Any = "any",
        /// Only changes that were not replicated themselves (PostgreSQL 16+).
        None = "none",
    }
}

choice! {
    /// Version of the pgoutput protocol.
    enum ProtoVersion {
        /// The highest that the server has.
        Auto = "auto",
        /// Version 1.
        V1 = "1",
        /// Version 2: streamed transactions.
        V2 = "2",
        /// Version 3: two-phase commits.
        V3 = "3",
        /// Version 4: parallel streaming.
        V4 = "4",
    }
}

choice! {
    /// What a published table that the file does not name leads to.
    enum OnUnrouted {
        /// Its changes are counted, with one warning a table.
        Ignore = "ignore",
        /// The stream stops.
        Stop = "stop",
    }
}

/// The wait before reading again while behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadCoalesce {
    /// Adapts by itself.
    #[default]
    Auto,
    /// No wait.
    Off,
    /// This wait.
    Wait(Duration),
}

table! {
    /// The replication slot and what is read through it.
    struct SourceLog {
        /// Name of the slot.
        slot: String = derived("`relay_` + name"),
        /// Name of the publication.
        publication: String = derived("that of the slot"),
        /// Publication first, then slot, on the very first start only and where the role may; else the error prints the SQL for
        /// the owner.
        create: Create = text("if-missing"),
        /// PostgreSQL 17+: create the slot with failover = true.
        failover: bool = flag(false),
        /// In-progress transactions (protocol 2+). `auto` behaves as `off` until the spool ships.
        streaming: Streaming = text("auto"),
        /// `recreate` reports the gap and, for outbox tables that keep their rows and have an xid8 column, repairs it from the
        /// table.
        on_missing_slot: OnMissingSlot = text("stop"),
        /// Retained WAL above it is a finding of `relay doctor`, and the metric `relay_slot_wal_budget_bytes` to alert by; the slot is
        /// never given up.
        wal_budget: Option<Size> = text("none"),
        /// Memory for streamed transactions before they go to disk.
        spool_memory: Size = text("64MiB"),
        /// Where the rest goes; `""` = the system's temp dir.
        spool_dir: String = text(""),
        /// What does not fit is read again with streaming off; nothing is dropped.
        spool_max: Size = text("10GiB"),
        /// Server-side origin filter; `none` needs PostgreSQL 16.
        origin: OriginFilter = text("any"),
        /// Prefixes of `pg_logical_emit_message` to publish in the row-capture style, globs allowed; for outbox events see
        /// `message` of `[[outbox]]`.
        messages: Vec<String> = list(&[]),
        /// Publish those that are not transactional too (own identity, at-least-once only).
        nontransactional_messages: bool = flag(false),
        /// `auto` = the highest that the server has.
        proto_version: ProtoVersion = text("auto"),
        /// A longer row or message frame is drained without being kept, and the event goes to `delivery.on_poison`.
        max_message: Size = text("256MiB"),
        /// Set for relay's own session at connect; a lost host frees the slot after it.
        wal_sender_timeout: Duration = text("30s"),
        /// No frame for so long, a reply asked for meanwhile: stop producing, purge, reconnect. Must be below
        /// `wal_sender_timeout`, else half of that counts.
        receive_timeout: Duration = text("30s"),
        /// The wait before reading again while behind.
        read_coalesce: ReadCoalesce = text("auto"),
        /// Stalled and the server is shutting down (57P03): drop the stream after this.
        server_shutdown_grace: Duration = text("5s"),
        /// A published table that no `[[outbox]]` or `[[capture]]` names. A leaf of a configured partitioned table always stops
        /// and names the fix.
        on_unrouted: OnUnrouted = text("ignore"),
    }
}

// === impl SourceLog ===

impl SourceLog {
    /// The silence after which the connection counts as dead: half of `wal_sender_timeout` where `receive_timeout` is not below
    /// it, since the server would have ended the session by then.
    pub(crate) fn effective_receive_timeout(&self) -> Duration {
        if self.receive_timeout < self.wal_sender_timeout { self.receive_timeout } else { self.wal_sender_timeout / 2 }
    }
}

impl Field for ReadCoalesce {
    const FORM: Form = Form::ChoiceOrDuration(&["auto", "off"]);

    fn read(value: &Value) -> Result<Self, Fault> {
        match value.as_text() {
            Some("auto") => Ok(Self::Auto),
            Some("off") => Ok(Self::Off),
            Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => Err(not_a_choice(value, &["auto", "off", "100us"])),
            _ => Duration::read(value).map(Self::Wait),
        }
    }
}
