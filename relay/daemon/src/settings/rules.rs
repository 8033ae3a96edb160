//! Turns settings that contradict each other, or promise too little, into findings.

use std::time::Duration;

use relay_core::Kind;

use super::finding::{Finding, Place, Severity};
use super::schema::{Form, Initial, Key, Section};
use super::source_text::printable;
use super::strict::join;
use super::suggest::nearest;
use super::tree::{Node, Origin, Table, Value};
use super::{OnPoison, Settings, SinkKind, SourceLog, capture_rules, outbox_rules, sink_rules};

/// The settings, the tree that they were read from, and what was found so far.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a Settings,
    tree: &'a Table,
    /// The number of the file that a missing key would stand in.
    file: Option<usize>,
    findings: Vec<Finding>,
}

/// The modes that libpq knows.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The longest identifier of PostgreSQL.
const IDENTIFIER_MAX: usize = 63;

/// Durations, sizes and counts that make no sense as zero.
const NOT_ZERO: &[&str] = &[
    "source.poll.interval",
    "source.poll.batch",
    "source.poll.batch_bytes",
    "source.log.max_message",
    "source.log.wal_sender_timeout",
    "source.log.receive_timeout",
    "source.log.spool_memory",
    "format.heartbeat_interval",
    "delivery.in_flight",
    "delivery.in_flight_events",
    "delivery.checkpoint_interval",
    "delivery.idle_checkpoint_interval",
    "delivery.commit_interval",
    "sink.kafka.max_topics",
    "snapshot.threads",
    "snapshot.chunk",
    "admin.not_ready_after",
    "admin.watchdog",
    "admin.label_limit",
];

/// All findings about how the settings fit together.
///
/// `is_whole` says that every file could be read and parsed: else nothing is known about what is missing.
pub(crate) fn rule_findings(settings: &Settings, tree: &Table, file: Option<usize>, is_whole: bool) -> Vec<Finding> {
    let mut rules = Rules { settings, tree, file, findings: Vec::new() };
    if is_whole {
        required(&mut rules, Settings::KEYS, "");
        outbox_rules::nothing(&mut rules);
    }
    name(&mut rules);
    source_url(&mut rules);
    identifiers(&mut rules);
    not_zero(&mut rules);
    timeouts(&mut rules);
    outbox_rules::outboxes(&mut rules);
    capture_rules::captures(&mut rules);
    sink_rules::kafka(&mut rules);
    topics(&mut rules);
    stdout(&mut rules);
    admin(&mut rules);
    rules.findings
}

// === impl Rules ===

impl Rules<'_> {
    /// Adds an error at a key.
    pub(crate) fn error(&mut self, kind: Kind, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, kind, key, message.into(), hint.into());
    }

    /// Adds a warning at a key.
    pub(crate) fn warn(&mut self, kind: Kind, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warn, kind, key, message.into(), hint.into());
    }

    fn add(&mut self, severity: Severity, kind: Kind, key: &str, message: String, hint: String) {
        let finding = Finding { severity, ..Finding::error(kind, message, self.place(key)) }.key(key);
        self.findings.push(finding.hint((!hint.is_empty()).then_some(hint)));
    }

    /// Whether a rule spoke of the key already.
    pub(crate) fn has_finding(&self, key: &str) -> bool {
        self.findings.iter().any(|finding| finding.key.as_deref() == Some(key))
    }

    /// Whether somebody wrote the key.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.node(key).is_some_and(|node| node.at != Origin::Default)
    }

    /// The written value of a key, or of an entry of a map.
    pub(crate) fn node(&self, key: &str) -> Option<&Node> {
        match key.strip_prefix("sink.kafka.properties.") {
            Some(entry) => match &self.tree.find("sink.kafka.properties")?.value {
                Value::Table(map) => map.get(entry),
                _ => None,
            },
            None => self.tree.find(key),
        }
    }

    /// Where a finding about a key points: at its value, else at its section's header, else at the file.
    fn place(&self, key: &str) -> Place {
        let mut path = Some(key);
        while let Some(key) = path {
            if let Some(Node { at: at @ (Origin::File(..) | Origin::Env(_) | Origin::Set(_)), .. }) = self.node(key) {
                return Place::At(at.clone());
            }
            path = key.rsplit_once('.').map(|(section, _)| section);
        }
        self.file.map_or(Place::Nowhere, Place::InFile)
    }
}

