//! The configuration that `relay init` writes: the few lines that count, and the other important keys as comments.

use super::Wish;
use crate::settings::quoted;

/// The file.
#[derive(Debug)]
pub(super) struct Template<'a> {
    pub(super) wish: &'a Wish,
    /// Where the database is, if known.
    pub(super) url: Option<&'a str>,
}

const TEXT: &str = r##"#:schema relay.schema.json
# The schema is part of each release; beside this file it gives editors completion and checks.
#
# One pipeline: from the outbox of one PostgreSQL database to Kafka. A line such as `#key = value` shows a key's default; remove
# the `#` to change it. Every key can also be a variable (source.url = RELAY__SOURCE__URL) or a flag (--set source.url=...).
# `relay check` reads this file without a connection, `relay doctor` looks at database and brokers.

# Names slot, publication and checkpoint topic: [a-z0-9_], at most 50.
name = {name}


[source]
# Without sslmode, TLS is verify-full, and off for this host itself.
url = {url}
# The role's password, where the URL has none; read again at each connect.
#password_file = "/run/secrets/relay/postgres"

[source.log]
#slot = {slot}
#publication = {slot}
# "if-missing" creates publication and slot at the very first start, where the role may.
#create = "if-missing"
# PostgreSQL 17+: a slot that moves to the standby at a failover.
#failover = false
# WAL kept for relay above which it raises an alert, such as "20GiB".
#wal_budget = "none"
# A published table that no [[outbox]] names: "ignore" or "stop".
#on_unrouted = "ignore"


[[outbox]]
{outbox}

[delivery]
# What an event that cannot be published leads to: "stop", "dlq" or "skip".
#on_poison = "stop"
#dlq_topic = "{plain}.dlq"
#checkpoint_topic = "{plain}.checkpoint"
# Bytes on their way to Kafka and not yet acknowledged.
#in_flight = "64MiB"


[sink.kafka]
# Where to connect first: comma separated, or a list.
brokers = "localhost:9092"
#create_topics = "if-missing"
# For topics that relay creates; -1 = the broker's default.
#partitions = -1
#replication_factor = -1
# murmur2_random places keys as Java clients do.
#partitioner = "murmur2_random"
# Globs that a topic taken from row data must match; [] = any legal name.
#allowed_topics = []

[sink.kafka.security]
# "plaintext", "ssl", "sasl_plaintext" or "sasl_ssl".
#protocol = "plaintext"
# "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER".
#mechanism = ""
#username = ""
#password_file = "/run/secrets/relay/kafka"
#ca_file = "/etc/ssl/kafka-ca.pem"

# Any librdkafka property, quoted; those that would break a promise are refused by name.
[sink.kafka.properties]
#"compression.type" = "lz4"


[admin]
# /metrics, /livez, /readyz, /startupz and /status; "" = off. In a pod: "0.0.0.0:9464".
#listen = "127.0.0.1:9464"


[log]
#level = "info"
# "auto" is text on a terminal, else JSON.
#format = "auto"


[shutdown]
# The longest that a stop may take.
#grace = "25s"
"##;

/// Not a key of the file, or one that says something only together with another.
const LEFT_OUT: [&str; 5] = ["preset", "table", "message", "topic_from", "on_non_transactional"];

// === impl Template ===

impl Template<'_> {
    pub(super) fn text(&self) -> String {
        let name = &self.wish.name;
        let url = self.url.map_or_else(|| format!("postgres://{}@localhost:5432/{name}", self.wish.role), str::to_owned);
        // The outbox last: what it holds is not to be read as a place of this template.
        TEXT.replace("{name}", &quoted(name))
            .replace("{slot}", &quoted(&format!("relay_{name}")))
            .replace("{plain}", name)
            .replace("{url}", &quoted(&url))
            .replace("{outbox}", &self.outbox())
    }

    fn outbox(&self) -> String {
        let preset = self.wish.preset;
        let target = match &self.wish.table {
            Some(table) => format!("table = {}", quoted(table)),
            None => {
                let line = preset.toml.lines().find(|line| key(line) == Some("message"));
                line.unwrap_or("message = \"outbox\"").to_owned()
            }
        };
        let mut text = format!("{target}\npreset = {}\n# Each field of the preset can be overridden:\n", quoted(preset.name));
        for line in preset.toml.lines().filter(|line| key(line).is_some_and(|key| !LEFT_OUT.contains(&key))) {
            text.push_str(&format!("#{line}\n"));
        }
        text
    }
}

fn key(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::init::tests::wish;
    use crate::settings::{Inputs, Settings, inspect};
    use relay_encode::PRESETS;

    /// The settings, and the report with errors and warnings.
    fn read(name: &str, text: &str) -> (Settings, String) {
        let file = std::env::temp_dir().join(format!("relay-template-{name}-{}", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let inspection = inspect(&Inputs { files: vec![file.clone()], ..Inputs::default() });
        std::fs::remove_file(&file).unwrap();
        (inspection.settings, inspection.report.text(false))
    }

    fn is_key(line: &str) -> bool {
        let body = line.strip_prefix('#').unwrap_or_default();
        !body.starts_with([' ', ':']) && body.contains(" = ") && !body.contains("_file = ")
    }

    #[test]
    fn what_init_writes_passes_check_for_every_preset() {
        for preset in PRESETS {
            let text = Template { wish: &wish(preset.name), url: None }.text();
            assert!(text.starts_with("#:schema "));
            assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
            let (settings, report) = read(preset.name, &text);
            assert_eq!(report, "", "{text}");
            assert_eq!((settings.outbox.len(), settings.outbox[0].preset.as_str()), (1, preset.name));
        }
    }

    #[test]
    fn every_comment_shows_a_default() {
        for preset in PRESETS {
            let text = Template { wish: &wish(preset.name), url: Some("postgres://relay@localhost/shop") }.text();
            let open: Vec<&str> = text.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
            assert!(open.len() > 60 && text.lines().filter(|line| is_key(line)).count() > 25);
            let (mut plain, _) = read(&format!("{}-plain", preset.name), &text);
            let (mut opened, report) = read(&format!("{}-open", preset.name), &open.join("\n"));
            assert_eq!(report, "", "{}", open.join("\n"));
            // The preset's own values say the same as no value.
            plain.outbox.clear();
            opened.outbox.clear();
            opened.sink.kafka.properties.0.clear();
            assert_eq!(format!("{plain:?}"), format!("{opened:?}"));
        }
    }
}
