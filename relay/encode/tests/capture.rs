//! Golden files of captures: each case describes a table, its capture and a change, and the exact records it must become.
//!
//! The lines of a case are explained in `golden/debezium.txt`. Cases are separated by a line of dashes.

use relay_core::catalog::{Catalog, CatalogColumn};
use relay_core::change::OldRow;
use relay_core::{Cell, Change, Column, Event, Lsn, Oid, Position, Relation, RelayPos, ReplicaIdentity, Row, Transaction, Xid};
use relay_encode::{
    CapturePlan, CaptureSettings, Captures, Context, Encoded, FormatSettings, LogicalMessages, Marker, RecordOrder,
    SnapshotMarker,
};
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::path::Path;

/// What `@source` stands for: the block of table `public.t` with the context of every case.
const SOURCE: &str = concat!(
    r#"{"version":"0.1.0","connector":"postgresql","name":"srv","ts_ms":1755000000123,"snapshot":"false","db":"app","#,
    r#""sequence":"[\"24023119\",\"24023128\"]","ts_us":1755000000123456,"ts_ns":1755000000123456000,"schema":"public","table":"t","#,
    r#""txId":555,"lsn":24023128,"xmin":null,"origin":null,"origin_lsn":null}"#,
);
/// What `@now` stands for.
const NOW: &str = r#""ts_ms":1755000000200,"ts_us":1755000000200111,"ts_ns":1755000000200111222"#;

#[derive(Debug)]
struct Case {
    name: String,
    format: FormatSettings,
    capture: CaptureSettings,
    relation: Relation,
    catalog: Catalog,
    operation: String,
    old: Option<Json>,
    new: Option<Json>,
    marker: Marker,
    order: Option<RecordOrder>,
    origin: Option<(String, u64)>,
    expected: String,
}

fn oid(name: &str) -> u32 {
    let known = [
        ("bool", 16),
        ("bytea", 17),
        ("int8", 20),
        ("int4", 23),
        ("text", 25),
        ("varchar", 1043),
        ("numeric", 1700),
        ("uuid", 2950),
        ("int2[]", 1005),
        ("timestamp[]", 1115),
        ("xid", 28),
    ];
    known.into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("type {name}")).1
}

fn list(value: &str) -> Vec<String> {
    serde_json::from_str(value).unwrap_or_else(|_| panic!("a list of texts: {value}"))
}

// === impl Case ===

impl Case {
    fn parse(text: &str) -> Self {
        let mut case = Self {
            name: String::new(),
            format: FormatSettings { pipeline: "srv".into(), run_id: "run".into(), ..FormatSettings::default() },
            capture: CaptureSettings { tables: vec!["*".into()], ..CaptureSettings::default() },
            relation: Relation {
                oid: Oid(16_400),
                schema: "public".into(),
                name: "t".into(),
                identity: ReplicaIdentity::Default,
                columns: Vec::new(),
            },
            catalog: Catalog::default(),
            operation: String::new(),
            old: None,
            new: None,
            marker: Marker::Streamed,
            order: None,
            origin: None,
            expected: String::new(),
        };
        let mut is_record = false;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            is_record |=
                line == "[record]" || line.starts_with("filtered") || line.starts_with("poison") || line.starts_with("refused");
            if is_record {
                let line = line.replace("@source", SOURCE).replace("@now", NOW);
                let _ = writeln!(case.expected, "{line}");
                continue;
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            case.read(name, value);
        }
        case
    }

