//! The fields of a preset, rewritten for a table that has its columns under names of another case.

use super::folded;
use crate::preset::Preset;
use toml::Value;

/// What a table with other names needs over its preset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renamed {
    /// Lines of TOML, each a field to override.
    pub lines: Vec<String>,
    /// The preset's condition where it names such a column: it can only be added to, not overridden.
    pub fixed_match: Option<String>,
}

/// Fields of the preset that name a column which the table has in another case or with other underscores.
#[must_use]
pub fn renamed(preset: &Preset, columns: &[(String, String)]) -> Renamed {
    let mut renamed = Renamed::default();
    let Ok(mut file) = preset.toml.parse::<toml::Table>() else { return renamed };
    let Some(Value::Array(mut outboxes)) = file.remove("outbox") else { return renamed };
    let Some(Value::Table(fields)) = outboxes.pop() else { return renamed };
    for (field, mut value) in fields {
        if matches!(field.as_str(), "preset" | "table" | "message") {
            continue;
        }
        let before = value.to_string();
        rewrite(&mut value, columns);
        if value.to_string() == before {
            continue;
        }
        match field.as_str() {
            "match" => renamed.fixed_match = value.as_str().map(str::to_owned),
            _ => renamed.lines.push(format!("{field} = {value}")),
        }
    }
    renamed
}

fn rewrite(value: &mut Value, columns: &[(String, String)]) {
    match value {
        Value::String(text) => *text = replaced(text, columns),
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, columns)),
        _ => {}
    }
}

/// The text with every word that is a column under another name replaced by that name. Not words of a constant, of a pointer behind `/`,
/// of an alias behind `:`, of a dotted name, or of a function before `(`.
fn replaced(text: &str, columns: &[(String, String)]) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |length| start + length);
        out.push_str(&rest[..start]);
        let (word, after) = (&rest[start..end], rest[end..].chars().next());
        let before = out.chars().next_back();
        let is_word = !matches!(before, Some('/' | ':' | '.' | '\'' | '-')) && !matches!(after, Some('(' | '.' | '-'));
        let is_there = columns.iter().any(|(name, _)| name == word);
        let near = columns.iter().find(|(name, _)| folded(name) == folded(word));
        match near {
            Some((name, _)) if is_word && !is_there => out.push_str(name),
            _ => out.push_str(word),
        }
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), "text".to_owned())).collect()
    }

    #[test]
    fn only_what_is_called_otherwise_is_overridden() {
        let preset = Preset::find("debezium").expect("known");
        let found = renamed(preset, &columns(&["Id", "AggregateType", "aggregateid", "Type", "payload"]));
        let wanted = [
            "id = \"Id\"",
            "order = \"claim(Id)\"",
            "topic = \"outbox.event.{AggregateType}\"",
            "topic_from = \"AggregateType\"",
            "type = \"Type\"",
        ];
        assert_eq!(found.lines, wanted);
        assert_eq!(renamed(preset, &columns(&["id", "aggregatetype", "aggregateid", "type", "payload"])), Renamed::default());
    }

    #[test]
    fn functions_aliases_and_pointers_stay_and_a_condition_is_told() {
        let preset = Preset::find("brighter").expect("known");
        let found = renamed(preset, &columns(&["Time", "MessageId", "Topic", "dispatched"]));
        let headers = found.lines.iter().find(|line| line.starts_with("headers")).expect("headers");
        assert!(
            headers.contains("MessageId?:MessageId") && headers.contains("Topic?:Topic") && headers.contains("time(timestamp")
        );
        assert_eq!(found.fixed_match, None);
        assert!(renamed(preset, &columns(&["Dispatched"])).fixed_match.is_some_and(|text| text.starts_with("Dispatched")));
        let forwarder = renamed(Preset::find("watermill-forwarder").expect("known"), &columns(&["Payload", "UUID"]));
        assert!(forwarder.lines.contains(&"id = \"Payload#/uuid\"".to_owned()), "{forwarder:?}");
    }
}
