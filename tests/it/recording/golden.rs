//! Turns records into the lines of a golden file and back: what varies between runs is replaced, everything else kept to the byte.
//!
//! A file of `tests/golden/debezium` holds one JSON document a line:
//!
//! - `{"topic":..,"key":..,"value":..,"headers":[[name, value],..]}` is a record. Key and value stand as they are, byte for byte; a
//!   member that is missing is null bytes, and what is no JSON stands as `keyText`, `valueText`.
//! - `{"topic":..,"keySchema":..}` and `valueSchema`: the next records of this topic are `{"schema":<that>,"payload":<what is shown>}`.
//! - `{"source":..}`: `"source":"$first"` in a value means that object, with the snapshot marker, the topic's schema and table put in.
//! - `{"context":..}`: `"$context"` among the headers means these.
//!
//! Records of one topic stand in their order. Replaced in recordings and in relay's records alike ([`normal`]): the topic prefix by
//! `srv`; every number of `ts_ms`, `ts_us`, `ts_ns`, `lsn` and `txId` by 0; `sequence` by `[null,"0"]`; transaction ids by `0:0`; the
//! same fields of CloudEvents and of the flat format, with the prefixes that those put before them; `time` and `id` of a CloudEvent;
//! the hash of Java's
//! objects; the order of `data_collections`, which is theirs; the values of the headers
//! `__debezium.context.runId`, `ce_id`, `ce_time` and `ce_sequence` by `-`.

use relay_tests::consumer::Rec;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A record, normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    /// With the prefix `srv`.
    pub(crate) topic: String,
    /// `None` is null bytes.
    pub(crate) key: Option<String>,
    /// `None` is null bytes.
    pub(crate) value: Option<String>,
    /// Names and values, in order.
    pub(crate) headers: Vec<(String, Option<String>)>,
}

#[derive(Deserialize)]
pub(super) struct Wrapped<'a> {
    #[serde(borrow)]
    pub(super) schema: &'a RawValue,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<'a> {
    topic: Option<String>,
    #[serde(borrow, default, deserialize_with = "there")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    value: Option<&'a RawValue>,
    key_text: Option<String>,
    value_text: Option<String>,
    headers: Option<Vec<serde_json::Value>>,
    #[serde(borrow, default, deserialize_with = "there")]
    key_schema: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    value_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    context: Option<Vec<(String, String)>>,
}

/// A member that is there, be it `null`.
fn there<'a, D: serde::Deserializer<'a>>(member: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(member).map(Some)
}

/// What stands for numbers that no two runs share, by the end of their names.
const NUMBERS: [&str; 6] = ["ts_ms", "ts_us", "ts_ns", "lsn", "LSN", "txId"];
/// A source as Debezium writes it, with the places that a file's records fill.
const SOURCE: &str = concat!(
    r#"{"version":"3.7.0.Final","connector":"postgresql","name":"srv","ts_ms":0,"snapshot":"$snapshot","db":"postgres","#,
    r#""sequence":"[null,\"0\"]","ts_us":0,"ts_ns":0,"schema":"$schema","table":"$table","txId":0,"lsn":0,"xmin":null,"#,
    r#""origin":null,"origin_lsn":null}"#
);
/// The headers that Debezium puts on the records of one task.
const CONTEXT: [(&str, &str); 4] = [
    ("__debezium.context.connectorLogicalName", "srv"),
    ("__debezium.context.taskId", "0"),
    ("__debezium.context.connectorName", "postgresql"),
    ("__debezium.context.runId", "-"),
];

// === impl Line ===

