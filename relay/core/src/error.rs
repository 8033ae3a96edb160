//! One table from the kind of an error to what relay does about it, its code and its hint.

/// What went wrong, as the policy sees it. Every crate's error enum maps onto these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The configuration's text is not TOML.
    ConfigSyntax,
    /// A key that does not exist.
    ConfigUnknownKey,
    /// A value of the wrong type or form.
    ConfigValue,
    /// Settings that contradict each other.
    ConfigConflict,
    /// A value that this version does not implement.
    ConfigNotImplemented,
    /// A configuration or secret file that cannot be read.
    ConfigFile,
    /// PostgreSQL did not answer.
    SourceUnreachable,
    /// PostgreSQL refused user or password.
    SourceAuth,
    /// The server's certificate, or TLS itself, is not as `sslmode` asks.
    SourceTls,
    /// The role lacks a right.
    SourcePermission,
    /// No free connection or walsender.
    SourceLimit,
    /// The server is starting up or shutting down.
    SourceUnavailable,
    /// A connection pooler stands in between.
    SourcePooler,
    /// The server is older than 14 or `wal_level` is not logical.
    SourceUnfit,
    /// Something came over the wire that the protocol does not know.
    SourceProtocol,
    /// The connection broke.
    SourceLost,
    /// Nothing was heard for `source.log.receive_timeout`.
    SourceSilent,
    /// The slot is held by somebody else.
    SlotBusy,
    /// The slot does not exist.
    SlotMissing,
    /// The slot was invalidated.
    SlotLost,
    /// The slot is not one that relay can read.
    SlotUnfit,
    /// The publication does not exist, or not at the position being decoded.
    PublicationMissing,
    /// A row that the server cannot send.
    RowUnsendable,
    /// A published table that the configuration does not name, with `on_unrouted = "stop"`, or a leaf of one that it names.
    Unrouted,
    /// A table lacks a column that its route needs.
    ColumnMissing,
    /// Two rows of one tick have the same value in the order column.
    OrderRepeats,
    /// Two tables end in one topic, and nobody said that they should.
    TopicShared,
    /// A table cannot be read for its snapshot.
    SnapshotRefused,
    /// The checkpoint belongs to another server, database or slot.
    CheckpointForeign,
    /// The checkpoint is ahead of the server.
    CheckpointAhead,
    /// The slot was moved past the checkpoint.
    Gap,
    /// The server's history diverged from what was published.
    TimelineDiverged,
    /// The switch between the log and polling lacks what it needs.
    SwitchRefused,
    /// The checkpoint store does not answer.
    CheckpointUnreachable,
    /// What is stored cannot be used.
    CheckpointUnusable,
    /// Exactly-once: there is a slot and no checkpoint.
    CheckpointMissing,
    /// The brokers do not answer.
    SinkUnreachable,
    /// Kafka refused user, password or certificate.
    SinkAuth,
    /// A Kafka ACL is missing.
    SinkPermission,
    /// A topic does not exist and is not to be created.
    TopicMissing,
    /// The Kafka client failed for good.
    SinkFatal,
    /// A broker refused a batch.
    SinkRejected,
    /// Another instance took over.
    Fenced,
    /// An event that cannot be published, with `on_poison = "stop"`.
    Poison,
    /// The admin listener cannot be bound.
    AdminListen,
    /// No progress for `admin.watchdog`.
    Watchdog,
    /// A defect of relay itself.
    Internal,
}

/// What an error kind demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again with back-off and jitter; not ready meanwhile.
    Retry,
    /// The event's poison policy decides.
    Poison,
    /// The stream stops, the process stays up and looks again with slow back-off.
    StopStream,
    /// The process ends with this exit code.
    StopProcess(u8),
    /// Wait as a healthy standby.
    Standby,
}

/// A row of the policy table.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// The kind it is for.
    pub kind: Kind,
    /// Stable code with a help page.
    pub code: &'static str,
    /// What relay does.
    pub action: Action,
    /// Label `class` of `relay_errors_total`: retryable, poison, auth, config, fenced.
    pub class: &'static str,
    /// Label `stage` of `relay_errors_total`.
    pub stage: &'static str,
    /// Reason that `/readyz` lists.
    pub reason: &'static str,
    /// The cure, for the operator.
    pub hint: &'static str,
}

