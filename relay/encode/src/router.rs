//! Debezium's outbox router options become fields of an `[[outbox]]` table.

use crate::error::RouteError;
use crate::settings::OutboxSettings;

/// Options that relay does not offer, and why none is needed.
const NOT_OFFERED: &[(&str, &str)] = &[
    ("table.expand.json.payload", "relay sends the payload's own JSON text, so there is nothing to expand"),
    ("table.json.payload.null.behavior", "it belongs to the expansion of JSON payloads, which relay does not need"),
    ("table.json.payload.empty.array.behavior", "it belongs to the expansion of JSON payloads, which relay does not need"),
    ("tracing.operation.name", "relay adds no span of its own"),
];

/// Moves `[outbox.router]` into the fields it stands for.
pub(crate) fn apply(settings: &mut OutboxSettings, errors: &mut Vec<RouteError>) {
    let Some(options) = settings.router.take() else { return };
    let mut routing: [Option<(String, String)>; 3] = [None, None, None];
    for (option, value) in options {
        let field = format!("router.\"{option}\"");
        let text = value.text();
        let mut set = |slot: &mut Option<String>, key: &str, value: String| match slot {
            None => *slot = Some(value),
            Some(_) => {
                let message = format!("`{key}` is set in this [[outbox]] too");
                errors.push(
                    RouteError::conflict(field.as_str(), message).hint(format!("keep either the router option or `{key}`")),
                );
            }
        };
        match option.as_str() {
            "table.op.invalid.behavior" => match text.as_str() {
                "warn" | "error" => set(&mut settings.on_update, "on_update", "ignore".to_owned()),
                "fatal" => set(&mut settings.on_update, "on_update", "stop".to_owned()),
                _ => errors.push(RouteError::value(field, format!("`{text}` is none of warn, error, fatal"))),
            },
            "table.field.event.id" => set(&mut settings.id, "id", text),
            "table.field.event.key" => set(&mut settings.key, "key", text),
            "table.field.event.type" => set(&mut settings.event_type, "type", text),
            "table.field.event.timestamp" => set(&mut settings.timestamp, "timestamp", text),
            "table.field.event.payload" => set(&mut settings.value, "value", text),
            "table.field.event.schema.version" => set(&mut settings.schema_version, "schema_version", text),
            "table.fields.additional.placement" => place(settings, &field, &text, errors),
            "table.field.additional.missing" => set(&mut settings.missing_columns, "missing_columns", text),
            "route.by.field" => routing[0] = Some((field, text)),
            "route.topic.regex" => routing[1] = Some((field, text)),
            "route.topic.replacement" => routing[2] = Some((field, text)),
            "route.tombstone.on.empty.payload" => match (text.parse(), settings.tombstone_on_null) {
                (Ok(flag), None) => settings.tombstone_on_null = Some(flag),
                (Ok(_), Some(_)) => {
                    let message = "`tombstone_on_null` is set in this [[outbox]] too";
                    errors
                        .push(RouteError::conflict(field, message).hint("keep either the router option or `tombstone_on_null`"));
                }
                (Err(_), _) => errors.push(RouteError::value(field, format!("`{text}` is neither true nor false"))),
            },
            "tracing.span.context.field" => set(&mut settings.trace_properties, "trace_properties", format!("{text}?")),
            "tracing.with.context.field.only" => {
                if text != "true" {
                    let hint = "relay takes trace context from the column alone; leave the option out or set it to true";
                    errors.push(RouteError::value(field, "this option is not offered with the value false").hint(hint));
                }
            }
            _ => errors.push(match NOT_OFFERED.iter().find(|(name, _)| *name == option) {
                Some((_, reason)) => RouteError::value(field, "this option is not offered").hint(*reason),
                None => RouteError::value(field, "Debezium's outbox router has no such option"),
            }),
        }
    }
    route(settings, routing, errors);
}

/// The three routing options together are `topic_from`, `topic_match` and `topic`, each with Debezium's own default.
fn route(settings: &mut OutboxSettings, routing: [Option<(String, String)>; 3], errors: &mut Vec<RouteError>) {
    if routing.iter().all(Option::is_none) {
        return;
    }
    let slots = [
        (&mut settings.topic_from, "topic_from", "aggregatetype"),
        (&mut settings.topic_match, "topic_match", "(?<routedByValue>.*)"),
        (&mut settings.topic, "topic", "outbox.event.${routedByValue}"),
    ];
    let first = routing.iter().flatten().map(|(field, _)| field.clone()).next().unwrap_or_default();
    for ((slot, key, default), option) in slots.into_iter().zip(routing) {
        if slot.is_some() {
            let field = option.map_or_else(|| first.clone(), |(field, _)| field);
            let message = format!("`{key}` is set in this [[outbox]] too");
            errors.push(
                RouteError::conflict(field, message).hint("route with the router options or with relay's keys, not with both"),
            );
        } else {
            *slot = Some(option.map_or_else(|| default.to_owned(), |(_, text)| text));
        }
    }
}