impl Line {
    /// A record whose topic begins with `prefix`, normalised.
    #[track_caller]
    pub(crate) fn of(record: &Rec, prefix: &str) -> Line {
        let text = |bytes: &[u8]| normal(std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{e}: {record:?}")), prefix);
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let value = value.as_deref().map(text);
            let is_number = NUMBERS.iter().any(|number| name.ends_with(number)) && !name.ends_with("origin_lsn");
            let value = match name.as_str() {
                "__debezium.context.runId" | "ce_id" | "ce_time" | "ce_sequence" => Some("-".to_owned()),
                _ if is_number && value.is_some() => Some("0".to_owned()),
                _ => value,
            };
            (name.clone(), value)
        };
        Line {
            topic: record.topic.replace(prefix, "srv"),
            key: record.key.as_deref().map(text),
            value: record.value.as_deref().map(text),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    /// The record without the headers that only Debezium, or only relay, puts on it when relay is not told to be compatible (D12).
    pub(crate) fn bare(mut self) -> Line {
        self.headers.retain(|(name, _)| !name.starts_with("__debezium.context.") && !name.starts_with("relay-"));
        self
    }

    /// Schema and table as the topic has them.
    fn table(&self) -> (&str, &str) {
        let rest = self.topic.strip_prefix("srv.").unwrap_or_default();
        rest.split_once('.').unwrap_or((rest, ""))
    }

    fn source(&self, snapshot: &str) -> String {
        let (schema, table) = self.table();
        SOURCE.replace("$snapshot", snapshot).replace("$schema", schema).replace("$table", table)
    }

    /// The value with its source as a word, when that is what it would be.
    fn shortened(&self, value: &str) -> String {
        for snapshot in ["first", "first_in_data_collection", "true", "last_in_data_collection", "last", "false"] {
            let source = format!("\"source\":{}", self.source(snapshot));
            if value.contains(&source) {
                return value.replacen(&source, &format!("\"source\":\"${snapshot}\""), 1);
            }
        }
        value.to_owned()
    }

    fn lengthened(&self, value: &str) -> String {
        let Some((before, rest)) = value.split_once("\"source\":\"$") else { return value.to_owned() };
        let (snapshot, after) = rest.split_once('"').expect("the end of a marker");
        format!("{before}\"source\":{}{after}", self.source(snapshot))
    }
}

/// Writes a file.
pub(crate) fn write(lines: &[Line]) -> String {
    let context: Vec<_> = CONTEXT.iter().collect();
    let mut out = format!("{{\"source\":{SOURCE}}}\n{{\"context\":{}}}\n", json(&context));
    let mut schemas: BTreeMap<(String, &str), String> = BTreeMap::new();
    for line in lines {
        let (mut members, mut fresh) = (String::new(), String::new());
        for (part, text) in [("key", &line.key), ("value", &line.value)] {
            let Some(text) = text else { continue };
            let mut payload = text.as_str();
            if let Some(Wrapped { schema, payload: inner }) = unwrapped(text) {
                let known = schemas.insert((line.topic.clone(), part), schema.get().to_owned());
                if known.as_deref() != Some(schema.get()) {
                    fresh.push_str(&format!("{{\"topic\":{},\"{part}Schema\":{}}}\n", json(&line.topic), schema.get()));
                }
                payload = inner.get();
            } else if schemas.remove(&(line.topic.clone(), part)).is_some() {
                fresh.push_str(&format!("{{\"topic\":{},\"{part}Schema\":null}}\n", json(&line.topic)));
            }
            match serde_json::from_str::<&RawValue>(payload) {
                Ok(_) => members.push_str(&format!(",\"{part}\":{}", line.shortened(payload))),
                Err(_) => members.push_str(&format!(",\"{part}Text\":{}", json(payload))),
            }
        }
        let mut headers: Vec<String> = line.headers.iter().map(json).collect();
        let context: Vec<String> = CONTEXT.iter().map(json).collect();
        if let Some(at) = headers.windows(4).position(|four| four == context) {
            headers.splice(at..at + 4, ["\"$context\"".to_owned()]);
        }
        out.push_str(&format!("{fresh}{{\"topic\":{}{members},\"headers\":[{}]}}\n", json(&line.topic), headers.join(",")));
    }
    out
}

/// Reads a file.
#[track_caller]
pub(crate) fn read(text: &str) -> Vec<Line> {
    let (mut lines, mut schemas) = (Vec::new(), BTreeMap::new());
    for (at, text) in text.lines().enumerate() {
        let document: Document<'_> = serde_json::from_str(text).unwrap_or_else(|e| panic!("line {}: {e}\n{text}", at + 1));
        if let Some(source) = document.source {
            assert_eq!(source.get(), SOURCE, "the source of this file");
        } else if let Some(context) = &document.context {
            assert_eq!(json(context), json(&CONTEXT), "the context of this file");
        } else if let Some(topic) = document.topic {
            let mut is_schema = false;
            for (part, schema) in [("key", document.key_schema), ("value", document.value_schema)] {
                if let Some(schema) = schema {
                    schemas.insert((topic.clone(), part), schema.get().to_owned());
                    is_schema = true;
                }
            }
            if is_schema {
                continue;
            }
            let headers = document.headers.unwrap_or_default().into_iter().flat_map(|header| match header {
                serde_json::Value::String(_) => CONTEXT.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).to_vec(),
                pair => vec![serde_json::from_value(pair).expect("a name and a value")],
            });
            let mut line = Line { topic, key: None, value: None, headers: headers.collect() };
            let whole = |line: &Line, part: &'static str, raw: Option<&RawValue>, text: Option<String>| {
                let payload = raw.map(|raw| line.lengthened(raw.get())).or(text)?;
                let schema = schemas.get(&(line.topic.clone(), part)).filter(|schema| *schema != "null");
                Some(schema.map_or(payload.clone(), |schema| format!("{{\"schema\":{schema},\"payload\":{payload}}}")))
            };
            line.key = whole(&line, "key", document.key, document.key_text);
            line.value = whole(&line, "value", document.value, document.value_text);
            lines.push(line);
        }
    }
    lines
}

