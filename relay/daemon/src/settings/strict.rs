//! Turns one layer of the configuration into findings: unknown keys, and values that do not fit their key.

use relay_core::Kind;

use super::field::scalar;
use super::finding::{Finding, Place};
use super::schema::{Fault, Field, Form, Key, Section};
use super::suggest::nearest;
use super::tree::{Entry, Node, Table, Value};
use super::{Settings, source_text::printable};

/// Checks every key and value of a layer.
pub(crate) fn check_layer(layer: &Table, findings: &mut Vec<Finding>) {
    check_section(layer, Settings::KEYS, "", findings);
}

fn check_section(section: &Table, keys: &'static [Key], path: &str, findings: &mut Vec<Finding>) {
    for entry in section.entries() {
        let path = join(path, &entry.key);
        match find_key(keys, &entry.key) {
            Some((key, "")) => check_value(&entry.node, key, &path, findings),
            Some(_) => {
                if let Err(fault) = String::read(&entry.node.value) {
                    findings.push(value_fault(fault, &entry.node, &path));
                }
            }
            None => findings.push(unknown_key(entry, keys, &path)),
        }
    }
    for key in keys.iter().filter(|key| matches!(key.form, Form::Secret)) {
        let given: Vec<&Entry> =
            section.entries().filter(|entry| find_key(std::slice::from_ref(key), &entry.key).is_some()).collect();
        if let [first, second, ..] = given.as_slice() {
            let message = format!("`{}` and `{}` both give the same secret", first.key, second.key);
            let finding = Finding::error(Kind::ConfigConflict, message, Place::At(second.key_at.clone()));
            findings.push(
                finding.key(join(path, &second.key)).hint(Some(format!("keep one of them; `{}_file` is preferred", key.name))),
            );
        }
    }
}

fn check_value(node: &Node, key: &'static Key, path: &str, findings: &mut Vec<Finding>) {
    match (&key.form, &node.value) {
        (Form::Section(keys), Value::Table(section)) => check_section(section, keys, path, findings),
        (Form::Sections(keys), Value::List(items)) => {
            for (index, item) in items.iter().enumerate() {
                match &item.value {
                    Value::Table(section) => check_section(section, keys, &format!("{path}[{index}]"), findings),
                    other => findings.push(value_fault(Fault::expected("a table", other), item, path)),
                }
            }
        }
        (Form::List | Form::ListOrText, Value::List(items)) => {
            for item in items {
                if let Err(fault) = String::read(&item.value) {
                    findings.push(value_fault(fault, item, path));
                }
            }
        }
        (Form::Map, Value::Table(map)) => {
            for entry in map.entries() {
                if let Err(fault) = scalar(&entry.key, &entry.node.value) {
                    findings.push(value_fault(fault, &entry.node, &format!("{path}.{}", entry.key)));
                }
            }
        }
        (Form::Sections(_), Value::Table(_)) => {
            let fault = Fault::expected("a list of tables", &node.value)
                .hint(format!("write the section with two brackets: `[[{path}]]`"));
            findings.push(value_fault(fault, node, path));
        }
        (_, value) => {
            if let Err(fault) = (key.check)(value) {
                findings.push(value_fault(fault, node, path));
            }
        }
    }
}

/// A value that does not fit.
pub(crate) fn value_fault(fault: Fault, node: &Node, path: &str) -> Finding {
    let place = Place::At(node.at.clone());
    Finding::error(Kind::ConfigValue, format!("`{}`: {}", printable(path), fault.message), place).key(path).hint(fault.hint)
}

fn unknown_key(entry: &Entry, keys: &'static [Key], path: &str) -> Finding {
    let hint = match nearest(&entry.key, spellings(keys).iter().map(String::as_str)) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None => elsewhere(Settings::KEYS, "", &entry.key).map(|home| match home.as_str() {
            "" => format!("`{}` stands at the top of the file, above the first section", entry.key),
            home => format!("`{}` is a key of `{home}`", entry.key),
        }),
    };
    let hint = hint.or_else(|| (keys.len() <= 12).then(|| format!("the keys here are {}", quoted(keys))));
    let message = format!("unknown key `{}`", printable(&entry.key));
    Finding::error(Kind::ConfigUnknownKey, message, Place::At(entry.key_at.clone())).key(path).hint(hint)
}

/// The header of a section that has a key of this name.
fn elsewhere(keys: &'static [Key], path: &str, name: &str) -> Option<String> {
    if let Some(key) = keys.iter().find(|key| key.name == name) {
        return Some(match key.form {
            Form::Sections(_) => format!("[[{}]]", join(path, name)),
            Form::Section(_) => format!("[{}]", join(path, name)),
            _ if path.is_empty() => String::new(),
            _ => format!("[{path}]"),
        });
    }
    keys.iter().find_map(|key| match key.form {
        Form::Section(inner) => elsewhere(inner, &join(path, key.name), name),
        Form::Sections(inner) => elsewhere(inner, &format!("[{}]", join(path, key.name)), name),
        _ => None,
    })
}

fn quoted(keys: &[Key]) -> String {
    keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

/// The key that a name stands for, and the ending that makes it another spelling of a secret: `_file`, `_env` or none.
pub(crate) fn find_key(keys: &'static [Key], name: &str) -> Option<(&'static Key, &'static str)> {
    if let Some(key) = keys.iter().find(|key| key.name == name) {
        return Some((key, ""));
    }
    ["_file", "_env"].into_iter().find_map(|ending| {
        let stem = name.strip_suffix(ending)?;
        keys.iter().find(|key| key.name == stem && matches!(key.form, Form::Secret)).map(|key| (key, ending))
    })
}

/// Every name that a section knows.
pub(crate) fn spellings(keys: &[Key]) -> Vec<String> {
    let secret = |key: &Key| [format!("{}_file", key.name), format!("{}_env", key.name)];
    let mut names: Vec<String> = keys.iter().map(|key| key.name.to_owned()).collect();
    names.extend(keys.iter().filter(|key| matches!(key.form, Form::Secret)).flat_map(secret));
    names
}

/// A path and a key under it.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
