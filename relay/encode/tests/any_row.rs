//! Whatever a row holds, a capture makes JSON of it or says poison: it never panics, and never writes half a document.

use proptest::prelude::*;
use relay_core::catalog::{Catalog, CatalogColumn};
use relay_core::change::OldRow;
use relay_core::{Cell, Change, Column, Event, Oid, PoisonReason, Position, Relation, ReplicaIdentity, Row, Transaction};
use relay_encode::{CapturePlan, CaptureSettings, Captures, Context, Encoded, FormatSettings, Marker};

/// bool, bytea, "char", name, int8, int2, int4, text, oid, json, xml, point, path, polygon, float4, float8, money, macaddr, inet, int4[],
/// text[], bpchar, varchar, date, time, timestamp, timestamptz, interval, timetz, bit, varbit, numeric, uuid, tsvector, jsonb, int4range,
/// and one that nobody knows.
const TYPES: [u32; 37] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 600, 602, 604, 700, 701, 790, 829, 869, 1007, 1009, 1042, 1043, 1082, 1083,
    1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3614, 3802, 3904, 99_999,
];

/// One cell before it lies in a row.
#[derive(Clone, Debug)]
enum Content {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

fn content() -> impl Strategy<Value = Content> {
    let looks_right = prop_oneof![
        Just("t"),
        Just("-12.50"),
        Just("NaN"),
        Just("2024-02-29 12:00:00.5+01"),
        Just("infinity"),
        Just("{1,NULL,\"a\"}"),
        Just("{{1}}"),
        Just("(1,2)"),
        Just("\\xff00"),
        Just("1 year -2 days"),
        Just("$1,234.50"),
        Just("0101"),
        Just("12:30:00+02"),
    ];
    prop_oneof![
        1 => Just(Content::Null),
        1 => Just(Content::Unchanged),
        4 => looks_right.prop_map(|text| Content::Text(text.into())),
        2 => any::<String>().prop_map(|text| Content::Text(text.into_bytes())),
        2 => proptest::collection::vec(any::<u8>(), 0..12).prop_map(Content::Text),
        1 => proptest::collection::vec(any::<u8>(), 0..4).prop_map(Content::Binary),
    ]
}

type Contents = Vec<Content>;

fn row(contents: &Contents) -> (Vec<u8>, Vec<Cell>) {
    let mut bytes = Vec::new();
    let cells = contents.iter().map(|content| {
        let start = bytes.len() as u32;
        match content {
            Content::Null => Cell::Null,
            Content::Unchanged => Cell::Unchanged,
            Content::Text(text) => {
                bytes.extend_from_slice(text);
                Cell::Text { start, len: text.len() as u32 }
            }
            Content::Binary(text) => {
                bytes.extend_from_slice(text);
                Cell::Binary { start, len: text.len() as u32 }
            }
        }
    });
    let cells = cells.collect();
    (bytes, cells)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_row_is_json_or_poison(
        columns in proptest::collection::vec(
            (proptest::sample::select(&TYPES[..]), any::<bool>(), any::<bool>(), content(), content()),
            0..7,
        ),
        format in proptest::sample::select(&["debezium", "flat", "cloudevents"][..]),
        (is_debezium, schemas, is_structured, is_full) in any::<(bool, bool, bool, bool)>(),
        invalid_utf8 in proptest::sample::select(&["poison", "replace", "base64"][..]),
        operation in 0..3,
        length in 0..8usize,
    ) {
        let settings = FormatSettings {
            pipeline: "p".into(),
            compat: if is_debezium { "debezium" } else { "relay" }.into(),
            cloudevents_mode: if is_structured { "structured" } else { "binary" }.into(),
            schemas,
            invalid_utf8: invalid_utf8.into(),
            ..FormatSettings::default()
        };
        let mut capture = CaptureSettings { format: format.into(), mask: vec![("*.c1".into(), "truncate:2".into())], ..Default::default() };
        capture.flat.delete = "rewrite".into();
        let captures = Captures::new(vec![capture], &settings).expect("legal");
        let name = |index: usize| format!("c{index}").into_boxed_str();
        let column = |(index, (oid, is_key, ..)): (usize, &(u32, bool, bool, Content, Content))| Column {
            name: name(index), type_oid: Oid(*oid), type_modifier: -1, type_name: None, is_key: *is_key,
        };
        let relation = Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: "t".into(),
            identity: if is_full { ReplicaIdentity::Full } else { ReplicaIdentity::Default },
            columns: columns.iter().enumerate().map(column).collect(),
        };
        let known = |(index, (_, _, is_nullable, ..)): (usize, &(u32, bool, bool, Content, Content))| CatalogColumn {
            name: name(index), is_nullable: *is_nullable, default: None,
        };
        let catalog = Catalog { columns: columns.iter().enumerate().map(known).collect(), ..Catalog::default() };
        let plan = CapturePlan::compile(captures.table(&relation).expect("captured"), &relation, &catalog, "db").expect("compiles");
        // A row may be shorter than its relation says.
        let (old_contents, new_contents): (Contents, Contents) =
            columns.iter().map(|column| (column.3.clone(), column.4.clone())).take(length).unzip();
        let ((old_bytes, old_cells), (new_bytes, new_cells)) = (row(&old_contents), row(&new_contents));
        let (old, new) = (Row::new(&old_bytes, &old_cells), Row::new(&new_bytes, &new_cells));
        let old = if is_full { OldRow::Full(old) } else { OldRow::Key(old) };
        let change = match operation {
            0 => Change::Insert { relation: &relation, new },
            1 => Change::Update { relation: &relation, old: Some(old), new },
            _ => Change::Delete { relation: &relation, old },
        };
        let context = Context {
            transaction: Transaction::default(),
            pos: Position::default().into(),
            lsn: Default::default(),
            previous_end: None,
            origin: None,
            now_ns: -1,
            marker: Marker::Streamed,
            order: None,
        };
        prop_assert!(plan.records(&change) <= 2);
        let mut event = Event::default();
        for part in 0..3 {
            let encoded = plan.encode(&context, &change, part, &mut event);
            let documents = [event.key(), event.value()];
            for document in documents.into_iter().flatten() {
                let parsed = serde_json::from_slice::<serde_json::Value>(document);
                prop_assert!(parsed.is_ok(), "{parsed:?}: {}", String::from_utf8_lossy(document));
            }
            if let Err(poison) = &encoded {
                prop_assert_eq!(event.value(), None);
                prop_assert!(invalid_utf8 == "poison" || poison.reason != PoisonReason::Utf8);
            }
            if encoded != Ok(Encoded::More) {
                break;
            }
        }
    }
}