    fn read(&mut self, name: &str, value: &str) {
        let json = || serde_json::from_str::<Json>(value).unwrap_or_else(|error| panic!("{value}: {error}"));
        let names = |value: &str| value.split(' ').map(Into::into).collect();
        match name {
            "case" => self.name = value.into(),
            "table" => {
                let (schema, table) = value.split_once('.').expect("schema.table");
                (self.relation.schema, self.relation.name) = (schema.into(), table.into());
            }
            "identity" => {
                self.relation.identity = match value {
                    "full" => ReplicaIdentity::Full,
                    "index" => ReplicaIdentity::Index,
                    "nothing" => ReplicaIdentity::Nothing,
                    _ => ReplicaIdentity::Default,
                }
            }
            "column" => self.read_column(value),
            "primary key" => self.catalog.primary_key = names(value),
            "identity index" => self.catalog.identity_index = names(value),
            "unique index" => self.catalog.unique_index = names(value),
            "insert" | "update" | "delete" | "truncate" | "message" | "read" => {
                self.operation = name.into();
                if name == "delete" { self.old = Some(json()) } else { self.new = Some(json()) }
            }
            "old" => self.old = Some(json()),
            "origin" => self.origin = Some((value.into(), 77)),
            "order" => {
                let (total, in_table) = value.split_once(' ').expect("two numbers");
                let number = |text: &str| text.parse().expect("a number");
                self.order = Some(RecordOrder { total: number(total), in_table: number(in_table) });
            }
            "marker" => {
                self.marker = match value {
                    "first" => Marker::Snapshot(SnapshotMarker::First),
                    "first in table" => Marker::Snapshot(SnapshotMarker::FirstInTable),
                    "last" => Marker::Snapshot(SnapshotMarker::Last),
                    "last in table" => Marker::Snapshot(SnapshotMarker::LastInTable),
                    "incremental" => Marker::Incremental,
                    _ => Marker::Snapshot(SnapshotMarker::Other),
                }
            }
            _ => self.read_setting(name, value),
        }
    }

    /// `name type [key] [notnull] [default expression]`.
    fn read_column(&mut self, text: &str) {
        let (text, default) = text.split_once(" default ").map_or((text, None), |(text, default)| (text, Some(default.into())));
        let mut words = text.split(' ');
        let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
        let flags: Vec<&str> = words.collect();
        let (kind, type_modifier) = match kind.split_once('(') {
            Some((kind, length)) => {
                let numbers = length.trim_end_matches(')').split(',').map(|number| number.parse::<i32>().expect("a number"));
                (kind, 4 + numbers.fold(0, |modifier, number| (modifier << 16) + number))
            }
            None => (kind, -1),
        };
        let is_nullable = !flags.contains(&"notnull");
        self.catalog.columns.push(CatalogColumn { name: name.into(), is_nullable, default });
        self.relation.columns.push(Column {
            name: name.into(),
            type_oid: Oid(oid(kind)),
            type_modifier,
            type_name: None,
            is_key: flags.contains(&"key"),
        });
    }

    fn read_setting(&mut self, name: &str, value: &str) {
        let (format, capture) = (&mut self.format, &mut self.capture);
        let flag = value == "true";
        match name {
            "format.compat" => {
                format.compat = value.into();
                format.position_header = value == "relay";
            }
            "format.schemas" => format.schemas = flag,
            "format.time" => format.time = value.into(),
            "format.tombstones" => format.tombstones = flag,
            "format.source_header" => format.source_header = flag,
            "format.position_header" => format.position_header = flag,
            "format.unavailable_header" => format.unavailable_header = flag,
            "format.cloudevents_mode" => format.cloudevents_mode = value.into(),
            "format.cloudevents_type" => format.cloudevents_type = value.into(),
            "format.cloudevents_partitionkey" => format.cloudevents_partitionkey = flag,
            "format.messages" => format.messages = list(value),
            "format" => capture.format = value.into(),
            "topic" => capture.topic = value.into(),
            "key" => capture.key = list(value),
            "operations" => capture.operations = list(value),
            "filter" => capture.filter = value.into(),
            "partition" => capture.partition = value.into(),
            "key_change" => capture.key_change = value.into(),
            "exclude" => capture.columns_exclude = list(value),
            "mask" => {
                let (column, mask) = value.split_once(' ').expect("column and mask");
                capture.mask.push((column.into(), mask.into()));
            }
            "flat.delete" => capture.flat.delete = value.into(),
            "flat.add_fields" => capture.flat.add_fields = Some(list(value)),
            "flat.add_headers" => capture.flat.add_headers = list(value),
            _ => panic!("{name}: {value}"),
        }
    }

