//! Turns `RELAY__…` variables and `--set` flags into layers of the configuration.

use std::sync::Arc;

use relay_core::Kind;

use super::Settings;
use super::field::split_commas;
use super::finding::{Finding, Place};
use super::schema::{Fault, Form, Key, Section};
use super::source_text::printable;
use super::strict::{find_key, join, spellings};
use super::suggest::nearest;
use super::tree::{Node, Origin, Table, Value};

/// What every variable of relay begins with. Kubernetes' own `RELAY_PORT` and the like have one underscore and never match.
pub(crate) const PREFIX: &str = "RELAY__";

/// What a path of names leads to.
enum Target {
    /// A key; the path spells it as the file does.
    Key { path: Vec<String>, key: &'static Key },
    /// An entry of a map.
    Entry { path: Vec<String>, entry: String },
    /// A section or something inside a `[[list]]`.
    List(String),
    /// Nothing: the section that was reached, and its keys.
    Unknown { section: Vec<String>, keys: &'static [Key] },
}

/// The layer of the environment.
pub(crate) fn environment_layer(variables: &[(String, String)], findings: &mut Vec<Finding>) -> Table {
    let mut layer = Table::default();
    for (name, value) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let at = Origin::Env(Arc::from(name.as_str()));
        let parts: Vec<&str> = path.split("__").collect();
        match resolve(&parts, true) {
            Target::Key { path, key } => match from_text(&key.form, path.last().map_or("", String::as_str), key, value, &at) {
                Ok(value) => insert(&mut layer, &path, Node::new(value, at)),
                Err(fault) => findings.push(value_finding(fault, &path.join("."), at)),
            },
            Target::Entry { path, entry } => insert_entry(&mut layer, &path, &entry, Node::new(Value::Text(value.clone()), at)),
            Target::List(path) => {
                let message = format!("`{}` cannot be reached from the environment", printable(name));
                findings.push(
                    Finding::error(Kind::ConfigUnknownKey, message, Place::At(at))
                        .key(&path)
                        .hint(Some(format!("write `[[{path}]]` in a file and give it with `-c`"))),
                );
            }
            Target::Unknown { section, keys } => findings.push(unknown_variable(name, &section, keys, at)),
        }
    }
    layer
}

/// The layer of the `--set` flags; a later one wins.
pub(crate) fn set_layer(flags: &[String], findings: &mut Vec<Finding>) -> Table {
    let mut layer = Table::default();
    for flag in flags {
        let Some((path, value)) = flag.split_once('=') else {
            let message = "`--set` needs a key and a value";
            let finding = Finding::error(Kind::ConfigValue, message, Place::Named("--set".to_owned()));
            findings.push(finding.hint(Some("write `--set source.log.slot=relay_orders`".to_owned())));
            continue;
        };
        let path = path.trim();
        let at = Origin::Set(Arc::from(path));
        let parts: Vec<&str> = path.split('.').collect();
        match resolve(&parts, false) {
            Target::Key { path, key } => match set_value(key, &path, value, &at) {
                Ok(value) => insert(&mut layer, &path, Node::new(value, at)),
                Err(fault) => findings.push(value_finding(fault, &path.join("."), at)),
            },
            Target::Entry { path, entry } => {
                let value = Table::parse_value(value, &at)
                    .filter(|value| !matches!(value, Value::Table(_) | Value::List(_) | Value::Other(_)))
                    .unwrap_or_else(|| Value::Text(value.to_owned()));
                insert_entry(&mut layer, &path, &entry, Node::new(value, at));
            }
            Target::List(list) => match Table::parse_value(value, &at) {
                Some(value @ Value::List(_)) if list == path => insert(&mut layer, &[list], Node::new(value, at)),
                _ => {
                    let message = format!("`{}` cannot be set with a flag", printable(path));
                    let finding = Finding::error(Kind::ConfigUnknownKey, message, Place::At(at)).key(path);
                    findings.push(finding.hint(Some(format!("write `[[{list}]]` in a file and give it with `-c`"))));
                }
            },
            Target::Unknown { section, keys } => findings.push(unknown_path(path, &section, keys, at)),
        }
    }
    layer
}

/// The names of all variables, for the reference and for suggestions.
pub(crate) fn variable_names() -> Vec<String> {
    fn walk(keys: &[Key], path: &str, names: &mut Vec<String>) {
        for name in spellings(keys) {
            let inner = keys.iter().find(|key| key.name == name).map(|key| key.form);
            let path = join(path, &name);
            match inner {
                Some(Form::Section(keys)) => walk(keys, &path, names),
                Some(Form::Sections(_)) => {}
                _ => names.push(variable_name(&path)),
            }
        }
    }
    let mut names = Vec::new();
    walk(Settings::KEYS, "", &mut names);
    names
}

/// The variable of a path.
pub(crate) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

/// Follows names down the key table.
fn resolve(parts: &[&str], is_upper: bool) -> Target {
    let mut keys = Settings::KEYS;
    let mut path = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        // Only the spelling in capitals is a variable of ours: two spellings of one key would have no order between them.
        let name = if is_upper && part.chars().any(|c| c.is_lowercase()) { String::new() } else { part.to_lowercase() };
        let name = if is_upper { name } else { (*part).to_owned() };
        let Some((key, ending)) = find_key(keys, &name) else {
            return Target::Unknown { section: path, keys };
        };
        let rest = &parts[index + 1..];
        match key.form {
            Form::Section(inner) if !rest.is_empty() => {
                path.push(name);
                keys = inner;
            }
            Form::Section(inner) => {
                path.push(name);
                return Target::Unknown { section: path, keys: inner };
            }
            Form::Sections(_) => return Target::List(name),
            Form::Map if !rest.is_empty() => {
                path.push(name);
                let entry = rest.join(".");
                return Target::Entry { path, entry: if is_upper { entry.to_lowercase() } else { entry } };
            }
            _ if !rest.is_empty() => return Target::Unknown { section: path, keys },
            _ => {
                path.push(format!("{}{ending}", key.name));
                return Target::Key { path, key };
            }
        }
    }
    Target::Unknown { section: path, keys }
}

