//! Turns captures that cannot be compiled, or that the source's mode does not have, into findings.

use relay_core::Kind;

use super::rules::Rules;
use super::{Settings, SourceMode};

/// Keys that have a meaning in the log alone, and what they ask for.
const OF_THE_LOG: [(&str, &str); 4] = [
    ("source.log.messages", "logical messages exist"),
    ("source.log.nontransactional_messages", "logical messages exist"),
    ("format.transaction_metadata", "transactions are known"),
    ("format.heartbeat_interval", "Debezium's heartbeat is written"),
];

/// The rules of `[[capture]]`, and of what belongs to captures elsewhere.
pub(crate) fn captures(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    if settings.source.mode == SourceMode::Poll {
        if !settings.capture.is_empty() {
            let message =
                "`[[capture]]` reads the log, and `source.mode` is \"poll\": a table does not tell what happened to its rows";
            rules.error(Kind::ConfigConflict, "capture[0]", message, "set `source.mode = \"log\"`, or leave the section out");
        }
        for (key, what) in OF_THE_LOG {
            if is_set(settings, key) {
                let message = format!("`{key}`: {what} in the log alone, and `source.mode` is \"poll\"");
                rules.error(Kind::ConfigConflict, key, message, "leave the key out, or set `source.mode = \"log\"`");
            }
        }
    }
    if settings.source.log.nontransactional_messages && settings.source.log.messages.is_empty() {
        let message = "no message is published: `source.log.messages` names no prefix";
        let hint = "add `messages = [\"*\"]`, or the prefixes that you want";
        rules.error(Kind::ConfigConflict, "source.log.nontransactional_messages", message, hint);
    }
    snapshots(rules);
    let format = crate::parts::format(settings);
    let all = settings.capture.iter().map(crate::parts::capture_settings).collect();
    let captures = relay_encode::Captures::new(all, &format);
    for (index, capture) in captures.iter().flat_map(relay_encode::Captures::iter).enumerate() {
        for (at, doubt) in capture.key_doubts() {
            let message = format!("{doubt}: {}", doubt.effect());
            rules.warn(Kind::ConfigConflict, &format!("capture[{index}].key[{at}]"), message, doubt.hint());
        }
    }
    for (index, error) in captures.err().unwrap_or_default() {
        // A fault of `[format]` itself would be told once for every section.
        let key = match error.field.split_once('.') {
            Some(("format" | "source", _)) => error.field.clone(),
            _ => format!("capture[{index}].{}", error.field),
        };
        if !rules.has_finding(&key) {
            rules.error(error.kind, &key, error.message, error.hint);
        }
    }
}

/// `[snapshot]`: only captured tables are read as a whole.
fn snapshots(rules: &mut Rules<'_>) {
    const THREADS_MAX: u32 = 64;
    let settings = rules.settings;
    if settings.snapshot.threads > THREADS_MAX {
        let message = format!(
            "`threads` is {}: each is a connection of its own, and at most {THREADS_MAX} are used",
            settings.snapshot.threads
        );
        rules.error(Kind::ConfigValue, "snapshot.threads", message, "4 keep most servers busy");
    }
    let (Ok(routes), false) = (crate::parts::routes(settings), settings.snapshot.tables.is_empty()) else { return };
    for (index, table) in settings.snapshot.tables.iter().enumerate() {
        let (message, hint) = if routes.names_outbox(table) {
            let message = format!("`{table}` is an outbox table, and snapshots are of captured tables alone");
            (message, "leave it out: its rows are events, and come by the stream")
        } else if !routes.captures().names_table(table) {
            (format!("no `[[capture]]` takes table `{table}`"), "name a captured table exactly, as schema.table")
        } else {
            continue;
        };
        rules.error(Kind::ConfigConflict, &format!("snapshot.tables[{index}]"), message, hint);
    }
}

fn is_set(settings: &Settings, key: &str) -> bool {
    match key {
        "source.log.messages" => !settings.source.log.messages.is_empty(),
        "source.log.nontransactional_messages" => settings.source.log.nontransactional_messages,
        "format.transaction_metadata" => settings.format.transaction_metadata,
        _ => settings.format.heartbeat_interval.is_some(),
    }
}
