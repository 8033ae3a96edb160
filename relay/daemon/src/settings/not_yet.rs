//! Turns values that this version does not implement into findings; one row each, so that implementing one deletes its row.

use relay_core::Kind;

use super::Settings;
use super::finding::{Finding, Place};
use super::schema::{Form, Key, Section};
use super::tree::{Node, Table, Value};
use super::units;

/// A key that does not take all its values yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotYet {
    /// The key; inside a `[[list]]` it holds for each element.
    pub(crate) key: &'static str,
    /// What it takes now.
    pub(crate) takes: Takes,
    /// What is missing, as a message says it.
    pub(crate) what: &'static str,
}

/// The values that a key takes now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// Its default.
    Default,
    /// These words.
    Words(&'static [&'static str]),
}

const SPOOL: &str = "streaming of transactions in progress is";

const fn default_only(key: &'static str, what: &'static str) -> NotYet {
    NotYet { key, takes: Takes::Default, what }
}

const fn words(key: &'static str, takes: &'static [&'static str], what: &'static str) -> NotYet {
    NotYet { key, takes: Takes::Words(takes), what }
}

/// Everything that config.md describes and this version does not do.
pub(crate) const NOT_YET: &[NotYet] = &[
    words("source.log.streaming", &["auto", "off"], SPOOL),
    default_only("source.log.spool_memory", SPOOL),
    default_only("source.log.spool_dir", SPOOL),
    default_only("source.log.spool_max", SPOOL),
    words("source.log.on_missing_slot", &["stop"], "re-creating a slot is"),
    words("delivery.on_poison", &["stop", "dlq", "skip"], "holding a key is"),
    default_only("delivery.dlq_max_entries", "limiting the dlq is"),
    default_only("delivery.dlq_max_held_keys", "holding a key is"),
    default_only("delivery.dlq_connect_headers", "Kafka Connect's error headers are"),
];

/// The key of a path, without regard to lists.
pub(crate) fn key_at(path: &str) -> Option<&'static Key> {
    let mut keys = Settings::KEYS;
    let mut found = None;
    for part in path.split('.') {
        let key = keys.iter().find(|key| key.name == part)?;
        found = Some(key);
        keys = match key.form {
            Form::Section(inner) | Form::Sections(inner) => inner,
            _ => &[],
        };
    }
    found
}

/// Every value of the layered tree that a later version will take.
pub(crate) fn not_yet_findings(tree: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in NOT_YET {
        for (path, node) in nodes_at(tree, rule.key) {
            // A default cannot be one: a test holds the table to that.
            if matches!(node.at, super::tree::Origin::Default) || takes(rule, node) || is_broken(rule, node) {
                continue;
            }
            let message = format!("`{path}`: {} not implemented in this version", rule.what);
            let finding = Finding::error(Kind::ConfigNotImplemented, message, Place::At(node.at.clone())).key(path);
            findings.push(finding.hint(Some(cure(rule))));
        }
    }
    findings
}

/// The nodes that a rule speaks of, with their paths.
fn nodes_at<'a>(tree: &'a Table, key: &str) -> Vec<(String, &'a Node)> {
    let Some((list, rest)) = key.split_once('.').filter(|(first, _)| *first == "outbox") else {
        return tree.find(key).map(|node| (key.to_owned(), node)).into_iter().collect();
    };
    let Some(Node { value: Value::List(items), .. }) = tree.get(list) else { return Vec::new() };
    let element = |(index, item): (usize, &'a Node)| match &item.value {
        Value::Table(section) => section.find(rest).map(|node| (format!("{list}[{index}].{rest}"), node)),
        _ => None,
    };
    items.iter().enumerate().filter_map(element).collect()
}

fn takes(rule: &NotYet, node: &Node) -> bool {
    match rule.takes {
        Takes::Words(words) => node.value.as_text().is_some_and(|text| words.contains(&text)),
        Takes::Default => key_at(rule.key).is_some_and(|key| {
            key.initial.node().is_some_and(|initial| same(&initial.value, &node.value))
                || is_empty(&node.value) && key.initial.node().is_none()
        }),
    }
}

/// A value of the wrong type was reported already.
fn is_broken(rule: &NotYet, node: &Node) -> bool {
    match key_at(rule.key) {
        Some(key) => !matches!(key.form, Form::Sections(_)) && (key.check)(&node.value).is_err(),
        None => false,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_text() == Some("")
}

/// Whether two values mean the same, so that `"1000ms"` is `"1s"`.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left == right || units::same_amount(left, right),
        (Value::Integer(left), Value::Integer(right)) => left == right,
        (Value::Flag(left), Value::Flag(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(&left.value, &right.value))
        }
        _ => false,
    }
}

fn cure(rule: &NotYet) -> String {
    match rule.takes {
        Takes::Default => "leave the key out".to_owned(),
        Takes::Words(words) => match words {
            [word] => format!("leave it at `\"{word}\"`"),
            words => {
                format!("this version has {}", words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_key_and_takes_its_default() {
        for rule in NOT_YET {
            let key = key_at(rule.key).unwrap_or_else(|| panic!("{} is no key", rule.key));
            if let (Some(node), Takes::Words(_)) = (key.initial.node(), rule.takes) {
                assert!(takes(rule, &node), "the default of {} is refused", rule.key);
            }
        }
    }
}