/// `column:placement[:alias]`, comma separated.
fn place(settings: &mut OutboxSettings, field: &str, text: &str, errors: &mut Vec<RouteError>) {
    let (mut headers, mut envelope, mut partition) = (Vec::new(), Vec::new(), None);
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
        match parts.as_slice() {
            [column, "header"] => headers.push((*column).to_owned()),
            [column, "header", alias] => headers.push(format!("{column}:{alias}")),
            [column, "envelope"] => envelope.push((*column).to_owned()),
            [column, "envelope", alias] => envelope.push(format!("{column}:{alias}")),
            [column, "partition"] | [column, "partition", _] => partition = Some((*column).to_owned()),
            _ => errors.push(
                RouteError::value(field, format!("`{entry}` is not of the form column:placement[:alias]"))
                    .hint("placements: header, envelope, partition"),
            ),
        }
    }
    let mut clash = |key: &str| {
        let message = format!("`{key}` is set in this [[outbox]] too");
        errors.push(RouteError::conflict(field, message).hint(format!("keep either the router option or `{key}`")));
    };
    if !headers.is_empty() {
        if settings.headers.is_some() { clash("headers") } else { settings.headers = Some(headers) }
    }
    if !envelope.is_empty() {
        if settings.envelope.is_some() { clash("envelope") } else { settings.envelope = Some(envelope) }
    }
    if partition.is_some() {
        if settings.partition.is_some() { clash("partition") } else { settings.partition = partition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::Kind;

    fn apply_toml(text: &str) -> (OutboxSettings, Vec<RouteError>) {
        let mut settings: OutboxSettings = toml::from_str(text).expect("legal TOML");
        let mut errors = Vec::new();
        apply(&mut settings, &mut errors);
        (settings, errors)
    }

    #[test]
    fn options_become_fields() {
        let (settings, errors) = apply_toml(
            r#"
            [router]
            "table.op.invalid.behavior" = "fatal"
            "table.field.event.id" = "event_id"
            "table.field.event.timestamp" = "at"
            "table.fields.additional.placement" = "type:header:eventType, tenant:header ,n:envelope:N,p:partition"
            "table.field.additional.missing" = "ignore"
            "route.by.field" = "kind"
            "route.tombstone.on.empty.payload" = true
            "tracing.span.context.field" = "ctx"
            "#,
        );
        assert_eq!(errors, []);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        assert_eq!(text(&settings.on_update), "stop");
        assert_eq!(text(&settings.id), "event_id");
        assert_eq!(settings.headers, Some(vec!["type:eventType".to_owned(), "tenant".to_owned()]));
        assert_eq!(settings.envelope, Some(vec!["n:N".to_owned()]));
        assert_eq!((text(&settings.partition), text(&settings.missing_columns)), ("p".to_owned(), "ignore".to_owned()));
        assert_eq!(text(&settings.topic_from), "kind");
        assert_eq!(text(&settings.topic_match), "(?<routedByValue>.*)");
        assert_eq!(text(&settings.topic), "outbox.event.${routedByValue}");
        assert_eq!(settings.tombstone_on_null, Some(true));
        assert_eq!(text(&settings.trace_properties), "ctx?");
    }

    #[test]
    fn both_ways_at_once_and_what_is_not_offered_are_errors() {
        let (_, errors) =
            apply_toml("id = \"x\"\ntopic = \"t\"\n[router]\n\"table.field.event.id\" = \"y\"\n\"route.by.field\" = \"k\"");
        assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [Kind::ConfigConflict; 2]);
        let (_, errors) = apply_toml(
            "[router]\n\"table.expand.json.payload\" = true\n\"nosuch\" = 1\n\"route.tombstone.on.empty.payload\" = \"x\"",
        );
        assert_eq!(errors.len(), 3);
        assert!(errors.iter().any(|error| error.hint.contains("nothing to expand")));
    }
}
