//! Turns tracing events into log lines on stderr: JSON, logfmt, or text for a terminal.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::cli::{Flags, LogFormatFlag};
use crate::settings::{LogFormat, Settings};
use crate::{clock, status};

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text on a terminal, else JSON.
    Auto,
    /// `2026-03-01T09:30:00.123Z  WARN event message key=value`.
    Text,
    /// One object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `log.level` is neither a level nor a list of filters.
    #[error("`{0}` is not a log level; use error, warn, info, debug or trace, or filters such as `info,relay_kafka=debug`")]
    Level(String),
    /// A log was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Writes each event as one line, with one write.
struct Lines<W> {
    format: Format,
    pipeline: String,
    write: W,
}

/// What an event carries. `fields` is already in the line's format and lacks what has a fixed place.
#[derive(Debug)]
struct Line {
    format: Format,
    message: String,
    has_message: bool,
    event: String,
    fields: String,
}

/// A value, as far as its type decides how it is written.
enum Value<'a> {
    Plain(fmt::Arguments<'a>),
    Text(&'a str),
}

/// Sets up the log as settings and flags want it.
pub(crate) fn start(flags: &Flags, settings: &Settings) -> Result<(), Error> {
    let format = match (flags.log_format, settings.log.format) {
        (Some(LogFormatFlag::Text), _) | (None, LogFormat::Text) => Format::Text,
        (Some(LogFormatFlag::Json), _) | (None, LogFormat::Json) => Format::Json,
        (Some(LogFormatFlag::Logfmt), _) | (None, LogFormat::Logfmt) => Format::Logfmt,
        (None, LogFormat::Auto) => Format::Auto,
    };
    let level = shifted(&settings.log.level, i32::from(flags.verbose) - i32::from(flags.quiet));
    init(&level, format, &settings.name)
}

/// Sets up the log of the process: everything goes to stderr.
///
/// `level` is `log.level`, as it comes out of [`shifted`] when `-v` or `-q` were given.
pub(crate) fn init(level: &str, format: Format, pipeline: &str) -> Result<(), Error> {
    let filter = targets(level)?;
    let format = format.resolved(io::stderr().is_terminal());
    let write = |line: &str| {
        // There is nowhere left to report that stderr is gone.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    };
    let lines = Lines { format, pipeline: pipeline.to_owned(), write };
    tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter))).map_err(|_| Error::Twice)
}

/// The level after so many `-v` (positive) or `-q` (negative); filters for single targets stay as they are.
pub(crate) fn shifted(level: &str, steps: i32) -> String {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    if steps == 0 {
        return level.to_owned();
    }
    let shift = |part: &str| {
        let at = LEVELS.iter().position(|name| name.eq_ignore_ascii_case(part.trim()))?;
        // However quiet, errors are still told.
        let to = (at as i32).saturating_add(steps).clamp(1, 5) as usize;
        Some(LEVELS[to])
    };
    let parts: Vec<&str> = level.split(',').map(|part| shift(part).unwrap_or(part)).collect();
    parts.join(",")
}

fn targets(level: &str) -> Result<Targets, Error> {
    let bad = || Error::Level(level.to_owned());
    let is_level =
        |text: &str| ["off", "error", "warn", "info", "debug", "trace"].iter().any(|name| name.eq_ignore_ascii_case(text));
    // A bare word that is no level would be taken as a target with everything on: most likely a level with a typing error.
    if level.split(',').any(|part| !is_level(part.trim().rsplit('=').next().unwrap_or(part))) {
        return Err(bad());
    }
    level.split(',').map(str::trim).collect::<Vec<_>>().join(",").parse().map_err(|_| bad())
}

// === impl Format ===

impl Format {
    fn resolved(self, is_terminal: bool) -> Self {
        match self {
            Self::Auto if is_terminal => Self::Text,
            Self::Auto => Self::Json,
            fixed => fixed,
        }
    }
}

// === impl Lines ===

impl<W> fmt::Debug for Lines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("format", &self.format).field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static OUT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let mut line = Line::new(self.format);
        event.record(&mut line);
        let metadata = event.metadata();
        OUT.with_borrow_mut(|out| {
            out.clear();
            line.render(out, status::unix_us(), *metadata.level(), metadata.target(), &self.pipeline);
            (self.write)(out);
        });
    }
}

// === impl Line ===

