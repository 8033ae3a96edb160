//! Turns the key table into `docs/reference/config.md` and the sample `relay.toml`, and holds both to it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::effective::quoted;
use super::environment::variable_name;
use super::load::inspect_texts;
use super::not_yet::{NOT_YET, Takes};
use super::properties::DENIED;
use super::schema::{Form, Initial, Key, Section};
use super::source_text::SourceText;
use super::strict::join;
use super::{Inputs, Settings, inspect};

const SAMPLE_TOP: &str = "\
# relay.toml: one pipeline, from one PostgreSQL database to Kafka.
#
# The lines that count are few. Every other key stands here as a comment, `#key = value`, with its default or, where it has none,
# an example.
# Each key can also be given as a variable (source.url = RELAY__SOURCE__URL) or as a flag (--set source.url=...).
# `relay check relay.toml` reads this file without a connection. What each key means: docs/reference/config.md.
";

const REFERENCE_TOP: &str = "\
# Configuration

This page is written from the key table that relay itself reads (`RELAY_BLESS=1 cargo test -p relay` writes it anew), so it
cannot say anything else than the program does. A complete file with comments is `relay.toml` at the top of the repository.

## How a value is found

Later wins: defaults, then the files given with `-c` in their order, then the environment, then `--set`. Tables are joined key
by key; a list, `[[outbox]]` too, is replaced as a whole. Unknown keys are errors, with the nearest known key as a hint.

| where | spelling of `source.log.slot` |
|---|---|
| file | `slot = \"relay_orders\"` under `[source.log]` |
| environment | `RELAY__SOURCE__LOG__SLOT=relay_orders` |
| flag | `--set source.log.slot=relay_orders` |

In the environment a list is one text with commas. `RELAY__SINK__KAFKA__PROPERTIES` takes one inline table, and
`RELAY__SINK__KAFKA__PROPERTIES__linger__ms` one property, where `__` stands for a dot. `[[outbox]]` and `[[capture]]` cannot be
reached from the environment. A variable that begins with `RELAY__` and names no key is an error.

**Durations** are text with a unit: `us`, `ms`, `s`, `m`, `h`, `d`. **Sizes** too: `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`,
`TB`, `TiB`, where `kB` is 1000 and `KiB` 1024 bytes. A number without a unit is an error.

A **secret** `x` can be given as `x`, as `x_file` (a path, preferred; read again when relay reconnects) or as `x_env` (the name
of a variable); only one of the three in one file. The text stands for itself: `${…}` is not replaced.

A value that this version does not implement is an error (R0105), never accepted and ignored; those keys are marked below. All
keys are there since version 0.1.0.

## Checking a file

`relay check FILE…` reads files without a connection and prints everything that is wrong with them at once; also TOML blocks in
Markdown files. Without `FILE` it reads what `relay run` would read. `--print-effective` prints the whole configuration,
`--show-origins` who set each value. Exit codes: 0, 3 with errors, 4 with warnings alone under `--deny-warnings`.

| code | meaning |
|---|---|
| R0101 | the text is not TOML |
| R0102 | an unknown key or variable |
| R0103 | a value of the wrong type or form |
| R0104 | settings that contradict each other, or a promise |
| R0105 | a value that this version does not implement |
| R0106 | a file that cannot be read |
";

/// The reference page.
fn reference() -> String {
    let mut out = REFERENCE_TOP.to_owned();
    out.push_str("\n## Top level\n");
    write_keys(Settings::KEYS, "", "", &mut out);
    out.push_str("\n## Refused properties\n\nThese librdkafka properties are refused in `[sink.kafka.properties]`. ");
    out.push_str("`sink.kafka.unsafe = true` lifts the refusal, with a warning for as long as it stands.\n\n");
    out.push_str("| property | why | cure |\n|---|---|---|\n");
    for denied in DENIED {
        let except = match denied.harmless {
            [] => String::new(),
            values => format!(" (except {})", values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")),
        };
        let _ = writeln!(out, "| `{}`{except} | {} | {} |", denied.name, denied.reason, denied.hint);
    }
    out
}

fn write_keys(keys: &'static [Key], path: &str, plain: &str, out: &mut String) {
    out.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in keys.iter().filter(|key| !matches!(key.form, Form::Section(_) | Form::Sections(_))) {
        let meaning = format!("{}{}", key.doc.trim(), not_yet(&join(plain, key.name)));
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, kind(key), initial(key), meaning.replace('|', "\\|"));
    }
    for key in keys {
        let plain = join(plain, key.name);
        let (path, inner, header) = match key.form {
            Form::Section(inner) => (join(path, key.name), inner, format!("[{}]", join(path, key.name))),
            Form::Sections(inner) => (join(path, key.name), inner, format!("[[{}]]", join(path, key.name))),
            _ => continue,
        };
        let _ = write!(out, "\n## `{header}`\n\n{}{}\n", key.doc.trim(), not_yet(&plain));
        if matches!(key.form, Form::Section(_)) && !plain.starts_with("capture") {
            let _ = writeln!(out, "\nVariables begin with `{}__`.", variable_name(&plain));
        }
        if inner.iter().any(|key| !matches!(key.form, Form::Section(_))) {
            write_keys(inner, &path, &plain, out);
        }
    }
}

