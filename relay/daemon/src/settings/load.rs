//! Turns files, environment and flags into [`Settings`], with every finding of every layer in one list.

use std::collections::HashSet;
use std::path::PathBuf;

use relay_core::Kind;

use super::environment::{PREFIX, environment_layer, set_layer};
use super::finding::{Finding, Place, Report};
use super::not_yet::not_yet_findings;
use super::rules::rule_findings;
use super::schema::{Form, Key, Section};
use super::secret::Secret;
use super::source_text::SourceText;
use super::strict::{check_layer, join};
use super::tree::{Node, Origin, Table, Value};
use super::{Settings, markdown};

/// Where the configuration comes from, weakest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    /// Files, in order.
    pub(crate) files: Vec<PathBuf>,
    /// Environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// `a.b=c` of each `--set`.
    pub(crate) sets: Vec<String>,
}

/// Settings that relay can start with.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// Warnings only.
    pub(crate) report: Report,
    /// Each value and its origin.
    pub(crate) tree: Table,
}

/// What a configuration says, whether relay can start with it or not.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    /// The settings; a default stands in for each value that a finding names.
    pub(crate) settings: Settings,
    /// Everything that is wrong.
    pub(crate) report: Report,
    /// Each value and its origin.
    pub(crate) tree: Table,
}

/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "relay.toml";

/// Reads the configuration and the secrets that it names.
pub(crate) fn load(inputs: &Inputs) -> Result<Loaded, Report> {
    let Inspection { settings, mut report, tree } = inspect(inputs);
    for (path, secret) in settings.secrets() {
        if let Err(error) = secret.reveal() {
            let origin = ["_file", "_env", ""].iter().find_map(|ending| tree.find(&format!("{path}{ending}")));
            let place = origin.map_or(Place::Nowhere, |node| Place::At(node.at.clone()));
            report.findings.push(Finding::error(Kind::ConfigFile, error.to_string(), place).key(path));
        }
    }
    report.sort();
    if report.errors() > 0 { Err(report) } else { Ok(Loaded { settings, report, tree }) }
}

/// Reads the configuration, without its secrets: needs no more than the files.
pub(crate) fn inspect(inputs: &Inputs) -> Inspection {
    let mut texts = Vec::new();
    let mut unread = Vec::new();
    for path in &inputs.files {
        match read_file(path) {
            Ok(text) => texts.push(text),
            Err(finding) => unread.push(finding),
        }
    }
    inspect_texts(texts, unread, &inputs.variables, &inputs.sets)
}

/// Reads a configuration from texts that are in memory already.
pub(crate) fn inspect_texts(
    texts: Vec<SourceText>,
    found: Vec<Finding>,
    variables: &[(String, String)],
    sets: &[String],
) -> Inspection {
    let is_unread = !found.is_empty();
    let mut report = Report { sources: texts, findings: found };
    let mut tree = Table::default();
    let mut is_broken = false;
    for file in 0..report.sources.len() {
        let (layer, has_errors) = read_layer(&mut report, file);
        is_broken |= has_errors;
        tree.lay_over(layer, Settings::KEYS);
    }
    for layer in [environment_layer(variables, &mut report.findings), set_layer(sets, &mut report.findings)] {
        check_layer(&layer, &mut report.findings);
        tree.lay_over(layer, Settings::KEYS);
    }
    fill_in(&mut tree, Settings::KEYS);
    derive(&mut tree);
    let settings = Settings::read_section(&tree);
    let file = report.sources.len().checked_sub(1);
    // What follows from a value that was refused already is noise.
    let rules = rule_findings(&settings, &tree, file, !is_broken && !is_unread);
    for found in [not_yet_findings(&tree), rules] {
        let refused: HashSet<String> = report.findings.iter().filter_map(|finding| finding.key.clone()).collect();
        report.findings.extend(found.into_iter().filter(|finding| finding.key.as_ref().is_none_or(|key| !refused.contains(key))));
    }
    report.sort();
    Inspection { settings, report, tree }
}

/// Reads a block that is only a part of a configuration: keys and types count, the rest does not.
pub(crate) fn inspect_fragment(text: SourceText) -> Report {
    let mut report = Report { sources: vec![text], findings: Vec::new() };
    read_layer(&mut report, 0);
    report.sort();
    report
}