/// Schema and payload of a document of JsonConverter, when they are all there is in it.
pub(super) fn unwrapped(text: &str) -> Option<Wrapped<'_>> {
    let wrapped: Wrapped<'_> = serde_json::from_str(text).ok()?;
    (format!("{{\"schema\":{},\"payload\":{}}}", wrapped.schema, wrapped.payload) == text).then_some(wrapped)
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("it can be written")
}

/// Replaces what no two runs share; see the head of this file.
pub(crate) fn normal(text: &str, prefix: &str) -> String {
    let mut text = text.replace(prefix, "srv");
    for name in NUMBERS {
        text = replaced(&text, &format!("{name}\":"), |rest| digits(rest).map(|digits| (digits, "0".to_owned())));
    }
    for head in ["\"sequence\":\"[", "\"iodebeziumsequence\":\"[", ";sequence:["] {
        text = replaced(&text, head, |rest| {
            let two = rest.split("]\"").next().unwrap_or_default();
            Some((two.len(), format!("null,{}", if two.ends_with("null") { "null" } else { "\\\"0\\\"" })))
        });
    }
    for head in ["\"id\":\"", "transaction_id\":\"", "\"iodebeziumtxid\":\""] {
        text = replaced(&text, head, |rest| {
            let id = rest.split('"').next().unwrap_or_default();
            let (xid, lsn) = id.split_once(':')?;
            (digits(xid) == Some(xid.len()) && digits(lsn) == Some(lsn.len())).then(|| (id.len(), "0:0".to_owned()))
        });
    }
    text = replaced(&text, "[Ljava.lang.String;@", |rest| Some((rest.find('"')?, "-".to_owned())));
    text = replaced(&text, "LogicalDecodingMessageId@", |rest| Some((rest.find('"')?, "-".to_owned())));
    text = replaced(&text, "\"data_collections\":[", |rest| {
        let list = rest.split(']').next().filter(|list| !list.is_empty())?;
        let mut names: Vec<&str> = list.trim_matches(['{', '}']).split("},{").collect();
        names.sort_unstable();
        Some((list.len(), format!("{{{}}}", names.join("},{"))))
    });
    if text.contains("\"specversion\":") {
        let numbers = ["iodebeziumtsms", "iodebeziumtsus", "iodebeziumtsns", "iodebeziumlsn", "iodebeziumtxId"]
            .map(|name| name.to_owned() + "\":\"");
        for head in numbers.iter().map(String::as_str).chain([";lsn:", ";txId:"]) {
            text = replaced(&text, head, |rest| digits(rest).map(|digits| (digits, "0".to_owned())));
        }
        text = replaced(&text, "\"time\":\"", |rest| Some((rest.find('"')?, "-".to_owned())));
    }
    text
}

/// Puts another text in place of what follows each `head`: of so many bytes, when the rest is what is meant.
fn replaced(text: &str, head: &str, other: impl Fn(&str) -> Option<(usize, String)>) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(head) {
        let (before, after) = rest.split_at(at + head.len());
        out.push_str(before);
        // The commit position at the origin is what the statements say.
        let other = if before.ends_with("\"origin_lsn\":") { None } else { other(after) };
        let (len, other) = other.unwrap_or_default();
        out.push_str(&other);
        rest = &after[len..];
    }
    out + rest
}

/// How many digits a text begins with, if any.
fn digits(text: &str) -> Option<usize> {
    let count = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    (count > 0).then_some(count)
}