impl Line {
    fn new(format: Format) -> Self {
        Self { format, message: String::new(), has_message: false, event: String::new(), fields: String::new() }
    }

    fn render(&self, out: &mut String, unix_us: i64, level: Level, target: &str, pipeline: &str) {
        let ts = clock::rfc3339(unix_us);
        match self.format {
            Format::Json => {
                let _ = write!(out, "{{\"ts\":\"{ts}\",\"level\":\"{}\",\"msg\":", name(level));
                quote(out, &self.message);
                out.push_str(",\"target\":");
                quote(out, target);
                if !self.event.is_empty() {
                    out.push_str(",\"event\":");
                    quote(out, &self.event);
                }
                out.push_str(",\"pipeline\":");
                quote(out, pipeline);
                out.push_str(&self.fields);
                out.push('}');
            }
            Format::Logfmt => {
                let _ = write!(out, "ts={ts} level={} msg=", name(level));
                bare_or_quoted(out, &self.message);
                out.push_str(" target=");
                bare_or_quoted(out, target);
                if !self.event.is_empty() {
                    out.push_str(" event=");
                    bare_or_quoted(out, &self.event);
                }
                out.push_str(" pipeline=");
                bare_or_quoted(out, pipeline);
                out.push_str(&self.fields);
            }
            Format::Text | Format::Auto => {
                let _ = write!(out, "{ts} {level:>5} ");
                if !self.event.is_empty() {
                    escape(out, &self.event);
                    out.push(' ');
                }
                escape(out, &self.message);
                out.push_str(&self.fields);
            }
        }
        out.push('\n');
    }

    fn add(&mut self, field: &Field, value: &Value<'_>) {
        let key = field.name().strip_prefix("r#").unwrap_or(field.name());
        match (key, value) {
            // The literal of `warn!("…")` comes first; a field of the same name (`warn!(message, "…")`) is a cause.
            ("message", _) if !self.has_message => {
                self.has_message = true;
                value.append_to(&mut self.message);
            }
            ("message", _) => self.push("cause", value),
            ("event", Value::Text(text)) => self.event = (*text).to_owned(),
            ("ts" | "level" | "msg" | "target" | "event" | "pipeline", _) => self.push(&format!("field.{key}"), value),
            _ => self.push(key, value),
        }
    }

    fn push(&mut self, key: &str, value: &Value<'_>) {
        if self.format == Format::Json {
            self.fields.push(',');
            quote(&mut self.fields, key);
            self.fields.push(':');
        } else {
            self.fields.push(' ');
            bare_or_quoted(&mut self.fields, key);
            self.fields.push('=');
        }
        match value {
            Value::Plain(plain) => {
                let _ = self.fields.write_fmt(*plain);
            }
            Value::Text(text) if self.format == Format::Json => quote(&mut self.fields, text),
            Value::Text(text) => bare_or_quoted(&mut self.fields, text),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &Value::Text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &Value::Text(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(chain, ": {cause}");
            source = cause.source();
        }
        self.add(field, &Value::Text(&chain));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &Value::Plain(format_args!("{value}")));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &Value::Plain(format_args!("{value}")));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field, &Value::Plain(format_args!("{value}")));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field, &Value::Plain(format_args!("{value}")));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &Value::Plain(format_args!("{value}")));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.add(field, &Value::Plain(format_args!("{value}"))),
            // JSON has no word for these.
            false => self.add(field, &Value::Text(&value.to_string())),
        }
    }
}

// === impl Value ===

impl Value<'_> {
    fn append_to(&self, text: &mut String) {
        let _ = match self {
            Value::Plain(plain) => text.write_fmt(*plain),
            Value::Text(value) => text.write_str(value),
        };
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A JSON string, which the value part of logfmt understands too.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c => push_harmless(out, c),
        }
    }
    out.push('"');
}

fn bare_or_quoted(out: &mut String, text: &str) {
    let is_bare = |c: char| !c.is_whitespace() && !is_harmful(c) && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(is_bare) { out.push_str(text) } else { quote(out, text) }
}

/// Text that stays on its line and leaves the terminal alone.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        push_harmless(out, c);
    }
}

fn push_harmless(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_harmful(c) => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => out.push(c),
    }
}

/// Controls of both kinds (ESC and the one-byte CSI among them), line separators, and what turns the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