/// The value of a flag: TOML where that fits the key, else the text as it stands.
fn set_value(key: &'static Key, path: &[String], text: &str, at: &Origin) -> Result<Value, Fault> {
    let name = path.last().map_or("", String::as_str);
    let is_other_spelling = name != key.name;
    match Table::parse_value(text, at) {
        Some(value @ Value::Text(_)) if is_other_spelling => Ok(value),
        Some(value) if !is_other_spelling && (key.check)(&value).is_ok() => Ok(value),
        _ => from_text(&key.form, name, key, text, at),
    }
}

/// The value of a variable, typed by its key and never guessed: `007` stays text where text is wanted.
fn from_text(form: &Form, name: &str, key: &Key, text: &str, at: &Origin) -> Result<Value, Fault> {
    if name != key.name {
        return Ok(Value::Text(text.to_owned()));
    }
    match form {
        Form::Integer => text
            .trim()
            .parse()
            .map(Value::Integer)
            .map_err(|_| Fault::new(format!("expected an integer, found `{}`", printable(text)))),
        Form::Flag => match text.trim() {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            other => Err(Fault::new(format!("expected `true` or `false`, found `{}`", printable(other)))),
        },
        Form::List => {
            Ok(Value::List(split_commas(text).into_iter().map(|item| Node::new(Value::Text(item), at.clone())).collect()))
        }
        Form::Map => match Table::parse_value(text, at) {
            Some(value @ Value::Table(_)) => Ok(value),
            // No value in the message: properties hold passwords too.
            _ => {
                Err(Fault::new("expected one TOML table").hint("write `{ \"linger.ms\" = 5, \"compression.type\" = \"zstd\" }`"))
            }
        },
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn insert(layer: &mut Table, path: &[String], node: Node) {
    let Some((last, sections)) = path.split_last() else { return };
    let at = node.at.clone();
    let mut section = layer;
    for name in sections {
        section = section.section(name, &at);
    }
    match node.value {
        // Single entries of the map may have come first.
        Value::Table(entries) => section.section(last, &at).lay_over(entries, &[]),
        _ => section.set(last, at, node),
    }
}

fn insert_entry(layer: &mut Table, path: &[String], entry: &str, node: Node) {
    let at = node.at.clone();
    let mut section = layer;
    for name in path {
        section = section.section(name, &at);
    }
    section.set(entry, at, node);
}

fn value_finding(fault: Fault, path: &str, at: Origin) -> Finding {
    Finding::error(Kind::ConfigValue, format!("`{path}`: {}", fault.message), Place::At(at)).key(path).hint(fault.hint)
}

fn unknown_variable(name: &str, section: &[String], keys: &'static [Key], at: Origin) -> Finding {
    let known = variable_names();
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("the variables here are {}", names_under(section, keys, &|path| variable_name(path))),
    };
    Finding::error(Kind::ConfigUnknownKey, format!("unknown variable `{}`", printable(name)), Place::At(at)).hint(Some(hint))
}

fn unknown_path(path: &str, section: &[String], keys: &'static [Key], at: Origin) -> Finding {
    let last = path.rsplit('.').next().unwrap_or(path);
    let hint = match nearest(last, spellings(keys).iter().map(String::as_str)) {
        Some(word) => format!("did you mean `{}`?", join(&section.join("."), word)),
        None => format!("the keys here are {}", names_under(section, keys, &|path| path.to_owned())),
    };
    Finding::error(Kind::ConfigUnknownKey, format!("unknown key `{}`", printable(path)), Place::At(at)).key(path).hint(Some(hint))
}

fn names_under(section: &[String], keys: &'static [Key], name: &dyn Fn(&str) -> String) -> String {
    let section = section.join(".");
    let names = spellings(keys).into_iter().map(|key| {
        let is_section = keys.iter().any(|known| known.name == key && matches!(known.form, Form::Section(_)));
        let ending = if is_section { name(&format!("{}.", join(&section, &key))) } else { name(&join(&section, &key)) };
        format!("`{ending}{}`", if is_section { "…" } else { "" })
    });
    names.collect::<Vec<_>>().join(", ")
}