/// Reads every TOML block of a Markdown file.
pub(crate) fn inspect_markdown(name: &str, text: &str) -> Report {
    let mut report = Report::default();
    for block in markdown::toml_blocks(text) {
        let text = SourceText::new(name.to_owned(), block);
        let (table, errors) = Table::parse(text.text(), 0);
        report.append(match table.get("name") {
            Some(_) if errors.is_empty() => inspect_texts(vec![text], Vec::new(), &[], &[]).report,
            _ => inspect_fragment(text),
        });
    }
    report
}

/// Reads a file as text.
pub(crate) fn read_file(path: &std::path::Path) -> Result<SourceText, Finding> {
    let name = path.display().to_string();
    let failed = |reason: String, hint: &str| {
        let finding = Finding::error(Kind::ConfigFile, format!("read `{name}`: {reason}"), Place::Named(name.clone()));
        Err(finding.hint((!hint.is_empty()).then(|| hint.to_owned())))
    };
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceText::new(name, text)),
            Err(_) => failed("the file is not UTF-8".to_owned(), "save it as UTF-8"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            failed("there is no such file".to_owned(), "name it with `-c FILE`; `relay init` writes one")
        }
        Err(error) => failed(error.to_string(), "check the file's permissions"),
    }
}

/// Parses a file, notes what it must not show, and checks its keys and values. `true` when its grammar is broken: then only that
/// is reported.
fn read_layer(report: &mut Report, file: usize) -> (Table, bool) {
    let Some(source) = report.sources.get_mut(file) else { return (Table::default(), false) };
    let (layer, errors) = Table::parse(source.text(), file);
    source.hide_secrets(&layer);
    if errors.is_empty() {
        check_layer(&layer, &mut report.findings);
        return (layer, false);
    }
    // What was recovered of a broken file is a guess: a forgotten quote makes values of keys and keys of passwords.
    source.mark_broken();
    let mut lines = HashSet::new();
    for error in errors {
        let line = error.span.as_ref().map(|span| source.spot(span).line);
        if lines.insert(line) {
            let place = error.span.map_or(Place::InFile(file), |span| Place::At(Origin::File(file, span)));
            let finding = Finding::error(Kind::ConfigSyntax, error.message, place);
            report.findings.push(finding.hint(Some(Kind::ConfigSyntax.directive().hint.to_owned())));
        }
    }
    (Table::default(), true)
}

/// Writes each default into the tree, so that the effective configuration shows it.
fn fill_in(tree: &mut Table, keys: &'static [Key]) {
    for key in keys {
        match key.form {
            Form::Section(inner) => fill_in(tree.section(key.name, &Origin::Default), inner),
            Form::Sections(inner) => {
                if let Some(Value::List(items)) = tree.get_mut(key.name).map(|node| &mut node.value) {
                    for item in items {
                        if let Value::Table(section) = &mut item.value {
                            fill_in(section, inner);
                        }
                    }
                }
            }
            _ if tree.get(key.name).is_none() => {
                if let Some(node) = key.initial.node() {
                    tree.set(key.name, Origin::Default, node);
                }
            }
            _ => {}
        }
    }
}

