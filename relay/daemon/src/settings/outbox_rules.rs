//! Turns outboxes that are incomplete, double, or write into each other's topics into findings.

use std::collections::HashMap;

use relay_core::Kind;

use super::rules::Rules;
use super::sink_rules::{collide, is_legal_topic};
use super::source_text::printable;
use super::suggest::nearest;
use super::{Guarantee, Outbox, Settings, SourceMode};

/// What the compiler of routes has against an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboxFault {
    /// Carries the code.
    pub(crate) kind: Kind,
    /// Which `[[outbox]]`, counted from 0.
    pub(crate) index: usize,
    /// The field's name in the file.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
    /// The cure; `""` when there is none to name.
    pub(crate) hint: String,
}

/// What compiling the routes finds: templates, regexes, conditions, router options.
///
/// The one place where the route compiler is plugged in; it needs no connection.
pub(crate) fn outbox_findings(settings: &Settings) -> Vec<OutboxFault> {
    let format = crate::parts::format(settings);
    let mut faults = Vec::new();
    for (index, outbox) in settings.outbox.iter().enumerate() {
        // A row without table and message is a finding of its own.
        if outbox.table.is_none() && outbox.message.is_none() {
            continue;
        }
        let errors = relay_encode::Route::new(crate::parts::outbox_settings(outbox), &format).err().unwrap_or_default();
        let fault = |error: relay_encode::RouteError| OutboxFault {
            kind: error.kind,
            index,
            field: error.field,
            message: error.message,
            hint: error.hint,
        };
        faults.extend(errors.into_iter().map(fault));
    }
    faults
}

/// A configuration without anything to publish.
pub(crate) fn nothing(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    if settings.outbox.is_empty() && settings.capture.is_empty() && settings.source.log.messages.is_empty() {
        let hint = "add `[[outbox]]` with `table = \"public.outbox\"`, or `[[capture]]` with `tables = [\"public.*\"]`";
        rules.error(Kind::ConfigConflict, "outbox", "nothing to publish: there is no `[[outbox]]` and no `[[capture]]`", hint);
    }
}

/// The rules of `[[outbox]]`.
pub(crate) fn outboxes(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    for (index, outbox) in settings.outbox.iter().enumerate() {
        sources(rules, index, outbox);
        preset(rules, index, outbox);
        literal_topic(rules, index, outbox);
    }
    twice(rules);
    topics_that_collide(rules);
    claims(rules);
    for fault in outbox_findings(settings) {
        let key = format!("outbox[{}].{}", fault.index, fault.field);
        // The rules above may have said so already.
        if !rules.has_finding(&key) {
            rules.error(fault.kind, &key, fault.message, fault.hint);
        }
    }
}

/// A table or a message prefix, not both.
fn sources(rules: &mut Rules<'_>, index: usize, outbox: &Outbox) {
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let key = |name: &str| format!("outbox[{index}].{name}");
    match (is_set(&outbox.table), is_set(&outbox.message)) {
        (true, true) => {
            let message = "`table` and `message` exclude each other";
            rules.error(Kind::ConfigConflict, &key("message"), message, "use two `[[outbox]]` sections");
        }
        (false, false) => {
            let hint = "add `table = \"public.outbox\"`, or `message = \"outbox\"` for `pg_logical_emit_message`";
            rules.error(
                Kind::ConfigConflict,
                &format!("outbox[{index}]"),
                "an `[[outbox]]` needs a `table` or a `message`",
                hint,
            );
        }
        _ => {}
    }
}

fn preset(rules: &mut Rules<'_>, index: usize, outbox: &Outbox) {
    let names = || relay_encode::PRESETS.iter().map(|preset| preset.name);
    if let Err(error) = relay_encode::Preset::find(&outbox.preset) {
        let (message, hint) = match nearest(&outbox.preset, names()) {
            Some(preset) => {
                (format!("there is no preset `{}`", printable(&outbox.preset)), format!("did you mean `\"{preset}\"`?"))
            }
            // One that is documented says where.
            None => (error.message, error.hint),
        };
        rules.error(Kind::ConfigValue, &format!("outbox[{index}].preset"), message, hint);
    }
}

/// The topic of an outbox when it is one name, whatever the row says.
fn fixed_topic(outbox: &Outbox) -> Option<&str> {
    let topic = outbox.topic.as_deref()?;
    let is_replacement = outbox.topic_match.as_deref().is_some_and(|text| !text.is_empty()) || !outbox.router.is_empty();
    (!is_replacement && !topic.contains(['{', '$']) && !topic.contains("??")).then_some(topic)
}

fn literal_topic(rules: &mut Rules<'_>, index: usize, outbox: &Outbox) {
    let Some(topic) = fixed_topic(outbox) else { return };
    let key = format!("outbox[{index}].topic");
    let delivery = &rules.settings.delivery;
    if !is_legal_topic(topic) {
        let message = format!("`{}` is not a topic name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`", printable(topic));
        rules.error(Kind::ConfigValue, &key, message, "a column is written `{column}`");
    } else if collide(topic, &delivery.checkpoint_topic) || collide(topic, &delivery.dlq_topic) {
        let message = format!("`{topic}` is a topic of relay's own");
        rules.error(Kind::ConfigConflict, &key, message, "give the events a topic of their own");
    }
}

/// The marks of a claim are set behind Kafka's back: they are no part of its transactions.
fn claims(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    if settings.delivery.guarantee != Guarantee::ExactlyOnce || settings.source.mode != SourceMode::Poll {
        return;
    }
    let format = crate::parts::format(settings);
    for (index, outbox) in settings.outbox.iter().enumerate() {
        let Ok(route) = relay_encode::Route::new(crate::parts::outbox_settings(outbox), &format) else { continue };
        if matches!(route.order(), Some(relay_encode::Order::Claim { .. })) {
            let message = "order `claim` cannot be exactly-once: its marks are no part of Kafka's transaction";
            let hint = "use `order = \"tick(xid column, order column)\"`, log mode, or `delivery.guarantee = \"at-least-once\"`";
            rules.error(Kind::ConfigConflict, &format!("outbox[{index}].order"), message, hint);
        }
    }
}

/// A table that two outboxes name has two routes.
fn twice(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, outbox) in settings.outbox.iter().enumerate() {
        let table = outbox.table.as_deref().map(|table| ("table", table));
        let message = outbox.message.as_deref().map(|message| ("message", message));
        for (field, text) in table.into_iter().chain(message) {
            if let Some(first) = seen.insert((field, text), index) {
                let message = format!("`{}` is also the {field} of `[[outbox]]` number {}", printable(text), first + 1);
                rules.error(Kind::ConfigConflict, &format!("outbox[{index}].{field}"), message, "join the two sections");
            }
        }
    }
}

/// Two fixed topics that a broker does not tell apart.
fn topics_that_collide(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    let topics: Vec<(usize, &str)> = settings
        .outbox
        .iter()
        .enumerate()
        .filter_map(|(index, outbox)| fixed_topic(outbox).map(|topic| (index, topic)))
        .collect();
    for (at, (index, topic)) in topics.iter().enumerate() {
        if let Some((_, first)) = topics[..at].iter().find(|(_, first)| first != topic && collide(first, topic)) {
            let message = format!("topics `{topic}` and `{first}` differ in `.` and `_` alone: a broker refuses the second one");
            rules.error(Kind::ConfigConflict, &format!("outbox[{index}].topic"), message, "rename one of them");
        }
    }
}