/// Keys without default that nobody gave.
fn required(rules: &mut Rules<'_>, keys: &'static [Key], path: &str) {
    for key in keys {
        let path = join(path, key.name);
        match key.form {
            Form::Section(inner) => required(rules, inner, &path),
            _ if key.initial == Initial::Required && rules.node(&path).is_none() => {
                let example = if key.name == "name" { "name = \"orders\"" } else { "url = \"postgres://relay@localhost/shop\"" };
                rules.error(Kind::ConfigValue, &path, format!("`{path}` is missing"), format!("add `{example}`"));
            }
            _ => {}
        }
    }
}

fn name(rules: &mut Rules<'_>) {
    let name = &rules.settings.name;
    let is_legal =
        (1..=50).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if rules.node("name").is_some() && !is_legal {
        let message =
            format!("`{}` is not a pipeline name: 1 to 50 of a-z, 0-9 and _, as in the name of a slot", printable(name));
        rules.error(Kind::ConfigValue, "name", message, "");
    }
}

fn source_url(rules: &mut Rules<'_>) {
    let key = "source.url";
    let settings = rules.settings;
    if rules.node(key).is_none() {
        return;
    }
    let parts = settings.source.url.parts().filter(|parts| matches!(parts.scheme, "postgres" | "postgresql"));
    let Some(parts) = parts else {
        rules.error(Kind::ConfigValue, key, "`source.url` is not a PostgreSQL URL", "write `postgres://user@host:5432/database`");
        return;
    };
    if parts.has_password && settings.source.password.is_some() {
        let hint = "take the password out of the URL";
        rules.error(Kind::ConfigConflict, key, "both `source.url` and `source.password` give a password", hint);
    }
    match parts.parameter("sslmode") {
        Some(mode) if !SSL_MODES.contains(&mode) => {
            let message = format!("`{}` is not an sslmode: {}", printable(mode), SSL_MODES.join(", "));
            let hint =
                nearest(mode, SSL_MODES.into_iter()).map_or(String::new(), |mode| format!("did you mean `sslmode={mode}`?"));
            rules.error(Kind::ConfigValue, key, message, hint);
            return;
        }
        Some(mode @ ("disable" | "allow" | "prefer")) if !parts.is_local() => {
            let message = format!("`sslmode={mode}` lets the connection to another host go without TLS");
            rules.warn(
                Kind::ConfigConflict,
                key,
                message,
                "use `sslmode=verify-full`, or `require` where the certificate cannot be checked",
            );
        }
        _ => {}
    }
    // The connection's own reader knows every parameter; its errors never hold a password.
    if let Err(error) = relay_pgwire::Config::parse(settings.source.url.reveal()) {
        let hint = "docs/operating.md lists the parameters that the URL takes";
        rules.error(Kind::ConfigValue, key, error.to_string(), hint);
    }
}

fn identifiers(rules: &mut Rules<'_>) {
    let log = &rules.settings.source.log;
    let is_slot = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let fits = |name: &str| (1..=IDENTIFIER_MAX).contains(&name.len());
    if rules.is_given("source.log.slot") && !(fits(&log.slot) && is_slot(&log.slot)) {
        let message = format!("`{}` is not a slot name: 1 to 63 of a-z, 0-9 and _", printable(&log.slot));
        rules.error(Kind::ConfigValue, "source.log.slot", message, "");
    }
    if rules.is_given("source.log.publication") && (!fits(&log.publication) || log.publication.contains('\0')) {
        let message = format!("`{}` is not a publication name: 1 to 63 bytes", printable(&log.publication));
        rules.error(Kind::ConfigValue, "source.log.publication", message, "");
    }
}

fn not_zero(rules: &mut Rules<'_>) {
    for key in NOT_ZERO {
        let is_zero = match rules.node(key).map(|node| &node.value) {
            Some(Value::Integer(number)) => *number == 0,
            Some(Value::Text(text)) => {
                text.starts_with('0') && text.trim_matches(|c: char| c == '0' || c.is_alphabetic()).is_empty()
            }
            _ => false,
        };
        if is_zero {
            rules.error(Kind::ConfigValue, key, format!("`{key}` must be more than zero"), "");
        }
    }
    for key in ["sink.kafka.partitions", "sink.kafka.replication_factor"] {
        if let Some(Value::Integer(number)) = rules.node(key).map(|node| &node.value)
            && (*number == 0 || *number < -1)
        {
            rules.error(Kind::ConfigValue, key, format!("`{key}` must be more than zero, or -1 for the broker's default"), "");
        }
    }
}