fn kind(key: &Key) -> String {
    let or_none = |has_none: bool| if has_none { ", or `\"none\"`" } else { "" };
    let words = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    match key.form {
        Form::Text(what) => what.to_owned(),
        Form::Choice(list) => words(list),
        Form::ChoiceOrDuration(list) => format!("{}, or a duration", words(list)),
        Form::Integer => "integer".to_owned(),
        Form::Flag => "`true`, `false`".to_owned(),
        Form::Duration(has_none) => format!("duration{}", or_none(has_none)),
        Form::Size(has_none) => format!("size{}", or_none(has_none)),
        Form::List => "list of texts".to_owned(),
        Form::ListOrText => "list of texts, or text with commas".to_owned(),
        Form::Map => "table".to_owned(),
        Form::Secret => "secret".to_owned(),
        Form::Section(_) | Form::Sections(_) => String::new(),
    }
}

fn initial(key: &Key) -> String {
    match key.initial {
        Initial::Required => "**required**".to_owned(),
        Initial::Unset(words) | Initial::Derived(words) => words.to_owned(),
        Initial::Empty => "empty".to_owned(),
        _ => format!("`{}`", default_toml(key).unwrap_or_default()),
    }
}

/// The default as TOML, where there is one.
fn default_toml(key: &Key) -> Option<String> {
    match key.initial {
        Initial::Text(text) => Some(quoted(text)),
        Initial::Number(number) => Some(number.to_string()),
        Initial::Flag(is_set) => Some(is_set.to_string()),
        Initial::List(items) => Some(format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))),
        _ => None,
    }
}

fn not_yet(path: &str) -> String {
    match NOT_YET.iter().find(|rule| rule.key == path).map(|rule| rule.takes) {
        Some(Takes::Default) => " *Not in this version.*".to_owned(),
        Some(Takes::Words(words)) => {
            format!(
                " *In this version only {}.*",
                words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
            )
        }
        None => String::new(),
    }
}

// === the sample ===

/// The lines of the sample that are no comments.
const LIVE: &[(&str, &str)] = &[
    ("name", "\"orders\""),
    ("source.url", "\"postgres://relay@localhost:5432/shop\""),
    ("outbox.table", "\"public.outbox\""),
    ("outbox.preset", "\"relay\""),
    ("sink.kafka.brokers", "\"localhost:9092\""),
];

/// Values for keys without default: what they could say.
const EXAMPLES: &[(&str, &str)] = &[
    ("source.password", "\"/run/secrets/relay/postgres\""),
    ("source.log.slot", "\"relay_orders\""),
    ("source.log.publication", "\"relay_orders\""),
    ("format.topic_prefix", "\"orders\""),
    ("format.position_header", "true"),
    ("sink.kafka.security.password", "\"/run/secrets/relay/kafka\""),
    ("sink.kafka.security.ca_file", "\"/etc/ssl/kafka-ca.pem\""),
    ("sink.kafka.security.certificate_file", "\"/etc/ssl/relay.pem\""),
    ("sink.kafka.security.key_file", "\"/run/secrets/relay/key.pem\""),
    ("sink.kafka.security.key_password", "\"/run/secrets/relay/key\""),
    ("sink.kafka.security.token", "\"/run/secrets/relay/token\""),
    ("admin.token", "\"/run/secrets/relay/admin\""),
    ("capture.flat.add_fields", "[\"op\", \"lsn\", \"ts_ms\"]"),
    ("outbox.message", "\"outbox\""),
    ("outbox.match", "\"published_at is null\""),
    ("outbox.id", "\"id\""),
    ("outbox.topic", "\"{topic} ?? outbox.event.{aggregate_type}\""),
    ("outbox.topic_from", "\"aggregate_type\""),
    ("outbox.topic_match", "\"(.*)\""),
    ("outbox.key", "\"key\""),
    ("outbox.value", "\"payload\""),
    ("outbox.value_encoding", "\"auto\""),
    ("outbox.headers", "[\"type\", \"{headers}\"]"),
    ("outbox.type", "\"type\""),
    ("outbox.timestamp", "\"created_at\""),
    ("outbox.partition", "\"\""),
    ("outbox.traceparent", "\"traceparent\""),
    ("outbox.tracestate", "\"\""),
    ("outbox.baggage", "\"\""),
    ("outbox.trace_properties", "\"\""),
    ("outbox.envelope", "[]"),
    ("outbox.schema_version", "\"\""),
    ("outbox.missing_columns", "\"error\""),
    ("outbox.tombstone_on_null", "false"),
    ("outbox.on_update", "\"ignore\""),
    ("outbox.on_scheduled", "\"poison\""),
    ("outbox.after_publish", "\"keep\""),
    ("outbox.order", "\"tick(xid, seq)\""),
    ("outbox.dataschema", "\"\""),
    ("outbox.source_name", "\"shop\""),
    ("outbox.retention", "\"7d\""),
    ("outbox.outbox_id", "0"),
];

