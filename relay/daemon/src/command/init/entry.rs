//! The fields that an `[[outbox]]` needs for one table of a preset, beyond what the preset says.

use relay_encode::Preset;
use toml::{Table, Value};

use crate::settings::quoted;

/// A field and its line.
pub(super) type Field = (&'static str, String);

/// `field = "value"`.
pub(super) fn line(field: &str, value: &str) -> String {
    format!("{field} = {}", quoted(value))
}

/// Table and preset, and what a preset for many tables must be told where it is to read one.
pub(super) fn fields(preset: &Preset, table: &str, pipeline: &str) -> Vec<Field> {
    let mut fields = vec![("table", line("table", table)), ("preset", line("preset", preset.name))];
    let defaults = defaults(preset);
    let pattern = defaults.get("table").and_then(Value::as_str).unwrap_or_default();
    if let Some((head, _)) = pattern.split_once('*')
        && !table.contains('*')
    {
        let rest = suffix(head, table);
        for field in ["id", "topic", "key"] {
            let value = defaults.get(field).and_then(Value::as_str).unwrap_or_default();
            if value.contains("{table_suffix}") {
                fields.push((field, line(field, &value.replace("{table_suffix}", rest))));
            }
        }
        // A generated id tells the shards of an outbox apart by the number behind the table's name.
        if preset.toml.contains("generated_id(")
            && let Ok(number @ 1..) = rest.parse::<u32>()
        {
            fields.push(("outbox_id", format!("outbox_id = {number}")));
        }
    }
    if preset.toml.contains("const(source_name)") {
        fields.push(("source_name", line("source_name", pipeline)));
    }
    fields
}

/// The preset's own fields.
pub(super) fn defaults(preset: &Preset) -> Table {
    let file = preset.toml.parse::<Table>().unwrap_or_default();
    let first = file.get("outbox").and_then(Value::as_array).and_then(|outboxes| outboxes.first());
    first.and_then(Value::as_table).cloned().unwrap_or_default()
}

/// What the star stands for; a table of another name is it as a whole.
fn suffix<'a>(head: &str, table: &'a str) -> &'a str {
    let name = |text: &'a str| text.split_once('.').map_or(text, |(_, name)| name);
    let head = head.split_once('.').map_or(head, |(_, head)| head);
    name(table).strip_prefix(head).unwrap_or(name(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_a_glob_names_what_the_star_stood_for() {
        let lines = |preset: &str, table: &str| {
            let fields = fields(Preset::find(preset).unwrap(), table, "shop");
            fields.into_iter().skip(2).map(|(_, line)| line).collect::<Vec<_>>()
        };
        assert_eq!(lines("pgmq", "pgmq.q_orders"), ["id = \"orders/{msg_id}\"", "topic = \"orders\""]);
        assert_eq!(lines("watermill", "Shop.watermill_a"), ["topic = \"a\""]);
        assert_eq!(lines("eventuate-tram", "eventuate.message2"), ["outbox_id = 2"]);
        assert_eq!(lines("tomorrow-one", "public.outbox_kafka"), ["source_name = \"shop\""]);
        assert!(lines("pgmq", "pgmq.q_*").is_empty() && lines("relay", "public.x").is_empty());
    }
}
