//! Turns everything that is wrong with a configuration into one sorted list, as text with carets or as JSON.

use std::fmt::Write as _;

use relay_core::Kind;
use serde::Serialize;

use super::source_text::SourceText;
use super::tree::Origin;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// relay does not start.
    Error,
    /// relay starts, and somebody should look.
    Warn,
}

/// Where a finding points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a value or key.
    At(Origin),
    /// At a file as a whole, by its number in the list of sources.
    InFile(usize),
    /// At something that is no file, by its name.
    Named(String),
    /// Nowhere in particular.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Carries the code.
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) place: Place,
    /// The full path of the key.
    pub(crate) key: Option<String>,
    /// The cure.
    pub(crate) hint: Option<String>,
}

/// All findings, and the files that they point into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sources: Vec<SourceText>,
    pub(crate) findings: Vec<Finding>,
}

/// A finding as JSON; the names are part of the contract.
#[derive(Debug, Serialize)]
pub(crate) struct FindingRow {
    code: &'static str,
    severity: Severity,
    message: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    key: Option<String>,
    hint: Option<String>,
}

// === impl Finding ===

impl Finding {
    /// Something that relay does not start with.
    pub(crate) fn error(kind: Kind, message: impl Into<String>, place: Place) -> Self {
        Self { kind, severity: Severity::Error, message: message.into(), place, key: None, hint: None }
    }

    /// Something that somebody should look at.
    pub(crate) fn warn(kind: Kind, message: impl Into<String>, place: Place) -> Self {
        Self { severity: Severity::Warn, ..Self::error(kind, message, place) }
    }

    /// Names the key.
    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds the cure, where there is one.
    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

// === impl Report ===

impl Report {
    /// The number of findings that relay does not start with.
    pub(crate) fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// The number of findings that somebody should look at.
    pub(crate) fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }

    /// Puts the findings into the order of the files; equal ones are kept once.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| match &finding.place {
            Place::At(Origin::File(file, span)) => (*file, span.start, finding.severity),
            Place::InFile(file) => (*file, usize::MAX, finding.severity),
            _ => (usize::MAX, 0, finding.severity),
        });
        self.findings.dedup();
    }

    /// Adds the findings and files of another report behind these.
    pub(crate) fn append(&mut self, other: Self) {
        let shift = self.sources.len();
        self.sources.extend(other.sources);
        self.findings.extend(other.findings.into_iter().map(|mut finding| {
            match &mut finding.place {
                Place::At(Origin::File(file, _)) | Place::InFile(file) => *file += shift,
                _ => {}
            }
            finding
        }));
    }

    /// The findings for a screen; colour only adds to what the words say.
    pub(crate) fn text(&self, is_coloured: bool) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            if !out.is_empty() {
                out.push('\n');
            }
            self.write_text(finding, is_coloured, &mut out);
        }
        out
    }

    fn write_text(&self, finding: &Finding, is_coloured: bool, out: &mut String) {
        let (word, colour) = match finding.severity {
            Severity::Error => ("error", "\x1b[1;31m"),
            Severity::Warn => ("warning", "\x1b[1;33m"),
        };
        let (on, off) = if is_coloured { (colour, "\x1b[0m") } else { ("", "") };
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "{on}{word}[{code}]{off}: {message}", code = finding.kind.directive().code, message = finding.message);
        match &finding.place {
            Place::At(Origin::File(file, span)) => {
                if let Some(source) = self.sources.get(*file) {
                    let spot = source.spot(span);
                    let number = spot.line.to_string();
                    let gutter = " ".repeat(number.len());
                    let carets = format!("{}{}", " ".repeat(spot.carets.start), "^".repeat(spot.carets.len()));
                    let _ = writeln!(out, "{gutter}--> {}:{}:{}", source.name, spot.line, spot.column);
                    let _ = writeln!(out, "{number} | {}\n{gutter} | {on}{carets}{off}", spot.shown);
                }
            }
            place => {
                if let Some(name) = self.name_of(place) {
                    let _ = writeln!(out, "  --> {name}");
                }
            }
        }
        if let Some(hint) = &finding.hint {
            let _ = writeln!(out, "\nhint: {hint}");
        }
    }

    /// The name of a place without a line.
    fn name_of(&self, place: &Place) -> Option<String> {
        match place {
            Place::At(Origin::Env(name)) => Some(format!("env {name}")),
            Place::At(Origin::Set(path)) => Some(format!("--set {path}")),
            Place::InFile(file) => self.sources.get(*file).map(|source| source.name.clone()),
            Place::Named(name) => Some(name.clone()),
            Place::At(_) | Place::Nowhere => None,
        }
    }

    /// The findings as JSON.
    pub(crate) fn rows(&self) -> Vec<FindingRow> {
        self.findings.iter().map(|finding| self.row(finding)).collect()
    }

    fn row(&self, finding: &Finding) -> FindingRow {
        let (mut file, mut line, mut column, mut message) = (None, None, None, finding.message.clone());
        match &finding.place {
            Place::At(Origin::File(number, span)) => {
                if let Some(source) = self.sources.get(*number) {
                    let spot = source.spot(span);
                    (file, line, column) = (Some(source.name.clone()), Some(spot.line), Some(spot.column));
                }
            }
            Place::InFile(number) => file = self.sources.get(*number).map(|source| source.name.clone()),
            Place::Named(name) => file = Some(name.clone()),
            place => {
                if let Some(name) = self.name_of(place) {
                    message = format!("{message} ({name})");
                }
            }
        }
        let code = finding.kind.directive().code;
        FindingRow {
            code,
            severity: finding.severity,
            message,
            file,
            line,
            column,
            key: finding.key.clone(),
            hint: finding.hint.clone(),
        }
    }
}
