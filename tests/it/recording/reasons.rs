//! Why relay's records may differ from Debezium's: rows of the table of deliberate differences (`docs/captures.md`), place by place.

use super::differences::kind;
use super::golden::{Line, unwrapped};
use super::leaves::Leaf;

/// One place at which two records differ, and what is around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) set: &'a str,
    pub(super) topic: &'a str,
    /// `snapshot` or `stream`.
    pub(super) path: &'static str,
    pub(super) their: Option<&'a Line>,
    pub(super) our: Option<&'a Line>,
    pub(super) leaf: &'a Leaf,
}

/// One reason.
struct Row {
    name: &'static str,
    /// Whether it holds under `compat = "debezium"`, too.
    is_not_restored: bool,
    explains: fn(&Case<'_>) -> bool,
}

const fn always(name: &'static str, explains: fn(&Case<'_>) -> bool) -> Row {
    Row { name, is_not_restored: true, explains }
}

const fn unless_compatible(name: &'static str, explains: fn(&Case<'_>) -> bool) -> Row {
    Row { name, is_not_restored: false, explains }
}

/// The row that lets the place differ.
pub(super) fn allowed(case: &Case<'_>, is_compatible: bool) -> Option<&'static str> {
    ROWS.iter().find(|row| (row.is_not_restored || !is_compatible) && (row.explains)(case)).map(|row| row.name)
}

// === impl Case ===

impl Case<'_> {
    /// Whether the topic is one of these, below `srv.`; `*` stands for anything.
    fn is_of(&self, patterns: &[&str]) -> bool {
        let topic = self.topic.trim_start_matches("srv.");
        patterns.iter().any(|pattern| match pattern.split_once('*') {
            Some((head, tail)) => topic.starts_with(head) && topic.ends_with(tail),
            None => topic == *pattern,
        })
    }

    /// The place below the row, the key, or one of their schemas: the column first.
    fn in_row(&self) -> Option<&str> {
        let (part, rest) = self.leaf.place.split_once('/')?;
        let rest = match part {
            "key" | "keySchema" => return Some(rest),
            "value" | "valueSchema" => rest.strip_prefix("data/").unwrap_or(rest),
            _ => return None,
        };
        Some(rest.strip_prefix("before/").or_else(|| rest.strip_prefix("after/")).unwrap_or(rest))
    }

    /// Whether it is about one of these columns: its value, or its field in a schema.
    fn is_column(&self, names: &[&str]) -> bool {
        let column = self.in_row().map(|place| place.split('/').next().unwrap_or_default());
        column.is_some_and(|column| {
            names.iter().any(|name| name.strip_suffix('*').map_or(column == *name, |head| column.starts_with(head)))
        })
    }

    fn is_schema(&self) -> bool {
        self.leaf.place.starts_with("valueSchema") || self.leaf.place.starts_with("keySchema")
    }

    fn is_default(&self) -> bool {
        self.is_schema() && self.leaf.place.ends_with("/default")
    }

    fn is_record(&self) -> bool {
        self.leaf.place == "record"
    }

    /// Debezium has the whole record, relay does not.
    fn is_missing(&self) -> bool {
        self.is_record() && self.leaf.our.is_none()
    }

    fn their(&self) -> &str {
        self.leaf.their.as_deref().unwrap_or_default()
    }

    fn our(&self) -> &str {
        self.leaf.our.as_deref().unwrap_or_default()
    }

    fn their_value(&self) -> &str {
        self.their.and_then(|line| line.value.as_deref()).unwrap_or_default()
    }

    /// The other key of a change of the key.
    fn is_linked_key(&self) -> bool {
        ["header/__debezium.newkey", "header/__debezium.oldkey"].contains(&self.leaf.place.as_str())
    }

    /// A column of the old row: of `before`, or of the row that a flat record makes of it.
    fn is_old(&self) -> bool {
        let is_deleted = self.their_value().contains("\"__deleted\":\"true\"");
        self.leaf.place.starts_with("value/before/") || (self.leaf.place.starts_with("value/") && is_deleted)
    }

    /// Whether relay's key has the column at hand.
    fn is_in_key(&self) -> bool {
        let key = self.our.and_then(|line| line.key.as_deref()).unwrap_or_default();
        let key = unwrapped(key).map_or(key, |wrapped| wrapped.payload.get());
        self.in_row().is_some_and(|column| key.contains(&format!("\"{column}\":")))
    }

    /// What the schema of Debezium's record says of the column at hand, as JSON.
    fn their_field(&self) -> Option<serde_json::Value> {
        let value: serde_json::Value = serde_json::from_str(self.their_value()).ok()?;
        let column = self.in_row()?.split('/').next()?;
        let fields = value.get("schema")?.get("fields")?.as_array()?;
        let named = |fields: &[serde_json::Value], name: &str| fields.iter().find(|field| field["field"] == *name).cloned();
        match named(fields, "after") {
            Some(after) => named(after["fields"].as_array()?, column),
            None => named(fields, column),
        }
    }

    /// Whether the column at hand may be null.
    fn is_nullable(&self) -> bool {
        self.their_field().is_some_and(|field| field["optional"] == true)
    }
}

