//! Turns the layered tree into the effective configuration, or into the list of who said what; secrets are masked.

use super::Settings;
use super::dsn::masked;
use super::finding::Report;
use super::schema::{Form, Initial, Key, Section};
use super::secret::MASK;
use super::strict::join;
use super::suggest::names_a_secret;
use super::tree::{Node, Origin, Table, Value};

/// The whole configuration as TOML, every default visible.
pub(crate) fn effective_toml(tree: &Table) -> String {
    let mut out = String::new();
    write_section(tree, Settings::KEYS, "", &mut out);
    out
}

/// One line a value: `path = value <- origin`.
pub(crate) fn origins(tree: &Table, report: &Report) -> String {
    let mut out = String::new();
    for_each_value(tree, Settings::KEYS, "", &mut |path, key, node| {
        let origin = match &node.at {
            Origin::Default => "default".to_owned(),
            Origin::Env(name) => format!("env {name}"),
            Origin::Set(_) => "--set".to_owned(),
            Origin::File(file, span) => match report.sources.get(*file) {
                Some(source) => format!("{}:{}", source.name, source.spot(span).line),
                None => "file".to_owned(),
            },
        };
        out.push_str(&format!("{path} = {} <- {origin}\n", shown(key, &node.value)));
    });
    out
}

/// Visits each value in the order of the key table.
fn for_each_value(section: &Table, keys: &'static [Key], path: &str, visit: &mut impl FnMut(&str, &str, &Node)) {
    for key in keys {
        let path = join(path, key.name);
        match (key.form, section.get(key.name).map(|node| &node.value)) {
            (Form::Section(inner), Some(Value::Table(section))) => for_each_value(section, inner, &path, visit),
            (Form::Sections(inner), Some(Value::List(items))) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Table(section) = &item.value {
                        for_each_value(section, inner, &format!("{path}[{index}]"), visit);
                    }
                }
            }
            (Form::Map, Some(Value::Table(map))) => {
                for entry in map.entries() {
                    visit(&format!("{path}.{}", key_text(&entry.key)), &entry.key, &entry.node);
                }
            }
            (Form::Secret, _) => {
                for ending in ["", "_file", "_env"] {
                    if let Some(node) = section.get(&format!("{}{ending}", key.name)) {
                        visit(&format!("{path}{ending}"), &format!("{}{ending}", key.name), node);
                    }
                }
            }
            (_, Some(_)) => {
                if let Some(node) = section.get(key.name) {
                    visit(&path, key.name, node);
                }
            }
            (_, None) => {}
        }
    }
}

/// Values first, then the sections under them: TOML asks for it.
fn write_section(section: &Table, keys: &'static [Key], path: &str, out: &mut String) {
    for key in keys.iter().filter(|key| !is_section(key)) {
        write_value(section, key, out);
    }
    for key in keys {
        let path = join(path, key.name);
        match (key.form, section.get(key.name).map(|node| &node.value)) {
            (Form::Section(inner), Some(Value::Table(section))) => {
                out.push_str(&format!("\n[{path}]\n"));
                write_section(section, inner, &path, out);
            }
            (Form::Sections(inner), Some(Value::List(items))) => {
                for item in items {
                    if let Value::Table(section) = &item.value {
                        out.push_str(&format!("\n[[{path}]]\n"));
                        write_section(section, inner, &path, out);
                    }
                }
            }
            (Form::Map, Some(Value::Table(map))) => {
                out.push_str(&format!("\n[{path}]\n"));
                for entry in map.entries() {
                    out.push_str(&format!("{} = {}\n", key_text(&entry.key), shown(&entry.key, &entry.node.value)));
                }
            }
            _ => {}
        }
    }
}

fn is_section(key: &Key) -> bool {
    matches!(key.form, Form::Section(_) | Form::Sections(_) | Form::Map)
}

fn write_value(section: &Table, key: &Key, out: &mut String) {
    let endings: &[&str] = if matches!(key.form, Form::Secret) { &["", "_file", "_env"] } else { &[""] };
    let mut is_given = false;
    for ending in endings {
        let name = format!("{}{ending}", key.name);
        if let Some(node) = section.get(&name) {
            is_given = true;
            out.push_str(&format!("{name} = {}\n", shown(&name, &node.value)));
        }
    }
    if !is_given {
        let meaning = match key.initial {
            Initial::Unset(meaning) | Initial::Derived(meaning) => meaning,
            _ => "missing",
        };
        out.push_str(&format!("# {} = {meaning}\n", key.name));
    }
}

/// A value as TOML, without what is secret in it.
fn shown(key: &str, value: &Value) -> String {
    match value {
        _ if names_a_secret(key) && !matches!(value, Value::Flag(_)) => quoted(MASK),
        // A word that is no URL at all may be a password that stands in the wrong place.
        Value::Text(text) if key == "url" && !text.contains("://") => quoted(MASK),
        Value::Text(text) => quoted(&masked(text)),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => toml::Value::Float(*number).to_string(),
        Value::Flag(is_set) => is_set.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(|item| shown(key, &item.value)).collect::<Vec<_>>().join(", ")),
        Value::Table(map) => {
            let entries =
                map.entries().map(|entry| format!("{} = {}", key_text(&entry.key), shown(&entry.key, &entry.node.value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Other(kind) => quoted(kind),
    }
}

/// A basic string of TOML, on one line.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(other))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A key as TOML: bare where it may be.
fn key_text(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { key.to_owned() } else { quoted(key) }
}