macro_rules! policy {
    ($($kind:ident $code:literal $action:expr, $class:literal $stage:literal $reason:literal, $hint:literal;)*) => {
        /// The policy, one row a kind.
        pub const POLICY: &[Directive] = &[$(Directive {
            kind: Kind::$kind, code: $code, action: $action, class: $class, stage: $stage, reason: $reason, hint: $hint,
        }),*];

        impl Kind {
            /// What this kind demands.
            #[must_use]
            pub fn directive(self) -> &'static Directive {
                match self { $(Kind::$kind => {
                    const AT: usize = row(Kind::$kind);
                    &POLICY[AT]
                }),* }
            }
        }
    };
}

use Action::{Poison, Retry, Standby, StopProcess, StopStream};

policy! {
    ConfigSyntax "R0101" StopProcess(78), "config" "admin" "stopped:R0101", "the line is not TOML; quote text, close brackets and strings";
    ConfigUnknownKey "R0102" StopProcess(78), "config" "admin" "stopped:R0102", "the known keys are listed in docs/reference/config.md";
    ConfigValue "R0103" StopProcess(78), "config" "admin" "stopped:R0103", "docs/reference/config.md gives the type and an example of each key";
    ConfigConflict "R0104" StopProcess(78), "config" "admin" "stopped:R0104", "change one of the settings that the message names";
    ConfigNotImplemented "R0105" StopProcess(78), "config" "admin" "stopped:R0105", "leave the key at its default";
    ConfigFile "R0106" StopProcess(78), "config" "admin" "stopped:R0106", "check the path and the file's permissions";
    SourceUnreachable "R0201" Retry, "retryable" "connect" "source_unreachable", "check host, port, firewall and that the server runs";
    SourceAuth "R0202" Retry, "auth" "connect" "source_unreachable", "check user and password, and that pg_hba.conf has a line for this role (database `replication` is not needed: relay connects to the database itself)";
    SourceTls "R0203" Retry, "auth" "connect" "source_unreachable", "check sslmode, sslrootcert and the host name in the server's certificate";
    SourcePermission "R0204" Retry, "auth" "connect" "source_unreachable", "`relay init` prints the role and grants that relay needs";
    SourceLimit "R0205" Retry, "retryable" "connect" "source_unreachable", "raise max_wal_senders, max_replication_slots or max_connections, or end connections nobody needs";
    SourceUnavailable "R0206" Retry, "retryable" "connect" "source_unreachable", "the server is starting up, shutting down, or a standby that has yet to catch up or be promoted; relay goes on as soon as it can";
    SourcePooler "R0207" Retry, "config" "connect" "source_unreachable", "connect to the server itself: a transaction pooler cannot carry a replication connection";
    SourceUnfit "R0208" StopStream, "config" "connect" "stopped:R0208", "`relay doctor` names what is unfit and the cure; PostgreSQL 14 or newer with wal_level = logical is needed, and tables that are logged";
    SourceProtocol "R0209" StopStream, "config" "receive" "stopped:R0209", "report this with the server's version; nothing was skipped";
    SourceLost "R0210" Retry, "retryable" "receive" "source_unreachable", "relay reconnects by itself; look at the server's log if it goes on";
    SourceSilent "R0211" Retry, "retryable" "receive" "source_unreachable", "the connection went silent; look for a dropped network path between relay and the server";
    SlotBusy "R0220" Standby, "retryable" "connect" "standby", "another instance holds the slot, or the lock of polling; this one waits and takes over";
    SlotMissing "R0221" StopStream, "config" "connect" "slot_missing", "if the slot was dropped, changes since the checkpoint may be gone: restore it from a failover copy, or create it again by hand and start once with `relay run --accept-gap LSN`";
    SlotLost "R0222" StopStream, "config" "connect" "slot_lost", "the server threw away WAL that the slot needs: drop the slot, create it again and start once with `relay run --accept-gap LSN`; then publish the rows of the gap again from the outbox table";
    SlotUnfit "R0223" StopStream, "config" "connect" "stopped:R0223", "name another slot in source.log.slot, or drop this one so that relay can create its own";
    PublicationMissing "R0224" StopStream, "config" "receive" "stopped:R0224", "`relay doctor` prints what the publication lacks; it must be older than the slot: behind one that was created later, advance the slot past that WAL, or drop it and create it again, and accept the gap with `relay run --accept-gap LSN`";
    RowUnsendable "R0225" StopStream, "config" "receive" "stopped:R0225", "a row is larger than the server can send (about 500 MB), or holds text that it cannot convert to UTF-8: repair the row, then advance the slot past the transaction, or take its table out of the publication first";
    Unrouted "R0226" StopStream, "config" "route" "stopped:R0226", "name the table in an [[outbox]] or a [[capture]], or take it out of the publication";
    ColumnMissing "R0227" StopStream, "config" "route" "stopped:R0227", "name an existing column in the [[outbox]] or [[capture]], or bring the column back";
    OrderRepeats "R0228" StopStream, "config" "poll" "stopped:R0228", "give the rows values of their own: the order column of a tick is an identity column that nobody writes";
    TopicShared "R0229" StopStream, "config" "route" "stopped:R0229", "give the tables topics of their own, leave one out with `exclude`, or write `topic` in the [[capture]] to say that they share one";
    CheckpointForeign "R0230" StopStream, "config" "checkpoint" "checkpoint_foreign", "give this pipeline a name of its own, or point source.url at the server that the checkpoint names";
    CheckpointAhead "R0231" StopStream, "config" "checkpoint" "stopped:R0231", "this server is behind what was already published: it is the wrong one, or it was restored from a backup";
    Gap "R0232" StopStream, "config" "checkpoint" "gap", "somebody moved or created the slot again: changes between the two positions will not come. Publish them again from the outbox table, then start once with `relay run --accept-gap LSN`";
    TimelineDiverged "R0233" StopStream, "config" "checkpoint" "stopped:R0233", "a failover lost WAL that was already published; compare the range with the tables, then accept it with `relay run --accept-gap LSN`";
    SwitchRefused "R0234" StopStream, "config" "checkpoint" "stopped:R0234", "docs/operating.md, \"Between the log and polling\", tells what each direction needs";
    SnapshotRefused "R0235" StopStream, "config" "snapshot" "stopped:R0235", "name captured tables as schema.table, with a condition on their own columns; grant SELECT on them; where row security hides rows, ALTER ROLE … BYPASSRLS for relay's role, or leave the table out with snapshot.tables";
    CheckpointUnreachable "R0240" Retry, "retryable" "checkpoint" "sink_unreachable", "check that the brokers run and that the checkpoint topic can be read";
    CheckpointUnusable "R0241" StopStream, "config" "checkpoint" "stopped:R0241", "look at the record with `relay checkpoint show`; the topic must be compacted and have one partition";
    CheckpointMissing "R0242" StopStream, "config" "checkpoint" "stopped:R0242", "`relay checkpoint init` stores where to start: the slot's confirmed position, in poll mode before every row; what was published behind that comes again";
    SinkUnreachable "R0301" Retry, "retryable" "produce" "sink_unreachable", "check sink.kafka.brokers and that each advertised listener can be reached from here";
    SinkAuth "R0302" Retry, "auth" "produce" "sink_unreachable", "check sink.kafka.security against the broker's listener";
    SinkPermission "R0303" Retry, "auth" "produce" "sink_unreachable", "grant WRITE and DESCRIBE on the target topics, and READ too on the checkpoint and dlq topics";
    TopicMissing "R0304" Retry, "config" "produce" "topic_missing", "create the topic, or set sink.kafka.create_topics = \"if-missing\"";
    SinkFatal "R0305" Retry, "retryable" "produce" "sink_unreachable", "relay replaces its producer and sends again from the frontier";
    SinkRejected "R0306" Retry, "retryable" "produce" "sink_unreachable", "relay sends the batch again one record at a time to find the culprit";
    Fenced "R0310" StopProcess(5), "fenced" "produce" "stopped:R0310", "another relay took over this pipeline";
    Poison "R0401" Poison, "poison" "produce" "poison_stopped", "correct the row or the route, raise the topic's limit, or set delivery.on_poison to \"dlq\" or \"skip\"";
    AdminListen "R0501" StopProcess(1), "config" "admin" "stopped:R0501", "choose another admin.listen, or \"\" to switch it off";
    Watchdog "R0901" StopProcess(1), "retryable" "receive" "stopped:R0901", "relay made no progress although there is WAL to read; the supervisor starts it again";
    Internal "R0999" StopProcess(1), "retryable" "receive" "stopped:R0999", "this is a defect of relay; please report it";
}

/// Where a kind stands in [`POLICY`]; a kind without a row does not compile.
const fn row(kind: Kind) -> usize {
    let mut at = 0;
    while at < POLICY.len() {
        if POLICY[at].kind as u32 == kind as u32 {
            return at;
        }
        at += 1;
    }
    panic!("a kind has no row in the policy table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_every_row_has_a_hint() {
        let mut codes = HashSet::new();
        for row in POLICY {
            assert!(codes.insert(row.code), "{} stands twice", row.code);
            assert!(row.hint.len() > 10, "{} has no hint", row.code);
            assert_eq!(row.kind.directive().code, row.code);
        }
    }
}