/// Fills in what follows from other keys.
fn derive(tree: &mut Table) {
    let text = |tree: &Table, path: &str| tree.find(path).and_then(|node| node.value.as_text()).map(str::to_owned);
    let default = |value: Value| Node::new(value, Origin::Default);
    if let Some(Value::List(items)) = tree.get_mut("outbox").map(|node| &mut node.value) {
        for item in items {
            let Value::Table(outbox) = &mut item.value else { continue };
            let Some(preset) = outbox.get("preset").map(|node| node.value.as_text().unwrap_or_default().to_owned()) else {
                let has_router = outbox.find("router").is_some_and(|node| node.at != Origin::Default);
                let preset = match (outbox.get("message"), has_router) {
                    (Some(_), _) => "wal-message",
                    (None, true) => "debezium",
                    (None, false) => "relay",
                };
                outbox.set("preset", Origin::Default, default(Value::Text(preset.to_owned())));
                continue;
            };
            // A preset that is named brings its framework's own table.
            if outbox.get("table").is_none() && outbox.get("message").is_none() {
                let defaults = relay_encode::Preset::find(&preset).and_then(relay_encode::Preset::settings).unwrap_or_default();
                for (key, text) in [("table", defaults.table), ("message", defaults.message)] {
                    text.into_iter().for_each(|text| outbox.set(key, Origin::Default, default(Value::Text(text))));
                }
            }
        }
    }
    let is_debezium = text(tree, "format.compat").as_deref() == Some("debezium");
    if let Some(Value::List(items)) = tree.get_mut("capture").map(|node| &mut node.value) {
        let fields: &[&str] = if is_debezium { &[] } else { &["op", "lsn", "ts_ms"] };
        for item in items {
            let Value::Table(capture) = &mut item.value else { continue };
            let flat = capture.section("flat", &Origin::Default);
            if flat.get("add_fields").is_none() {
                let field = |field: &&str| default(Value::Text((*field).to_owned()));
                flat.set("add_fields", Origin::Default, default(Value::List(fields.iter().map(field).collect())));
            }
        }
    }
    let Some(name) = text(tree, "name") else { return };
    let log = tree.section("source", &Origin::Default).section("log", &Origin::Default);
    if log.get("slot").is_none() {
        log.set("slot", Origin::Default, default(Value::Text(format!("relay_{name}"))));
    }
    if log.get("publication").is_none()
        && let Some(slot) = log.get("slot").and_then(|node| node.value.as_text()).map(str::to_owned)
    {
        log.set("publication", Origin::Default, default(Value::Text(slot)));
    }
    let format = tree.section("format", &Origin::Default);
    if format.get("topic_prefix").is_none_or(|node| node.value.as_text() == Some("")) {
        format.set("topic_prefix", Origin::Default, default(Value::Text(name.clone())));
    }
    if format.get("position_header").is_none() {
        format.set("position_header", Origin::Default, default(Value::Flag(!is_debezium)));
    }
    let delivery = tree.section("delivery", &Origin::Default);
    for key in ["checkpoint_topic", "dlq_topic"] {
        if let Some(Value::Text(topic)) = delivery.get_mut(key).map(|node| &mut node.value) {
            *topic = topic.replace("{name}", &name);
        }
    }
}

// === impl Inputs ===

impl Inputs {
    /// The files and flags of the command line, and the process's environment.
    pub(crate) fn from_process(files: &[PathBuf], sets: &[String]) -> Self {
        let files = if files.is_empty() { vec![PathBuf::from(DEFAULT_FILE)] } else { files.to_vec() };
        Self { files, variables: process_variables(), sets: sets.to_vec() }
    }
}

/// relay's variables in the process's environment, in the order of their names; text that is not UTF-8 keeps its place.
pub(crate) fn process_variables() -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    variables
}

// === impl Settings ===

impl Settings {
    /// Every secret that is set, with its path.
    pub(crate) fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        let security = &self.sink.kafka.security;
        [
            ("source.password", &self.source.password),
            ("sink.kafka.security.password", &security.password),
            ("sink.kafka.security.key_password", &security.key_password),
            ("sink.kafka.security.token", &security.token),
            ("admin.token", &self.admin.token),
        ]
        .into_iter()
        .filter_map(|(path, secret)| secret.as_ref().map(|secret| (path, secret)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_of_the_key_table_is_listed() {
        fn count(keys: &[Key], path: &str, found: &mut Vec<String>) {
            for key in keys {
                let path = join(path, key.name);
                match key.form {
                    Form::Section(inner) | Form::Sections(inner) => count(inner, &path, found),
                    Form::Secret => found.push(path),
                    _ => {}
                }
            }
        }
        let mut found = Vec::new();
        count(Settings::KEYS, "", &mut found);
        let mut settings = Settings::default();
        let secret = || Some(Secret::from_text("x"));
        settings.source.password = secret();
        settings.sink.kafka.security.password = secret();
        settings.sink.kafka.security.key_password = secret();
        settings.sink.kafka.security.token = secret();
        settings.admin.token = secret();
        let listed: Vec<&str> = settings.secrets().into_iter().map(|(path, _)| path).collect();
        assert_eq!(listed, found);
    }
}