fn timeouts(rules: &mut Rules<'_>) {
    let log = &rules.settings.source.log;
    // Both at their defaults is what the rule of the half is made for.
    let is_default = log.receive_timeout == SourceLog::default().receive_timeout && log.wal_sender_timeout == log.receive_timeout;
    let is_too_long = log.receive_timeout >= log.wal_sender_timeout && !log.wal_sender_timeout.is_zero();
    if rules.is_given("source.log.receive_timeout") && is_too_long && !is_default {
        let message = format!(
            "`receive_timeout` is not below `wal_sender_timeout`: half of that, {:?}, counts",
            log.effective_receive_timeout()
        );
        rules.warn(Kind::ConfigConflict, "source.log.receive_timeout", message, "set it lower, or `wal_sender_timeout` higher");
    }
    if log.wal_sender_timeout < Duration::from_secs(1) && !log.wal_sender_timeout.is_zero() {
        let message = "`wal_sender_timeout` below a second ends the session at every pause";
        rules.error(Kind::ConfigValue, "source.log.wal_sender_timeout", message, "the default is `\"30s\"`");
    }
    if log.max_message.bytes() < 1 << 10 && log.max_message.bytes() > 0 {
        let message = "`max_message` below `\"1KiB\"` makes every row poison";
        rules.error(Kind::ConfigValue, "source.log.max_message", message, "the default is `\"256MiB\"`");
    }
}

/// The checkpoint and dlq topics.
fn topics(rules: &mut Rules<'_>) {
    let delivery = &rules.settings.delivery;
    for (key, topic) in [("delivery.checkpoint_topic", &delivery.checkpoint_topic), ("delivery.dlq_topic", &delivery.dlq_topic)] {
        if rules.is_given(key) && !sink_rules::is_legal_topic(topic) {
            let message = format!("`{}` is not a topic name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`", printable(topic));
            rules.error(Kind::ConfigValue, key, message, "`{name}` stands for the pipeline's name");
        }
    }
    if sink_rules::collide(&delivery.checkpoint_topic, &delivery.dlq_topic) {
        let message = "the checkpoint and the dlq cannot share a topic, nor differ in `.` and `_` alone";
        rules.error(Kind::ConfigConflict, "delivery.dlq_topic", message, "give each a topic of its own");
    }
}

fn stdout(rules: &mut Rules<'_>) {
    let delivery = &rules.settings.delivery;
    if rules.settings.sink.kind != SinkKind::Stdout {
        return;
    }
    if delivery.guarantee != super::Guarantee::AtLeastOnce {
        let message = "the stdout sink is at-least-once only";
        rules.error(Kind::ConfigConflict, "delivery.guarantee", message, "leave it at `\"at-least-once\"`");
    }
    if !matches!(delivery.on_poison, OnPoison::Stop | OnPoison::Skip) {
        let message = "the stdout sink has no dlq: `on_poison` can only be `stop` or `skip`";
        rules.error(Kind::ConfigConflict, "delivery.on_poison", message, "set it to `\"stop\"` or `\"skip\"`");
    }
}

fn admin(rules: &mut Rules<'_>) {
    let (admin, log) = (&rules.settings.admin, &rules.settings.log);
    if !admin.listen.is_empty() && admin.address().is_none() {
        let message = format!("`{}` is not an address and a port", printable(&admin.listen));
        rules.error(Kind::ConfigValue, "admin.listen", message, "write `\"127.0.0.1:9464\"`, or `\"\"` to switch it off");
    }
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for filter in log.level.split(',') {
        let level = filter.rsplit('=').next().unwrap_or(filter).trim().to_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            let message = format!("`{}` is not a log level: {}", printable(filter), LEVELS.join(", "));
            let hint = nearest(&level, LEVELS.into_iter()).map_or(String::new(), |level| format!("did you mean `{level}`?"));
            rules.error(Kind::ConfigValue, "log.level", message, hint);
        }
    }
}
