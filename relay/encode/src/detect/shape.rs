//! A table that fits no preset and yet looks like an outbox, with the part that each of its columns seems to play.

use super::signature::{Family, family_of};
use super::{Candidate, folded};

/// Which column plays which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What becomes the value.
    pub payload: String,
    /// Names the topic, or a part of it.
    pub topic: Option<String>,
    /// The record key.
    pub key: Option<String>,
    /// Headers, as JSON or as text.
    pub headers: Option<String>,
    /// The event's type.
    pub kind: Option<String>,
    /// Names the event.
    pub id: Option<String>,
}

const PAYLOADS: &[&str] = &["payload", "body", "data", "content", "message", "value", "serializedevent", "eventpayload"];
const TOPICS: &[&str] = &["topic", "destination", "aggregatetype", "queuename", "channel"];
const KEYS: &[&str] = &["key", "aggregateid", "partitionkey", "streamid", "streamname"];
const HEADERS: &[&str] = &["headers", "metadata", "properties"];
const TYPES: &[&str] = &["type", "eventtype", "messagetype", "eventname"];
const IDS: &[&str] = &["id", "eventid", "messageid", "uuid"];

/// A payload column and at least two of topic, key, headers and type; `None` for an ordinary table.
#[must_use]
pub fn shape(candidate: &Candidate) -> Option<Shape> {
    // The order of the names counts: the first that the table has.
    let find = |names: &[&str], takes: fn(&str) -> bool| {
        let named = |name: &&str| {
            candidate
                .columns
                .iter()
                .find(|(column, kind)| folded(column) == **name && takes(kind))
                .map(|(column, _)| column.clone())
        };
        names.iter().find_map(named)
    };
    let any = |_: &str| true;
    let is_payload = |kind: &str| matches!(family_of(kind), Some(Family::Text | Family::Json | Family::Bytea));
    let shape = Shape {
        payload: find(PAYLOADS, is_payload)?,
        topic: find(TOPICS, any),
        key: find(KEYS, any),
        headers: find(HEADERS, any),
        kind: find(TYPES, any),
        id: find(IDS, any),
    };
    let signs = [&shape.topic, &shape.key, &shape.headers, &shape.kind];
    (signs.iter().filter(|sign| sign.is_some()).count() >= 2).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_gets_its_part() {
        let columns = [("Id", "uuid"), ("Destination", "text"), ("body", "jsonb"), ("meta_data", "text"), ("data", "date")];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).to_vec();
        let found = shape(&Candidate { schema: "public".into(), table: "x".into(), columns }).expect("a shape");
        assert_eq!((found.payload.as_str(), found.topic.as_deref()), ("body", Some("Destination")));
        assert_eq!((found.headers.as_deref(), found.key, found.kind), (Some("meta_data"), None, None));
        assert_eq!(found.id.as_deref(), Some("Id"));
    }
}
