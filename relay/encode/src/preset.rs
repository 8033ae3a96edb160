//! Presets are data: filled-in `[[outbox]]` tables, compiled in, printable, and the start of every route.

use crate::error::RouteError;
use crate::settings::OutboxSettings;
use serde::Deserialize;

/// One filled-in `[[outbox]]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name that `preset = "…"` takes.
    pub name: &'static str,
    /// How much is promised: `own`, `A` or `B`.
    pub tier: &'static str,
    /// Why it cannot be polled; empty where it can.
    pub no_poll: &'static str,
    /// A column that the user's own `match` must name; empty for none.
    pub requires_match: &'static str,
    /// Names of tables that a glob of it does not take: the framework's own, which are no outboxes.
    pub(crate) except: &'static [&'static str],
    /// A column of its table that a sequence fills at each insert; empty for none.
    pub(crate) serial: &'static str,
    /// Shown at start and by `doctor`; empty for none.
    pub warn: &'static str,
    /// The table as TOML, as `relay preset show` prints it.
    pub toml: &'static str,
    /// CREATE TABLE with `{table}` and `{uuid}` left open; `None` for messages.
    pub(crate) table_sql: Option<&'static str>,
}

/// The presets, the own one first, then by tier.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "relay",
        tier: "own",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "",
        toml: include_str!("../presets/relay.toml"),
        table_sql: Some(include_str!("../presets/relay.sql")),
    },
    Preset {
        name: "debezium",
        tier: "A",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "",
        toml: include_str!("../presets/debezium.toml"),
        table_sql: Some(include_str!("../presets/debezium.sql")),
    },
    Preset {
        name: "debezium-quarkus",
        tier: "A",
        no_poll: "with remove-after-insert, its default, a row is deleted in the transaction that inserts it, and a poller never \
               sees it; with it off, write the table with preset = \"debezium\"",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "`timestamp` has no zone and is read as UTC; `relay doctor` compares it with the commit time",
        toml: include_str!("../presets/debezium-quarkus.toml"),
        table_sql: Some(include_str!("../presets/debezium-quarkus.sql")),
    },
    Preset {
        name: "eventuate-tram",
        tier: "A",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "stop Eventuate's own CDC: both would publish; in log mode nobody sets `published`, so its cleaner must be replaced",
        toml: include_str!("../presets/eventuate-tram.toml"),
        table_sql: Some(include_str!("../presets/eventuate-tram.sql")),
    },
    Preset {
        name: "kafka-columns",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "id",
        warn: "",
        toml: include_str!("../presets/kafka-columns.toml"),
        table_sql: Some(include_str!("../presets/kafka-columns.sql")),
    },
    Preset {
        name: "tomorrow-one",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "id",
        warn: "switch its own processor off (fresh rows in outbox_kafka_lock show that it runs): both would publish",
        toml: include_str!("../presets/tomorrow-one.toml"),
        table_sql: Some(include_str!("../presets/tomorrow-one.sql")),
    },
    Preset {
        name: "goharvest",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "id",
        warn: "stop its harvesters: both would publish; its own publisher places keys by CRC32: to keep them in their partitions \
               set sink.kafka.partitioner = \"consistent_random\"",
        toml: include_str!("../presets/goharvest.toml"),
        table_sql: Some(include_str!("../presets/goharvest.sql")),
    },
    Preset {
        name: "brighter",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "id",
        warn: "switch its sweeper off: both would publish; its own publisher places keys by CRC32: to keep them in their \
               partitions set sink.kafka.partitioner = \"consistent_random\"",
        toml: include_str!("../presets/brighter.toml"),
        table_sql: Some(include_str!("../presets/brighter.sql")),
    },
    Preset {
        name: "open-outbox",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "stop its relay: both would publish; rows due in the future wait with order `claim` alone, in log mode they follow \
               `on_scheduled`; its own publisher places keys by FNV-1a: to keep them in their partitions set \
               sink.kafka.partitioner = \"fnv1a_random\"",
        toml: include_str!("../presets/open-outbox.toml"),
        table_sql: Some(include_str!("../presets/open-outbox.sql")),
    },
    Preset {
        name: "watermill",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &["watermill_offsets_*", "watermill_forwarder_topic"],
        serial: "",
        warn: "its consumers keep offsets of their own and delete nothing: rows stay until somebody prunes them; its own publisher \
               places keys by FNV-1a: to keep them in their partitions set sink.kafka.partitioner = \"fnv1a_random\"",
        toml: include_str!("../presets/watermill.toml"),
        table_sql: Some(include_str!("../presets/watermill.sql")),
    },
    Preset {
        name: "watermill-forwarder",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "stop the forwarder daemon: both would publish; its own publisher places keys by FNV-1a: to keep them in their \
               partitions set sink.kafka.partitioner = \"fnv1a_random\"",
        toml: include_str!("../presets/watermill-forwarder.toml"),
        table_sql: Some(include_str!("../presets/watermill.sql")),
    },
    Preset {
        name: "watermill-queue",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &["watermill_offsets_*", "watermill_forwarder_topic"],
        serial: "offset",
        warn: "other consumers of the queue and relay each act on a message; its own publisher places keys by FNV-1a: to keep them \
               in their partitions set sink.kafka.partitioner = \"fnv1a_random\"",
        toml: include_str!("../presets/watermill-queue.toml"),
        table_sql: Some(include_str!("../presets/watermill-queue.sql")),
    },
    Preset {
        name: "cap",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "CAP's own sender publishes the same rows: use a transport that does nothing, or poll mode, where relay sets \
               StatusName; delayed messages follow `on_scheduled` in either mode; its own publisher places keys by CRC32: to keep \
               them in their partitions set sink.kafka.partitioner = \"consistent_random\"",
        toml: include_str!("../presets/cap.toml"),
        table_sql: Some(include_str!("../presets/cap.sql")),
    },
    Preset {
        name: "pg-transactional-outbox",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "stop its listener or poller: both would handle the rows",
        toml: include_str!("../presets/pg-transactional-outbox.toml"),
        table_sql: Some(include_str!("../presets/pg-transactional-outbox.sql")),
    },
    Preset {
        name: "namastack",
        tier: "B",
        no_poll: "",
        requires_match: "handler_id",
        except: &[],
        serial: "",
        warn: "one row is written for each registered handler: leave the Kafka handler's rows to relay alone",
        toml: include_str!("../presets/namastack.toml"),
        table_sql: Some(include_str!("../presets/namastack.sql")),
    },
    Preset {
        name: "pgmq",
        tier: "B",
        no_poll: "",
        requires_match: "",
        except: &[],
        serial: "msg_id",
        warn: "other consumers of the queue and relay each act on a message; a `vt` in the future is a delayed message, which \
               waits with order `claim` alone; an unlogged queue never reaches the log",
        toml: include_str!("../presets/pgmq.toml"),
        table_sql: Some(include_str!("../presets/pgmq.sql")),
    },
    Preset {
        name: "wal-message",
        tier: "B",
        no_poll: "logical messages are in the log alone",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "by default every role may call pg_logical_emit_message and so write events; `relay preset sql` prints the REVOKE",
        toml: include_str!("../presets/wal-message.toml"),
        table_sql: None,
    },
    Preset {
        name: "wal-message-debezium",
        tier: "B",
        no_poll: "logical messages are in the log alone",
        requires_match: "",
        except: &[],
        serial: "",
        warn: "by default every role may call pg_logical_emit_message and so write events; `relay preset sql` prints the REVOKE",
        toml: include_str!("../presets/wal-message-debezium.toml"),
        table_sql: None,
    },
];

