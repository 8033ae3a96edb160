//! The configuration that `relay init` writes: the few lines that count, and the other important keys as comments.

use super::{Wish, capture, entry};
use crate::settings::quoted;

/// The file.
#[derive(Debug)]
pub(super) struct Template<'a> {
    /// Name of the pipeline.
    pub(super) name: &'a str,
    /// Where the database is.
    pub(super) url: String,
    /// Lines about how it is read.
    pub(super) mode: String,
    /// Every `[[outbox]]`.
    pub(super) outboxes: String,
}

const TEXT: &str = r##"#:schema relay.schema.json
# Editors look for that file beside this one; this version has none yet, and nothing else needs it.
#
# One pipeline: from one PostgreSQL database to Kafka. A line such as `#key = value` shows a key's default; remove
# the `#` to change it. Every key can also be a variable (source.url = RELAY__SOURCE__URL) or a flag (--set source.url=...).
# `relay check` reads this file without a connection, `relay doctor` looks at database and brokers.

# Names slot, publication and checkpoint topic: [a-z0-9_], at most 50.
name = {name}


[source]
# Without sslmode, TLS is verify-full, and off for this host itself.
url = {url}
{mode}
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
# A published table that no [[outbox]] and no [[capture]] names: "ignore" or "stop".
#on_unrouted = "ignore"


{outboxes}
[delivery]
# "exactly-once" commits events and checkpoint together; consumers must then read with isolation.level=read_committed.
#guarantee = "at-least-once"
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
# Needed by requests that change something, such as `relay snapshot start`.
#token_file = "/run/secrets/relay/admin"


[log]
#level = "info"
# "auto" is text on a terminal, else JSON.
#format = "auto"


[shutdown]
# The longest that a stop may take.
#grace = "25s"
"##;

/// Reading the log is what relay does unless told otherwise.
const MODE: &str = "# \"log\" reads the replication stream, \"poll\" asks the tables.\n#mode = \"log\"";

/// Not a key of the file, one that says something only together with another or in poll mode, or one that can only be added to.
const LEFT_OUT: [&str; 7] = ["preset", "table", "message", "match", "topic_from", "on_non_transactional", "after_publish"];

// === impl Template ===

impl<'a> Template<'a> {
    /// The file for one wish; `url` is where the database is, if known.
    pub(super) fn of(wish: &'a Wish, url: Option<&str>) -> Self {
        let name = &wish.name;
        let url = url.map_or_else(|| format!("postgres://{}@localhost:5432/{name}", wish.role), str::to_owned);
        Self { name, url, mode: MODE.to_owned(), outboxes: sections(wish) }
    }

    pub(super) fn text(&self) -> String {
        let name = self.name;
        // The outboxes last: what they hold is not to be read as a place of this template.
        TEXT.replace("{name}", &quoted(name))
            .replace("{slot}", &quoted(&format!("relay_{name}")))
            .replace("{plain}", name)
            .replace("{mode}", &self.mode)
            .replace("{url}", &quoted(&self.url))
            .replace("{outboxes}", &self.outboxes)
    }
}

/// What a wish names to publish.
fn sections(wish: &Wish) -> String {
    let mut text = String::new();
    if wish.has_outbox {
        text.push_str(&outbox(wish));
    }
    if wish.captures.is_empty() {
        text.push_str("# Plain tables as events: `relay init --capture 'public.*'` writes such a section; docs/captures.md.\n");
    } else {
        text.push_str(&capture::section(wish));
    }
    text + "\n"
}

/// The `[[outbox]]` of a wish, with every field of its preset as a comment.
fn outbox(wish: &Wish) -> String {
    let preset = wish.preset;
    let fields = match &wish.table {
        Some(table) => entry::fields(preset, table, &wish.name),
        None => {
            let line = preset.toml.lines().find(|line| key(line) == Some("message"));
            vec![("message", line.unwrap_or("message = \"outbox\"").to_owned()), ("preset", entry::line("preset", preset.name))]
        }
    };
    let mut text = "[[outbox]]\n".to_owned();
    fields.iter().for_each(|(_, line)| text.push_str(&format!("{line}\n")));
    if !preset.requires_match.is_empty() {
        let column = preset.requires_match;
        text.push_str(&format!("# Required, `relay check` asks for it: which rows are relay's.\n# match = \"{column} = '…'\"\n"));
    }
    text.push_str("# Each field of the preset can be overridden:\n");
    // A list may take several lines.
    let mut is_shown = false;
    for line in preset.toml.lines() {
        if let Some(key) = key(line) {
            is_shown = !LEFT_OUT.contains(&key) && fields.iter().all(|(field, _)| *field != key);
        }
        if is_shown && !line.starts_with(['#', '[']) {
            text.push_str(&format!("#{line}\n"));
        }
    }
    text + "\n"
}

fn key(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
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
            let text = Template::of(&wish(preset.name), None).text();
            assert!(text.starts_with("#:schema "));
            assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
            let (settings, report) = read(preset.name, &text);
            match preset.requires_match {
                "" => assert_eq!(report, "", "{text}"),
                column => assert!(report.contains(column) && report.matches("error[").count() == 1, "{report}"),
            }
            assert_eq!((settings.outbox.len(), settings.outbox[0].preset.as_str()), (1, preset.name));
        }
    }

    #[test]
    fn captured_tables_stand_alone_or_beside_an_outbox() {
        for (has_outbox, name) in [(false, "alone"), (true, "beside")] {
            let wish = Wish { has_outbox, captures: vec!["public.*".into(), "Shop.Or\"der".into()], ..wish("relay") };
            let (settings, report) = read(name, &Template::of(&wish, None).text());
            assert_eq!((settings.outbox.len(), settings.capture.len(), report.as_str()), (usize::from(has_outbox), 1, ""));
            assert_eq!(settings.capture[0].tables, ["public.*", "Shop.Or\"der"]);
        }
    }

    #[test]
    fn every_comment_shows_a_default() {
        for preset in PRESETS {
            let captures = vec!["public.*".to_owned()];
            let wish = Wish { captures, ..wish(preset.name) };
            let text = Template::of(&wish, Some("postgres://relay@localhost/shop")).text();
            let mut is_list = false;
            let mut opened = |line| {
                let is_open = is_list || is_key(line);
                is_list = is_open && (line.ends_with('[') || is_list && line != "#]");
                if is_open { &line[1..] } else { line }
            };
            let open: Vec<&str> = text.lines().map(&mut opened).collect();
            assert!(open.len() > 60 && text.lines().filter(|line| is_key(line)).count() > 25);
            let (mut plain, _) = read(&format!("{}-plain", preset.name), &text);
            let (mut opened, report) = read(&format!("{}-open", preset.name), &open.join("\n"));
            assert!(report.is_empty() || !preset.requires_match.is_empty(), "{report}\n{}", open.join("\n"));
            // The preset's own values say the same as no value.
            plain.outbox.clear();
            opened.outbox.clear();
            opened.sink.kafka.properties.0.clear();
            assert_eq!(format!("{plain:?}"), format!("{opened:?}"));
        }
    }
}