fn is_json_equal(one: &str, other: &str) -> bool {
    // A document within a document, in the default mode.
    let read = |text: &str| {
        let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let inside = |value: serde_json::Value| value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(value);
        value.map(|value| match value {
            serde_json::Value::Array(list) => list.into_iter().map(inside).collect(),
            value => inside(value),
        })
    };
    read(one).is_some() && read(one) == read(other)
}

/// Tables by partial or nullable unique indexes.
const UNKEYED: [&str; 2] = ["changes.by_partial", "changes.by_nullable"];
const KEYED_ELSEWHERE: [&str; 1] = ["changes.keyed_elsewhere"];

/// A key that one has and the other has not, and what comes of it: deletion and creation in place of an update.
fn follows_from_key(case: &Case<'_>) -> bool {
    let place = case.leaf.place.as_str();
    let is_order = place.starts_with("value/transaction/") || place.starts_with("value/iodebeziumtx");
    let is_operation = place.ends_with("/__op") && (case.their(), case.our()) == ("\"c\"", "\"u\"");
    let is_key = ["key", "keySchema", "header/ce_subject"].contains(&place) || case.is_linked_key();
    is_key || case.is_record() || is_order || is_operation
}

/// The END record of a transaction that changed one of these tables alone.
fn is_end_of(case: &Case<'_>, tables: &[&str]) -> bool {
    let is_count = ["value/event_count", "value/data_collections"].contains(&case.leaf.place.as_str());
    case.is_of(&["transaction"]) && is_count && tables.iter().any(|table| case.their_value().contains(table))
}

/// The END record with the names that Debezium has for messages put right.
fn names_messages(case: &Case<'_>) -> bool {
    const NAME: &str = "io.debezium.connector.postgresql.LogicalDecodingMessageMonitor$LogicalDecodingMessageId@-";
    let mut list: Vec<serde_json::Value> =
        serde_json::from_str(&case.their().replace(NAME, "LOGICAL_DECODING_MESSAGE")).unwrap_or_default();
    let mut our: Vec<serde_json::Value> = serde_json::from_str(case.our()).unwrap_or_default();
    list.sort_by_key(ToString::to_string);
    our.sort_by_key(ToString::to_string);
    case.leaf.place == "value/data_collections" && case.their().contains(NAME) && list == our
}