/// Layouts that are documented and not compiled in.
const DOCUMENTED: &[&str] = &[
    "spring-modulith",
    "spring-modulith-v2",
    "masstransit",
    "nservicebus",
    "wolverine",
    "marten",
    "axon",
    "message-db",
    "rails-event-store",
    "outboxer",
    "sbmt-outbox",
    "symfony",
    "django-outbox-pattern",
    "faststream-outbox",
    "go-outbox",
    "laravel-outbox",
    "nestjs-outbox",
    "pg-boss",
    "sqlxmq",
];

// === impl Preset ===

impl Preset {
    /// The modes that fit it, as `source.mode` names them.
    #[must_use]
    pub fn modes(&self) -> &'static [&'static str] {
        if self.no_poll.is_empty() { &["log", "poll"] } else { &["log"] }
    }

    /// The integer column that orders the rows of a tick, once its table has an xid8 column.
    #[must_use]
    pub fn order_column(&self) -> &'static str {
        if self.serial.is_empty() { "seq" } else { self.serial }
    }

    /// The preset of that name.
    ///
    /// # Errors
    /// Names the known ones; says so when a later version brings it.
    pub fn find(name: &str) -> Result<&'static Preset, RouteError> {
        if let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) {
            return Ok(preset);
        }
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let known = format!("known presets: {}", known.join(", "));
        if DOCUMENTED.contains(&name) {
            let message = format!("`{name}` is not a preset; its layout is described in docs/presets.md");
            return Err(RouteError::value("preset", message).hint(known));
        }
        Err(RouteError::value("preset", format!("there is no preset `{name}`")).hint(known))
    }

    /// Its fields.
    ///
    /// # Errors
    /// A defect of this build: the compiled-in text is not a legal table. A test reads them all.
    pub fn settings(&self) -> Result<OutboxSettings, RouteError> {
        #[derive(Deserialize)]
        struct File {
            outbox: Vec<OutboxSettings>,
        }
        let defect = |message: String| RouteError::value("preset", format!("the preset `{}` is defective: {message}", self.name));
        let file: File = toml::from_str(self.toml).map_err(|error| defect(error.to_string()))?;
        file.outbox.into_iter().next().ok_or_else(|| defect("it is empty".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use crate::settings::{FormatSettings, Mode};
    use relay_core::Kind;

    #[test]
    fn every_preset_is_a_legal_route_by_its_own_name() {
        for preset in PRESETS {
            let settings = preset.settings().expect(preset.name);
            assert_eq!(settings.preset.as_deref(), Some(preset.name));
            for mode in [Mode::Log, Mode::Poll] {
                let mut user = OutboxSettings {
                    preset: settings.preset.clone(),
                    table: settings.table.clone(),
                    message: settings.message.clone(),
                    source_name: Some("shop".into()),
                    ..OutboxSettings::default()
                };
                if !preset.requires_match.is_empty() {
                    let error =
                        Route::new(user.clone(), &FormatSettings { mode, ..FormatSettings::default() }).expect_err("a match");
                    assert!(error[0].message.contains(preset.requires_match));
                    user.matches = Some(format!("{} = 'x'", preset.requires_match));
                }
                let made = Route::new(user, &FormatSettings { mode, ..FormatSettings::default() });
                let needs_mark = matches!(preset.name, "debezium" | "kafka-columns") && mode == Mode::Poll;
                let is_refused = mode == Mode::Poll && !preset.no_poll.is_empty();
                assert_eq!(made.is_err(), needs_mark || is_refused, "{} {mode:?}: {made:?}", preset.name);
            }
        }
    }

    #[test]
    fn other_names_say_what_is_known() {
        assert!(Preset::find("axon").expect_err("documented").message.contains("docs/presets.md"));
        let unknown = Preset::find("x").expect_err("unknown");
        assert_eq!(unknown.kind, Kind::ConfigValue);
        assert!(unknown.hint.contains("wal-message") && unknown.hint.contains("pgmq"));
    }
}