    fn context(&self) -> Context<'_> {
        let lsn = Lsn(24_023_128);
        let commit_lsn = Lsn(0x16_B374_D848);
        Context {
            transaction: Transaction { commit_lsn, commit_time_us: 1_755_000_000_123_456, xid: Xid(555) },
            pos: match self.marker {
                Marker::Streamed if self.operation == "message" && self.old.is_some() => RelayPos::Message(lsn),
                Marker::Streamed => Position { commit_lsn, seq: 3 }.into(),
                _ => RelayPos::Snapshot(lsn),
            },
            lsn,
            previous_end: Some(Lsn(24_023_119)),
            origin: self.origin.as_ref().map(|(name, lsn)| (name.as_str(), Lsn(*lsn))),
            now_ns: 1_755_000_000_200_111_222,
            marker: self.marker,
            order: self.order,
        }
    }

    fn run(&self) -> String {
        let captures = match Captures::new(vec![self.capture.clone()], &self.format) {
            Ok(captures) => captures,
            Err(errors) => return format!("refused: {}\n", errors[0].1),
        };
        let context = self.context();
        let mut event = Event::default();
        if self.operation == "message" {
            let text = |index: usize| self.new.as_ref().and_then(|new| new[index].as_str()).expect("prefix and content");
            let (is_transactional, lsn) = (self.old.is_none(), context.lsn);
            let change = Change::Message { prefix: text(0), content: text(1).as_bytes(), is_transactional, lsn };
            let messages = LogicalMessages::new(&captures, "app");
            assert_eq!(messages.encode(&context, &change, &mut event), Ok(Encoded::Last));
            return print(&event);
        }
        let rule = captures.table(&self.relation).expect("captured");
        let plan = match CapturePlan::compile(rule, &self.relation, &self.catalog, "app") {
            Ok(plan) => plan,
            Err(error) => return format!("refused: {error}\n"),
        };
        let (new_bytes, new_cells) = cells(self.new.as_ref());
        let (old_bytes, old_cells) = cells(self.old.as_ref());
        let (new, old_row) = (Row::new(&new_bytes, &new_cells), Row::new(&old_bytes, &old_cells));
        let is_full = self.relation.identity == ReplicaIdentity::Full;
        let old = || if is_full { OldRow::Full(old_row) } else { OldRow::Key(old_row) };
        let relation = &self.relation;
        let change = match self.operation.as_str() {
            "insert" | "read" => Change::Insert { relation, new },
            "update" => Change::Update { relation, old: self.old.as_ref().map(|_| old()), new },
            "delete" => Change::Delete { relation, old: old() },
            _ => Change::Truncate { relation, is_cascade: false, restarts_identity: false },
        };
        let mut text = String::new();
        for part in 0.. {
            let encoded = plan.encode(&context, &change, part, &mut event);
            match &encoded {
                Ok(Encoded::Filtered(reason)) => text += &format!("filtered: {}\n", reason.name()),
                Err(poison) => {
                    assert_eq!(event.value(), None);
                    text += &format!("poison: {poison}\n");
                }
                Ok(_) => text += &print(&event),
            }
            if encoded != Ok(Encoded::More) {
                break;
            }
        }
        for note in plan.notes() {
            let _ = writeln!(text, "note: {note}");
        }
        for doubt in plan.key_doubts() {
            let _ = writeln!(text, "doubt: {doubt}");
        }
        text
    }
}

/// Texts, null, and `{}` for an unchanged value.
fn cells(row: Option<&Json>) -> (Vec<u8>, Vec<Cell>) {
    let mut bytes = Vec::new();
    let cells = row.and_then(Json::as_array).into_iter().flatten().map(|value| match value {
        Json::Null => Cell::Null,
        Json::String(text) => {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Cell::Text { start, len: text.len() as u32 }
        }
        _ => Cell::Unchanged,
    });
    let cells = cells.collect();
    (bytes, cells)
}

fn print(event: &Event) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map_or("\\N".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"));
    for document in [event.key(), event.value()].into_iter().flatten() {
        serde_json::from_slice::<Json>(document).unwrap_or_else(|error| panic!("{error}: {}", text(Some(document))));
    }
    let mut printed = format!("[record]\ntopic: {}\nkey: {}\nvalue: {}\n", event.topic(), text(event.key()), text(event.value()));
    for (name, value) in event.headers() {
        let _ = writeln!(printed, "header {}: {}", text(Some(name)), text(value));
    }
    if event.timestamp_ms != 1_755_000_000_123 {
        let _ = writeln!(printed, "timestamp: {}", event.timestamp_ms);
    }
    if let Some(partition) = event.partition {
        let _ = writeln!(printed, "partition: {partition}");
    }
    printed
}

#[test]
fn every_golden_change_is_met_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("golden/").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let (mut wrong, mut count) = (String::new(), 0);
    for file in &files {
        let text = std::fs::read_to_string(file).expect("readable");
        for case in text.split("\n----\n").map(Case::parse) {
            count += 1;
            let got = case.run();
            if got != case.expected {
                let _ = write!(wrong, "\n{} / {}\n--- expected\n{}--- got\n{got}", file.display(), case.name, case.expected);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{count} cases in {} files", files.len());
}
