//! Writes samples in the text format of Prometheus.

use std::fmt::{Display, Write as _};

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

use super::histogram::Observed;
use super::name::Definition;

/// A text under way. Unlike the exporter's registry, it can leave a sample out again.
#[derive(Debug)]
pub(super) struct Sheet {
    text: String,
    pipeline: String,
}

// === impl Sheet ===

impl Sheet {
    /// Goes on behind what was rendered so far.
    pub(super) fn after(text: String, pipeline: &str) -> Self {
        Self { text, pipeline: sanitize_label_value(pipeline) }
    }

    /// A metric without labels.
    pub(super) fn one(&mut self, definition: &Definition, value: impl Display) {
        self.head(definition);
        self.sample(definition, &[], value);
        self.text.push('\n');
    }

    /// A metric without labels that is absent when its value is not known.
    pub(super) fn known(&mut self, definition: &Definition, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(definition, value);
        }
    }

    /// A metric with one label.
    pub(super) fn each<'a, V: Display>(&mut self, definition: &Definition, samples: impl IntoIterator<Item = (&'a str, V)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.head(definition);
        for (label, value) in samples {
            self.sample(definition, &[label], value);
        }
        self.text.push('\n');
    }

    /// A metric whose value is always 1 and whose labels tell.
    pub(super) fn info(&mut self, definition: &Definition, labels: &[&str]) {
        self.head(definition);
        self.sample(definition, labels, 1);
        self.text.push('\n');
    }

    /// A histogram without labels.
    pub(super) fn histogram(&mut self, definition: &Definition, observed: &Observed) {
        self.head(definition);
        let (name, pipeline) = (definition.name, &self.pipeline);
        for (bound, count) in &observed.buckets {
            let _ = writeln!(self.text, "{name}_bucket{{pipeline=\"{pipeline}\",le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.text, "{name}_bucket{{pipeline=\"{pipeline}\",le=\"+Inf\"}} {}", observed.count);
        let _ = writeln!(self.text, "{name}_sum{{pipeline=\"{pipeline}\"}} {}", observed.sum_seconds);
        let _ = writeln!(self.text, "{name}_count{{pipeline=\"{pipeline}\"}} {}\n", observed.count);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, definition: &Definition) {
        write_help_line(&mut self.text, definition.name, None, None, definition.meaning);
        write_type_line(&mut self.text, definition.name, None, None, definition.shape.word());
    }

    fn sample(&mut self, definition: &Definition, labels: &[&str], value: impl Display) {
        debug_assert_eq!(definition.labels.len(), labels.len(), "{}", definition.name);
        let _ = write!(self.text, "{}{{pipeline=\"{}\"", definition.name, self.pipeline);
        for (name, value) in definition.labels.iter().zip(labels) {
            let _ = write!(self.text, ",{name}=\"{}\"", sanitize_label_value(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}
