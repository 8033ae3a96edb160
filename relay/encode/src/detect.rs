//! Which preset fits a table, going by the names and types of its columns.

mod rename;
mod shape;
mod signature;

pub use rename::{Renamed, renamed};
pub use shape::{Shape, shape};

use signature::SIGNATURES;

/// A table as its catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// Names and types, as `format_type` prints them.
    pub columns: Vec<(String, String)>,
}

/// How well something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// No preset, but it looks like an outbox.
    Shape,
    /// All names, though in another case; or one type differs.
    Close,
    /// All names and types.
    Exact,
}

/// What was found out about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The preset; `None` for a mere shape.
    pub preset: Option<&'static str>,
    /// How well.
    pub grade: Grade,
    /// The same in per cent; exact is 100.
    pub percent: u8,
    /// The preset's columns that the table does not have under that very name.
    pub missing: Vec<&'static str>,
    /// What differs, one text for each column.
    pub differences: Vec<String>,
    /// Another preset that only the rows can tell apart.
    pub variant: Option<Variant>,
}

/// A preset for tables of the same columns, where a payload is the forwarder's envelope: see [`is_forwarder_payload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The column to look into.
    pub column: String,
    /// The preset.
    pub preset: &'static str,
}

/// What the table fits, the best first; nothing when it does not even look like an outbox.
#[must_use]
pub fn detect(candidate: &Candidate) -> Vec<Fit> {
    let mut fits: Vec<Fit> = SIGNATURES.iter().filter_map(|signature| signature.fit(candidate)).collect();
    // The sort is stable: of equal grades the more specific signature stays in front.
    fits.sort_by_key(|fit| std::cmp::Reverse((fit.grade, fit.percent)));
    if fits.is_empty() && shape(candidate).is_some() {
        let (missing, differences) = (Vec::new(), Vec::new());
        fits.push(Fit { preset: None, grade: Grade::Shape, percent: 50, missing, differences, variant: None });
    }
    fits
}

/// Whether a payload of a watermill table is the forwarder's envelope.
#[must_use]
pub fn is_forwarder_payload(payload: &[u8]) -> bool {
    let Ok(document) = crate::json::document(payload) else { return false };
    let Some(members) = crate::json::members(document) else { return false };
    members.flatten().any(|member| crate::json::stands_for(member.name, b"destination_topic"))
}

/// Whether a text is a JSON object, as headers are.
#[must_use]
pub fn is_json_object(text: &[u8]) -> bool {
    crate::json::document(text).is_ok_and(|document| crate::json::members(document).is_some())
}

/// Lower case, without underscores.
fn folded(name: &str) -> String {
    name.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(schema: &str, table: &str, columns: &[(&str, &str)]) -> Candidate {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        Candidate { schema: schema.to_owned(), table: table.to_owned(), columns }
    }

    #[test]
    fn the_more_specific_preset_wins() {
        let mut columns = vec![
            ("id", "uuid"),
            ("aggregatetype", "character varying(255)"),
            ("aggregateid", "character varying(255)"),
            ("type", "character varying(255)"),
            ("payload", "jsonb"),
        ];
        let best = |columns: &[(&str, &str)]| detect(&candidate("public", "outboxevent", columns))[0].clone();
        assert_eq!((best(&columns).preset, best(&columns).percent), (Some("debezium"), 100));
        columns.push(("tracingspancontext", "character varying(256)"));
        assert_eq!(best(&columns).preset, Some("debezium-quarkus"));
    }

    #[test]
    fn case_and_one_type_make_it_close() {
        let columns = [("AggregateType", "text"), ("AggregateId", "text"), ("Type", "text"), ("Payload", "json")];
        let fit = &detect(&candidate("public", "OutboxEvent", &columns))[0];
        assert_eq!((fit.preset, fit.grade), (Some("debezium"), Grade::Close));
        assert!(fit.percent < 100 && fit.differences.iter().any(|text| text.contains("AggregateType")));
        let columns = [("msg_id", "bigint"), ("vt", "date"), ("message", "jsonb")];
        let fit = &detect(&candidate("pgmq", "q_orders", &columns))[0];
        assert_eq!(
            (fit.preset, fit.grade, fit.differences.as_slice()),
            (Some("pgmq"), Grade::Close, &["`vt` is date".to_owned()][..])
        );
        assert!(detect(&candidate("public", "q_orders", &columns)).is_empty(), "the schema is part of the signature");
    }

    #[test]
    fn a_shape_is_no_preset_and_an_ordinary_table_is_nothing() {
        let shape =
            candidate("public", "messages", &[("id", "uuid"), ("destination", "text"), ("body", "jsonb"), ("headers", "jsonb")]);
        assert_eq!(detect(&shape)[0].preset, None);
        assert!(detect(&candidate("public", "customers", &[("id", "uuid"), ("name", "text"), ("data", "jsonb")])).is_empty());
        assert!(
            is_forwarder_payload(br#"{"destination_topic":"a"}"#)
                && !is_forwarder_payload(b"{\"a\":1}")
                && !is_forwarder_payload(b"{")
        );
    }
}