/// The annotated sample.
fn sample() -> String {
    let mut out = SAMPLE_TOP.to_owned();
    write_sample(Settings::KEYS, "", "", &mut out);
    out
}

fn write_sample(keys: &'static [Key], path: &str, plain: &str, out: &mut String) {
    for key in keys.iter().filter(|key| !matches!(key.form, Form::Section(_) | Form::Sections(_) | Form::Map)) {
        let plain = join(plain, key.name);
        // What this version refuses in any form has no place in a sample.
        if NOT_YET.iter().any(|rule| rule.key == plain && matches!(rule.takes, Takes::Default)) {
            continue;
        }
        let value = |list: &[(&str, &str)]| list.iter().find(|(known, _)| *known == plain).map(|(_, value)| (*value).to_owned());
        let name = format!("{}{}", key.name, if matches!(key.form, Form::Secret) { "_file" } else { "" });
        let words = match key.form {
            Form::Choice(words) if !words.contains(&"") => {
                format!(" One of {}.", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        let only = not_yet(&plain).replace('*', "");
        out.push('\n');
        write_comment(&format!("{}{}{only}", key.doc.trim(), if only.is_empty() { words } else { String::new() }), out);
        match value(LIVE) {
            Some(value) => out.push_str(&format!("{name} = {value}\n")),
            None => {
                let value = value(EXAMPLES).or_else(|| default_toml(key));
                let value = value.unwrap_or_else(|| panic!("{plain} needs an example"));
                out.push_str(&format!("#{name} = {value}\n"));
            }
        }
    }
    for key in keys {
        let (path, plain) = (join(path, key.name), join(plain, key.name));
        if NOT_YET.iter().any(|rule| rule.key == plain) {
            continue;
        }
        match key.form {
            Form::Section(inner) => {
                let mut body = String::new();
                write_sample(inner, &path, &plain, &mut body);
                if !body.is_empty() {
                    write_header(&format!("{}[{path}]", mark(&plain)), key.doc, out);
                    out.push_str(&body);
                }
            }
            Form::Sections(inner) => {
                write_header(&format!("{}[[{path}]]", mark(&plain)), key.doc, out);
                write_sample(inner, &path, &plain, out);
            }
            // An empty router would choose another preset.
            Form::Map if plain == "outbox.router" => {
                out.push('\n');
                write_comment(key.doc.trim(), out);
                out.push_str("#router = { \"route.by.field\" = \"aggregatetype\" }\n");
            }
            Form::Map => {
                write_header(&format!("{}[{path}]", mark(&plain)), key.doc, out);
                let entry = match plain.as_str() {
                    "sink.kafka.properties" => "\"compression.type\" = \"lz4\"",
                    "capture.columns.mask" => "\"public.users.email\" = \"sha256:salt\"",
                    _ => "\"table.field.event.key\" = \"key\"",
                };
                out.push_str(&format!("\n#{entry}\n"));
            }
            _ => {}
        }
    }
}

/// A capture in the sample would capture: the outbox is what it shows.
fn mark(plain: &str) -> &'static str {
    if plain.starts_with("capture") { "#" } else { "" }
}

fn write_header(header: &str, doc: &str, out: &mut String) {
    out.push_str("\n\n");
    write_comment(doc.trim(), out);
    out.push_str(&format!("{header}\n"));
}

fn write_comment(text: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in text.replace('`', "").split_whitespace() {
        if line.chars().count() + word.chars().count() >= 110 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

// === the tests ===

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

/// Compares a file with what it should be; `RELAY_BLESS=1` writes it.
fn hold(path: &str, wanted: &str) {
    let file = repository().join(path);
    if std::env::var_os("RELAY_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is not what the key table says; `RELAY_BLESS=1 cargo test -p relay` writes it");
}

#[test]
fn the_reference_is_the_key_table() {
    hold("docs/reference/config.md", &reference());
}

#[test]
fn the_sample_is_the_key_table_and_passes() {
    hold("relay.toml", &sample());
    let found = inspect(&Inputs { files: vec![repository().join("relay.toml")], ..Inputs::default() });
    assert_eq!(found.report.text(false), "");
    assert_eq!(found.settings.name, "orders");
}

#[test]
fn every_default_of_the_sample_can_be_written_out() {
    let text: String = sample()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // `message` and TLS on a plaintext listener are alternatives to what the sample says.
            Some(key)
                if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
                    && !["message", "topic_match", "ca_file", "certificate_file", "key_file", "match", "router"]
                        .iter()
                        .any(|name| key.starts_with(name)) =>
            {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let found = inspect_texts(vec![SourceText::new("relay.toml".to_owned(), text)], Vec::new(), &[], &[]);
    assert_eq!(found.report.text(false), "");
}
