//! What a few rows of a candidate tell, where its columns leave a choice open; the rows themselves go no further.

use relay_encode::detect::{Fit, is_forwarder_payload, is_json_object, shape};
use relay_encode::{Preset, detect::Candidate};
use relay_postgres::detect::{Look, Table};

use super::super::entry;

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether payloads are a forwarder's envelopes; `None` where no row could tell.
    pub(super) is_envelope: Option<bool>,
    /// The distinct values of the column that the user's own `match` must name.
    pub(super) matches: Vec<String>,
    /// A column with headers as a JSON object that the preset does not read.
    pub(super) headers: Option<String>,
    /// Why no row was looked at.
    pub(super) unread: Option<String>,
}

/// Columns that hold headers in the layouts we know.
const HEADERS: [&str; 4] = ["headers", "metadata", "context", "properties"];

/// The questions that are open for this table.
#[derive(Debug)]
struct Questions {
    envelope: Option<String>,
    matches: Option<&'static str>,
    headers: Option<(String, bool)>,
}

/// Asks the rows, if there is anything to ask and it is allowed.
pub(super) fn ask(table: &Table, fit: &Fit, samples: bool, look: &mut Look) -> Told {
    let questions = Questions::of(table, fit);
    let mut told = Told::default();
    if let Some((column, true)) = &questions.headers {
        told.headers = Some(column.clone());
    }
    let text_headers = questions.headers.as_ref().filter(|(_, is_json)| !is_json).map(|(column, _)| column.as_str());
    let columns = [questions.envelope.as_deref(), questions.matches, text_headers];
    let asked: Vec<&str> = columns.into_iter().flatten().collect();
    if asked.is_empty() {
        return told;
    }
    if !samples {
        told.unread = Some("--no-sample".to_owned());
        return told;
    }
    if !table.may_select {
        told.unread = Some("this role may not SELECT from it".to_owned());
        return told;
    }
    let rows = match look.sample(table, &asked) {
        Ok(rows) => rows,
        Err(error) => {
            // The code alone: what the server says may quote a row.
            let code = match &error {
                relay_postgres::Error::Wire(error) => error.sqlstate().unwrap_or("no answer").to_owned(),
                _ => "no answer".to_owned(),
            };
            told.unread = Some(format!("the server refused ({code})"));
            return told;
        }
    };
    if rows.is_empty() {
        told.unread = Some("it is empty".to_owned());
        return told;
    }
    let place = |column: &str| asked.iter().position(|asked| *asked == column).unwrap_or(usize::MAX);
    if let Some(column) = &questions.envelope {
        let mut values = rows.values(place(column)).peekable();
        told.is_envelope = values.peek().is_some().then(|| values.all(|value| is_forwarder_payload(value.as_bytes())));
    }
    if let Some(column) = questions.matches {
        told.matches = rows.values(place(column)).map(str::to_owned).collect();
        told.matches.sort_unstable();
        told.matches.dedup();
    }
    if let Some(column) = text_headers {
        let mut values = rows.values(place(column)).peekable();
        if values.peek().is_some() && values.all(|value| is_json_object(value.as_bytes())) {
            told.headers = Some(column.to_owned());
        }
    }
    told
}

// === impl Questions ===

impl Questions {
    fn of(table: &Table, fit: &Fit) -> Self {
        let preset = fit.preset.and_then(|name| Preset::find(name).ok());
        let kind = |column: &str| table.types.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.as_str());
        let headers = match preset {
            // Whatever field of the preset reads it, it is spoken for.
            Some(preset) => {
                let read: Vec<String> = entry::defaults(preset).values().map(ToString::to_string).collect();
                HEADERS
                    .iter()
                    .find(|name| kind(name).is_some() && !read.iter().any(|text| text.contains(**name)))
                    .map(|name| (*name).to_owned())
            }
            None => {
                let (schema, name) = (table.relation.schema.to_string(), table.relation.name.to_string());
                shape(&Candidate { schema, table: name, columns: table.types.clone() }).and_then(|shape| shape.headers)
            }
        };
        let headers = headers.and_then(|column| match kind(&column)? {
            "json" | "jsonb" => Some((column, true)),
            "text" => Some((column, false)),
            kind if kind.starts_with("character varying") => Some((column, false)),
            _ => None,
        });
        let matches = preset.map(|preset| preset.requires_match).filter(|column| kind(column).is_some());
        Self { envelope: fit.variant.as_ref().map(|variant| variant.column.clone()), matches, headers }
    }
}
