//! Debezium's CloudEvents as those of the specification's binding to Kafka, which are relay's (D17).

use super::golden::Line;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Structured<'a> {
    iodebeziumop: &'a str,
    iodebeziumschema: &'a str,
    iodebeziumtable: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The record as the binary mode has it: data is the value, everything else stands in headers.
#[track_caller]
pub(super) fn binary(mut line: Line) -> Line {
    let Some(value) = line.value.as_deref() else { return line };
    let structured: Structured<'_> = serde_json::from_str(value).unwrap_or_else(|e| panic!("{e}: {value}"));
    let operation = match structured.iodebeziumop {
        "c" => "created",
        "u" => "updated",
        "d" => "deleted",
        "r" => "read",
        "t" => "truncated",
        other => panic!("an operation {other}"),
    };
    let kind = format!("srv.{}.{}.{operation}", structured.iodebeziumschema, structured.iodebeziumtable);
    let data = structured.data.get().to_owned();
    let attributes = [
        ("content-type", Some("application/json")),
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some("-")),
        ("ce_source", Some("/relay/srv")),
        ("ce_type", Some(kind.as_str())),
        ("ce_time", Some("-")),
        ("ce_subject", line.key.as_deref()),
        ("ce_sequence", Some("-")),
    ];
    let attributes = attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Some(value?.to_owned()))));
    line.headers.extend(attributes);
    line.value = Some(data);
    line
}