/// The reasons, in the order in which they are tried.
const ROWS: &[Row] = &[
    // Poison in relay's way: the record is parked. Told to be compatible: null, where Debezium has null, or a number that wrapped round.
    unless_compatible("D3", |case| {
        case.is_missing() && case.is_of(&["types.beyond_*", "types.special_*", "types.farmoment_*", "types.emptybit_*"])
    }),
    always("D3", |case| case.is_of(&["types.beyond_*"]) && case.is_column(&["ts*"]) && case.our() == "null"),
    // The last two seconds of the range: what fits is kept.
    always("D3", |case| case.is_of(&["types.farmoment_*"]) && case.is_column(&["ts"]) && case.their() == "null"),
    always("D13", |case| case.is_of(&["types.toast"]) && case.is_column(&["bytea"]) && case.their() == "null"),
    always("D16", |case| {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let is_order = case.leaf.place.ends_with("/hstore/order") && names(case.their()) == names(case.our());
        case.is_of(&["types.hstores_*"]) && (is_order || is_json_equal(case.their(), case.our()))
    }),
    always("D19", |case| {
        case.is_of(&["types.name_*"]) && case.is_column(&["name"]) && case.their() == "null" && !case.our().is_empty()
    }),
    always("D20", |case| {
        let is_time = case.is_of(&["types.midnight_*", "types.date_array"]) && case.is_column(&["time*"]);
        is_time && !case.their().is_empty() && !case.our().is_empty()
    }),
    always("D21", |case| {
        let is_date = case.is_of(&["types.farday_*"]) && case.is_column(&["date"]);
        let is_moment = case.is_of(&["types.moment_array"]) && case.is_column(&["tz*"]);
        let is_either = case.path == "snapshot" || case.topic.ends_with("_array") || case.topic.ends_with("_default");
        (is_date || is_moment) && is_either && !case.their().is_empty() && !case.our().is_empty()
    }),
    always("D21", |case| {
        let is_generated = case.is_of(&["changes.generated"]) && case.is_column(&["twice"]);
        is_generated && case.path == "snapshot" && case.leaf.our.is_none()
    }),
    always("D22", |case| {
        let is_other = case.set == "changes-root";
        let is_twice = case.is_missing() && (!is_other || !case.is_of(&["changes.parts"]));
        let is_marker = case.leaf.place == "value/source/snapshot" && is_other;
        case.is_of(&["changes.parts", "changes.parts_*"]) && case.path == "snapshot" && (is_twice || is_marker)
    }),
    always("D23", |case| case.is_of(&["types.negative_*"]) && case.is_column(&["n5_m2"])),
    always("D24", |case| {
        let is_bits = case.is_of(&["types.bit_array"]) && case.is_column(&["bit*"]);
        let is_vector = case.is_of(&["types.vectors_*"]) && case.is_column(&["int2vector", "oidvector"]);
        let is_nested = case.is_of(&["types.nested"]) && (case.is_missing() || case.our() == "null");
        (is_bits || is_vector || is_nested) && case.leaf.their.is_some() | case.is_schema()
    }),
    always("D25", |case| {
        let is_key = case.leaf.place.starts_with("key") || case.leaf.place == "header/ce_subject" || case.is_linked_key();
        case.is_of(&["changes.by_index"]) && is_key
    }),
    always("D26", |case| (case.is_of(&UNKEYED) && follows_from_key(case)) || is_end_of(case, &UNKEYED)),
    always("D29", names_messages),
    // What Debezium knows arrays of, but not those values in them: null in place of the array.
    always("D9", |case| {
        let is_array = case.is_of(&["types.*_array"]) && case.in_row().is_some_and(|place| !place.contains('/'));
        is_array && case.their() == "null" && case.our().starts_with('[') && !case.is_schema()
    }),
    always("D9", |case| {
        let is_items = case.is_schema() && case.leaf.place.ends_with("/items/optional");
        // Among them is the column `mood_array` of the table of TOAST.
        is_items && case.is_of(&["types.*_array", "types.toast"]) && (case.their(), case.our()) == ("false", "true")
    }),
    unless_compatible("D9", |case| {
        let is_whole = case.in_row().is_some_and(|place| !place.contains('/'));
        let has_none = case.leaf.place == "keySchema" && case.their() == "[]";
        case.is_of(&["types.*"]) && ((is_whole && case.leaf.their.is_none()) || has_none)
    }),
    unless_compatible("D27", |case| {
        let is_it = case.is_of(&KEYED_ELSEWHERE) && (follows_from_key(case) || case.leaf.place.starts_with("key/"));
        is_it || is_end_of(case, &KEYED_ELSEWHERE)
    }),
    unless_compatible("D5", |case| {
        let is_tombstone = case.their.is_some_and(|line| line.key.is_none() && kind(line) == "tombstone");
        case.is_missing() && is_tombstone && case.is_of(&["changes.keyless"])
    }),
    unless_compatible("D14", |case| {
        case.is_of(&["changes.masked"]) && case.is_column(&["card"]) && (case.their(), case.our()) == ("\"***\"", "null")
    }),
    unless_compatible("D30", |case| {
        case.set.starts_with("flat-") && case.leaf.place.starts_with("value") && case.our.is_some_and(|line| line.value.is_none())
    }),
    unless_compatible("D28", |case| case.is_linked_key() && case.leaf.their.is_some() && case.leaf.our.is_some()),
    // A nullable column: its NULL is none of the default, and the schema does not invite to make it so.
    unless_compatible("D1", |case| {
        let default = case.their_field().map(|field| field["default"].to_string());
        // Where the record has no schema, of the one table that has such a column.
        let is_known = case.is_of(&["changes.required"]) && case.is_column(&["d"]) && case.their() == "5";
        let is_its = default.as_deref() == Some(case.their()) || is_known;
        let is_value = case.in_row().is_some() && !case.is_schema() && case.our() == "null" && is_its;
        let is_schema = case.is_default()
            && case.leaf.our.is_none()
            && (case.is_nullable() || case.leaf.place.starts_with("valueSchema/before/"));
        // Debezium takes the first text in quotes of an expression for its value.
        let is_misread =
            case.is_of(&["types.odd_default"]) && case.is_column(&["expr"]) && case.is_default() && case.leaf.our.is_none();
        is_value || is_schema || is_misread
    }),
    unless_compatible("D2", |case| {
        let is_absent = case.is_old() && case.leaf.our.is_none() && !case.is_in_key();
        // A flat row that stands for a deletion has one schema with all others.
        let part = if case.set == "flat-rewrite" { "valueSchema/" } else { "valueSchema/before/" };
        let place = case.leaf.place.strip_prefix(part);
        let is_schema = place.is_some_and(|place| match place.rsplit_once('/') {
            None => place == "name",
            Some((_, "optional")) => (case.their(), case.our()) == ("false", "true"),
            Some((_, "default")) => case.leaf.our.is_none(),
            Some(_) => false,
        });
        is_absent || is_schema
    }),
    // The tombstone that Debezium lets through names its operation twice.
    unless_compatible("12", |case| {
        case.set == "flat-rewrite-with-tombstone" && case.leaf.place == "header/__op 1" && case.leaf.our.is_none()
    }),
    // What is no row has no CloudEvent of Debezium's: its value is null.
    unless_compatible("D17", |case| {
        let is_no_row = case.is_of(&["message", "transaction"]);
        case.set == "cloudevents" && is_no_row && case.leaf.place == "value" && case.leaf.their.is_none()
    }),
];
