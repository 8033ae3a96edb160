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
    /// Shown at start and by `doctor`; empty for none.
    pub warn: &'static str,
    /// The table as TOML, as `relay preset show` prints it.
    pub toml: &'static str,
    /// CREATE TABLE with `{table}` and `{uuid}` left open; `None` for messages.
    pub(crate) table_sql: Option<&'static str>,
}

/// The presets of this version.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "relay",
        tier: "own",
        no_poll: "",
        warn: "",
        toml: include_str!("../presets/relay.toml"),
        table_sql: Some(include_str!("../presets/relay.sql")),
    },
    Preset {
        name: "debezium",
        tier: "A",
        no_poll: "",
        warn: "",
        toml: include_str!("../presets/debezium.toml"),
        table_sql: Some(include_str!("../presets/debezium.sql")),
    },
    Preset {
        name: "wal-message",
        tier: "B",
        no_poll: "logical messages are in the log alone",
        warn: "by default every role may call pg_logical_emit_message and so write events; `relay preset sql` prints the REVOKE",
        toml: include_str!("../presets/wal-message.toml"),
        table_sql: None,
    },
    Preset {
        name: "wal-message-debezium",
        tier: "B",
        no_poll: "logical messages are in the log alone",
        warn: "by default every role may call pg_logical_emit_message and so write events; `relay preset sql` prints the REVOKE",
        toml: include_str!("../presets/wal-message-debezium.toml"),
        table_sql: None,
    },
];

/// Presets that the specification promises and a later version brings.
const LATER: &[&str] = &[
    "debezium-quarkus",
    "eventuate-tram",
    "kafka-columns",
    "tomorrow-one",
    "goharvest",
    "brighter",
    "open-outbox",
    "watermill",
    "watermill-forwarder",
    "watermill-queue",
    "cap",
    "pg-transactional-outbox",
    "namastack",
    "pgmq",
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
        if LATER.contains(&name) {
            return Err(RouteError::not_implemented("preset", format!("the preset `{name}`")).hint(known));
        }
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
    use crate::settings::FormatSettings;
    use relay_core::Kind;

    #[test]
    fn every_preset_is_a_legal_route_by_its_own_name() {
        for preset in PRESETS {
            let settings = preset.settings().expect(preset.name);
            assert_eq!(settings.preset.as_deref(), Some(preset.name));
            Route::new(settings, &FormatSettings::default()).expect(preset.name);
        }
    }

    #[test]
    fn other_names_say_what_is_known() {
        let later = Preset::find("pgmq").expect_err("later");
        assert_eq!(later.kind, Kind::ConfigNotImplemented);
        assert!(later.hint.contains("wal-message") && later.message.contains("pgmq"));
        assert!(Preset::find("axon").expect_err("documented").message.contains("docs/presets.md"));
        assert_eq!(Preset::find("x").expect_err("unknown").kind, Kind::ConfigValue);
    }
}
