//! Routes meet tables: what is refused and how it is said, that no row panics, and that buffers keep their size.

use proptest::prelude::*;
use relay_core::change::OldRow;
use relay_core::{
    Cell, Change, Column, Event, Kind, Lsn, Oid, PoisonReason, Position, Relation, ReplicaIdentity, Row, Transaction,
};
use relay_encode::{FilterReason, FormatSettings, MessagePlans, Outcome, Plan, PlanError, Route, RouteError, Routes};
use std::sync::Arc;

const RELAY: [(&str, u32); 11] = [
    ("id", 2950),
    ("topic", 25),
    ("aggregate_type", 25),
    ("key", 25),
    ("type", 25),
    ("payload", 3802),
    ("headers", 3802),
    ("traceparent", 25),
    ("created_at", 1184),
    ("seq", 20),
    ("xid", 5069),
];

fn relation(columns: &[(&str, u32)]) -> Relation {
    let column = |&(name, oid): &(&str, u32)| Column {
        name: name.into(),
        type_oid: Oid(oid),
        type_modifier: -1,
        type_name: None,
        is_key: name == "id",
    };
    Relation {
        oid: Oid(1),
        schema: "public".into(),
        name: "outbox".into(),
        identity: ReplicaIdentity::Default,
        columns: columns.iter().map(column).collect(),
    }
}

fn route(toml: &str) -> Arc<Route> {
    Arc::new(build(toml, &FormatSettings::default()).unwrap_or_else(|errors| panic!("{toml}: {errors:?}")))
}

fn build(toml: &str, format: &FormatSettings) -> Result<Route, Vec<RouteError>> {
    Route::new(toml::from_str(toml).unwrap_or_else(|error| panic!("{toml}: {error}")), format)
}

fn compile(toml: &str, columns: &[(&str, u32)]) -> Result<Plan, PlanError> {
    Plan::compile(&route(toml), &relation(columns))
}

fn cells(values: &[Option<&[u8]>]) -> (Vec<u8>, Vec<Cell>) {
    let mut bytes = Vec::new();
    let cell = |value: &Option<&[u8]>| match value {
        None => Cell::Null,
        Some(text) => {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text);
            Cell::Text { start, len: text.len() as u32 }
        }
    };
    let cells = values.iter().map(cell).collect();
    (bytes, cells)
}

fn without(name: &str) -> Vec<(&'static str, u32)> {
    RELAY.into_iter().filter(|(known, _)| *known != name).collect()
}

fn with_type(name: &str, oid: u32) -> Vec<(&'static str, u32)> {
    RELAY.into_iter().map(|(known, old)| (known, if known == name { oid } else { old })).collect()
}

#[test]
fn a_missing_column_names_table_column_and_the_nearest_name() {
    for (column, field) in [("id", "id"), ("payload", "value"), ("topic", "topic"), ("key", "key"), ("headers", "headers")] {
        let error = compile("", &without(column)).expect_err(column);
        assert_eq!((error.kind, error.field, error.column.as_str()), (Kind::ColumnMissing, field, column));
        assert!(error.to_string().starts_with("public.outbox: "), "{error}");
    }
    let mut pascal = without("payload");
    pascal.push(("Payload", 3802));
    assert!(compile("", &pascal).expect_err("T7").hint.contains("`Payload`"));
    pascal.push(("payloads", 3802));
    assert!(compile("value = \"paylods\"", &pascal).expect_err("typo").hint.contains("`payloads`"));
    compile("", &without("traceparent")).expect("the preset says so");
    assert!(compile("traceparent = \"traceparent\"", &without("traceparent")).is_err());
    compile("headers = [\"nosuch\", \"{nor_this}\"]\nmissing_columns = \"ignore\"", &RELAY).expect("ignored");
    compile("topic = \"{nosuch?} ?? {topic}\"", &RELAY).expect("left out");
    assert!(compile("topic = \"{nosuch?}\"", &RELAY).is_err());
}

#[test]
fn column_types_are_held_against_their_fields() {
    let refused = [
        ("", with_type("payload", 26), "oid"),
        ("", with_type("created_at", 1082), "timestamp"),
        ("partition = \"key\"", RELAY.to_vec(), "smallint"),
        ("value_encoding = \"base64\"", RELAY.to_vec(), "text"),
        ("key = \"payload#/a\"", with_type("payload", 17), "pointer"),
        ("match = \"seq = 'a'\"", RELAY.to_vec(), "text needs"),
        ("match = \"key = 1\"", RELAY.to_vec(), "a number needs"),
    ];
    for (toml, columns, words) in refused {
        let error = compile(toml, &columns).expect_err(toml);
        assert!(error.message.contains(words) && error.kind != Kind::ColumnMissing, "{toml}: {error}");
    }
    assert!(compile("", &with_type("payload", 26)).expect_err("T4").hint.ends_with("TYPE bytea USING lo_get(\"payload\")"));
    for oid in [1114, 1184, 20] {
        compile("", &with_type("created_at", oid)).expect("a time");
    }
}

#[test]
fn what_is_not_implemented_says_so() {
    let later = ["match = \"a = 1 or b = 2\""];
    for toml in later {
        let errors = build(toml, &FormatSettings::default()).expect_err(toml);
        assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [Kind::ConfigNotImplemented], "{toml}: {errors:?}");
    }
}

#[test]
fn wrong_fields_are_named() {
    let wrong = [
        ("id = \"\"", "id"),
        ("topic = \"a b\"", "topic"),
        ("topic = \"__x\"", "topic"),
        ("topic = \"{topic\"", "topic"),
        ("topic = \"{table_suffix}\"", "topic"),
        ("topic_match = \"(\"\ntopic = \"x\"", "topic_match"),
        ("topic_match = \"(?=a)\"\ntopic = \"x\"", "topic_match"),
        ("topic_match = \"a\"", "topic"),
        ("topic_match = \"a\"\ntopic = \"$2\"", "topic"),
        ("key = \"a#b\"", "key"),
        ("headers = [\"a:relay-x\"]", "headers"),
        ("headers = [\"{a\"]", "headers"),
        ("value_encoding = \"hex\"", "value_encoding"),
        ("match = \"a ==\"", "match"),
        ("missing_columns = \"no\"", "missing_columns"),
        ("table = \"a\"\nmessage = \"b\"", "message"),
        ("preset = \"nosuch\"", "preset"),
        ("envelope = [\"{a}\"]", "envelope"),
        ("message = \"m\"\ntopic = \"{table}\"", "topic"),
    ];
    for (toml, field) in wrong {
        let errors = build(toml, &FormatSettings::default()).expect_err(toml);
        assert!(errors.iter().all(|error| error.field == field), "{toml}: {errors:?}");
    }
    let errors = build("id = \"\"\nkey = \"{\"\nvalue_encoding = \"x\"", &FormatSettings::default()).expect_err("three");
    assert_eq!(errors.len(), 3, "all at once: {errors:?}");
}

#[test]
fn the_first_outbox_that_matches_wins() {
    let tables = ["table = \"public.o*\"\nkey = \"a\"", "table = \"*\"\nkey = \"b\"", "message = \"m.*\""];
    let routes = Routes::new(tables.map(|toml| build(toml, &FormatSettings::default()).expect("legal")));
    assert_eq!(routes.table(&relation(&[])).and_then(|route| route.table()), Some("public.o*"));
    let other = Relation { name: "x".into(), ..relation(&[]) };
    assert_eq!(routes.table(&other).and_then(|route| route.table()), Some("*"));
    assert!(routes.message("m.x").is_some() && routes.message("n").is_none());
}

#[test]
fn only_inserts_are_events() {
    let relation = relation(&RELAY);
    let (bytes, cells) = cells(&[None; 11]);
    let row = Row::new(&bytes, &cells);
    let update = Change::Update { relation: &relation, old: None, new: row };
    let delete = Change::Delete { relation: &relation, old: OldRow::Key(row) };
    let truncate = Change::Truncate { relation: &relation, is_cascade: false, restarts_identity: false };
    let outcome = |toml: &str, change: &Change<'_>| {
        let plan = Plan::compile(&route(toml), &relation).expect("compiles");
        plan.encode_change(&Transaction::default(), Position::default().into(), change, 0, &mut Event::default())
    };
    assert_eq!(outcome("", &update), Ok(Outcome::Filtered(FilterReason::MarkerUpdate)));
    assert_eq!(outcome("on_update = \"stop\"", &update), Ok(Outcome::Stop));
    for change in [delete, truncate] {
        assert_eq!(outcome("on_update = \"stop\"", &change), Ok(Outcome::Filtered(FilterReason::Operation)));
    }
}

#[test]
fn a_published_update_takes_from_the_old_row_what_was_not_sent_again() {
    let relation = relation(&RELAY);
    let plan = Plan::compile(&route("on_update = \"publish\""), &relation).expect("compiles");
    let row = |payload| {
        let at = Some(&b"2026-01-05 00:00:00+00"[..]);
        cells(&[Some(b"i"), Some(b"orders"), None, Some(b"k"), Some(b"t"), payload, Some(b"{}"), None, at, None, None])
    };
    let ((old_bytes, old_cells), (bytes, mut cells)) = (row(Some(&b"{}"[..])), row(None));
    cells[5] = Cell::Unchanged;
    let (old, new) = (Row::new(&old_bytes, &old_cells), Row::new(&bytes, &cells));
    let mut event = Event::default();
    let mut encode = |old| {
        let update = Change::Update { relation: &relation, old, new };
        let outcome = plan.encode_change(&Transaction::default(), Position::default().into(), &update, 0, &mut event);
        outcome.map(|outcome| (outcome, event.value().map(<[u8]>::to_vec)))
    };
    assert_eq!(encode(Some(OldRow::Full(old))), Ok((Outcome::Event, Some(b"{}".to_vec()))));
    assert_eq!(encode(None).expect_err("not there").reason, PoisonReason::Encode);
}

#[test]
fn messages_outside_a_transaction_are_ignored_or_refused() {
    let outcome = |preset: &str| {
        let route = build(&format!("message = \"m\"\npreset = \"{preset}\""), &FormatSettings::default()).expect("legal");
        let mut plans = MessagePlans::new(Routes::new([route]));
        assert!(plans.plan("other").expect("no error").is_none());
        let plan = plans.plan("m").expect("compiles").expect("routed");
        plan.encode_message(&Transaction::default(), Position::default().into(), b"{}", false, 0, &mut Event::default())
    };
    assert_eq!(outcome("wal-message"), Ok(Outcome::Filtered(FilterReason::Operation)));
    assert_eq!(outcome("wal-message-debezium").expect_err("refused").reason, PoisonReason::Route);
}

#[test]
fn a_poison_row_leaves_what_was_built_and_no_value() {
    let plan = compile("", &RELAY).expect("compiles");
    let row = |topic: &'static [u8], payload: &'static [u8], at: &'static [u8]| {
        let values = [Some(&b"i"[..]), Some(topic), None, Some(b"k"), Some(b"t"), Some(payload), Some(b"{}"), None, Some(at)];
        cells(&values)
    };
    let cases = [
        (row(b"a b", b"{}", b"2026-01-05 00:00:00+00"), PoisonReason::Route, "a b", 0),
        (row(b"a", b"\xff", b"2026-01-05 00:00:00+00"), PoisonReason::Utf8, "a", 3),
        (row(b"a", b"{}", b"infinity"), PoisonReason::Timestamp, "a", 3),
        (row(b"a", b"{}", b"0044-03-15 00:00:00+00 BC"), PoisonReason::Timestamp, "a", 3),
    ];
    for ((bytes, cells), reason, topic, headers) in cases {
        let mut event = Event::default();
        let outcome = plan.encode(&Transaction::default(), Position::default().into(), &Row::new(&bytes, &cells), 0, &mut event);
        assert_eq!(outcome.expect_err("poison").reason, reason);
        assert_eq!((event.topic(), event.key(), event.value()), (topic, Some(&b"k"[..]), None));
        assert_eq!(event.headers().len(), headers);
        assert_eq!(event.open_piece(), b"");
    }
    // The next good row is not touched by what came before.
    let (bytes, cells) = row(b"a", b"{}", b"2026-01-05 00:00:00+00");
    let mut event = Event::default();
    assert_eq!(
        plan.encode(&Transaction::default(), Position::default().into(), &Row::new(&bytes, &cells), 0, &mut event),
        Ok(Outcome::Event)
    );
}

#[test]
fn an_unchanged_or_short_row_is_poison_and_now_is_the_callers() {
    let plan = compile("", &RELAY).expect("compiles");
    let encode = |cells: &[Cell]| {
        plan.encode(&Transaction::default(), Position::default().into(), &Row::new(b"abc", cells), 0, &mut Event::default())
    };
    assert_eq!(encode(&[Cell::Text { start: 0, len: 1 }; 3]).expect_err("short").reason, PoisonReason::Encode);
    assert_eq!(encode(&[Cell::Unchanged; 11]).expect_err("unchanged").reason, PoisonReason::Encode);

    let format = FormatSettings { record_timestamp: relay_encode::RecordTimestamp::Now, ..FormatSettings::default() };
    let now = Arc::new(build("timestamp = \"\"", &format).expect("legal"));
    assert!(now.needs_now());
    let plan = Plan::compile(&now, &relation(&RELAY)).expect("compiles");
    let (bytes, cells) = cells(&[Some(b"i"), Some(b"a"), None, None, None, None, None, None, None]);
    let mut event = Event::default();
    let outcome = plan.encode(&Transaction::default(), Position::default().into(), &Row::new(&bytes, &cells), 42, &mut event);
    assert_eq!((outcome, event.timestamp_ms), (Ok(Outcome::Event), 42));
}

#[test]
fn buffers_keep_their_size_from_the_second_row_on() {
    for toml in ["", "topic_match = \"(.*)\"\ntopic = \"$1.x\"\nenvelope = [\"seq\"]"] {
        let plan = compile(toml, &RELAY).expect("compiles");
        let (bytes, cells) = cells(&[
            Some(b"018f4c2e-7b1a-7c3d-8e4f-0123456789ab"),
            Some(b"orders"),
            Some(b"order"),
            Some(b"o-1"),
            Some(b"Placed"),
            Some(br#"{"id": "o-1"}"#),
            Some(br#"{"a": "1", "b\u00e4": "x\"y"}"#),
            Some(b"00-x"),
            Some(b"2026-01-05 00:00:00+00"),
            Some(b"7"),
            Some(b"812"),
        ]);
        let row = Row::new(&bytes, &cells);
        let mut event = Event::default();
        let encode = |event: &mut Event| {
            assert_eq!(plan.encode(&Transaction::default(), Position::default().into(), &row, 0, event), Ok(Outcome::Event));
            (event.out().capacity(), event.out().as_ptr())
        };
        let first = encode(&mut event);
        for _ in 0..1_000 {
            assert_eq!(encode(&mut event), first);
        }
    }
}

fn value_of(
    toml: &str,
    format: &FormatSettings,
    columns: &[(&str, u32)],
    texts: &[Option<&[u8]>],
) -> Result<String, PoisonReason> {
    let plan = Plan::compile(&Arc::new(build(toml, format).expect("legal")), &relation(columns)).expect("compiles");
    let (bytes, cells) = cells(texts);
    let mut event = Event::default();
    let row = Row::new(&bytes, &cells);
    let outcome = plan.encode(&Transaction::default(), Position::default().into(), &row, 0, &mut event);
    assert_eq!(outcome.map_err(|poison| poison.reason)?, Outcome::Event);
    Ok(format!(
        "{} {}",
        String::from_utf8_lossy(event.key().unwrap_or_default()),
        String::from_utf8_lossy(event.value().expect("a value"))
    ))
}

#[test]
fn text_that_is_not_utf8_goes_the_way_the_format_says() {
    let columns = [("id", 25), ("aggregatetype", 25), ("aggregateid", 25), ("type", 25), ("payload", 114)];
    let toml = "preset = \"debezium\"\ntable = \"public.outbox\"\nenvelope = [\"type\"]";
    let value = |policy: &str, payload: &[u8]| {
        let format = FormatSettings { invalid_utf8: policy.to_owned(), pipeline: "p".to_owned(), ..FormatSettings::default() };
        value_of(toml, &format, &columns, &[Some(b"i"), Some(b"a"), Some(b"k\xFF"), Some(b"t\xFF"), Some(payload)])
    };
    assert_eq!(value("poison", b"{}"), Err(PoisonReason::Utf8));
    assert_eq!(
        value("replace", b"{\"a\":\"\xFF\"}"),
        Ok("k\u{FFFD} {\"payload\":{\"a\":\"\u{FFFD}\"},\"type\":\"t\u{FFFD}\"}".into())
    );
    assert_eq!(value("base64", b"\"\xFF\""), Ok("a/8= {\"payload\":\"Iv8i\",\"type\":\"dP8=\"}".into()));
    let word = FormatSettings { invalid_utf8: "drop".to_owned(), ..FormatSettings::default() };
    assert!(build(toml, &word).is_err());
}

#[test]
fn an_envelope_with_schemas_is_a_struct_named_after_table_and_route() {
    let columns =
        [("id", 2950), ("aggregatetype", 25), ("aggregateid", 25), ("type", 25), ("payload", 3802), ("v", 23), ("n", 23)];
    let format = FormatSettings { schemas: true, pipeline: "srv".to_owned(), ..FormatSettings::default() };
    let toml = "preset = \"debezium\"\ntable = \"public.outbox\"\nenvelope = [\"type:eventType\", \"gone\", \"n\", \"payload#/a:a\"]\n\
                schema_version = \"v\"\nmissing_columns = \"ignore\"";
    let value = |version: Option<&[u8]>| {
        let texts = [Some(&b"i"[..]), Some(b"order"), Some(b"k"), Some(b"Placed"), Some(b"{\"a\": [1]}"), version, Some(b"7")];
        value_of(toml, &format, &columns, &texts)
    };
    let want = |version: &str| {
        format!(
            "k {}{version}{}",
            concat!(
                r#"{"schema":{"type":"struct","fields":[{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1,"#,
                r#""field":"payload"},{"type":"string","optional":true,"field":"eventType"},{"type":"int32","optional":true,"field":"n"},"#,
                r#"{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1,"field":"a"}],"optional":false,"#,
                r#""name":"srv.public.outbox.order.Value""#,
            ),
            r#"},"payload":{"payload":"{\"a\": [1]}","eventType":"Placed","n":7,"a":"[1]"}}"#,
        )
    };
    assert_eq!(value(Some(b"3")), Ok(want(",\"version\":3")));
    assert_eq!(value(None), Ok(want("")));
}

/// Not a benchmark, only the one number that the design names: run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn nanoseconds_a_row() {
    let plan = compile("", &RELAY).expect("compiles");
    let payload = format!("{{\"id\": \"o-1\", \"text\": \"{}\"}}", "x".repeat(280));
    for headers in [&b"{}"[..], br#"{"tenant": "a", "source": "shop"}"#] {
        let (bytes, cells) = cells(&[
            Some(b"018f4c2e-7b1a-7c3d-8e4f-0123456789ab"),
            None,
            Some(b"order"),
            Some(b"order-1234567"),
            Some(b"OrderPlaced"),
            Some(payload.as_bytes()),
            Some(headers),
            None,
            Some(b"2026-01-05 11:59:59.999999+00"),
            Some(b"7"),
            Some(b"812"),
        ]);
        let row = Row::new(&bytes, &cells);
        let mut event = Event::default();
        // The best of many short rounds: what other processes take does not count.
        let rows = 5_000_u32;
        let mut best = f64::MAX;
        for _ in 0..500 {
            let start = std::time::Instant::now();
            for seq in 0..u64::from(rows) {
                let position = Position { commit_lsn: Lsn(0x16_B374_D848), seq };
                let outcome = plan.encode(&Transaction::default(), position.into(), std::hint::black_box(&row), 0, &mut event);
                assert_eq!(outcome, Ok(Outcome::Event));
                std::hint::black_box(&event);
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rows));
        }
        println!("{best:.0} ns a row, headers {}", String::from_utf8_lossy(headers));
    }
}

proptest! {
    #[test]
    fn no_row_panics(
        values in proptest::collection::vec(
            proptest::option::of(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..24),
                "[a-z.{}\":,0-9 \\\\]{0,24}".prop_map(String::into_bytes),
                Just(b"{\"a\": \"b\"}".to_vec()),
                Just(b"2026-01-05 00:00:00+00".to_vec()),
            ]),
            0..13,
        ),
        which in 0..6usize,
        (schemas, policy) in (any::<bool>(), proptest::sample::select(&["poison", "replace", "base64"][..])),
    ) {
        let tomls = [
            "",
            "topic_match = \"([a-z]+).*\"\ntopic = \"x.$1\"\nvalue_encoding = \"json-string\"",
            "key = \"payload#/a ?? {key}-{seq}\"\npartition = \"seq\"\ntrace_properties = \"traceparent\"",
            "envelope = [\"seq\", \"headers\"]\nid = \"payload#/a\"\nheaders = [\"{payload}\", \"headers#/a:x\", \"type?\"]",
            "match = \"seq > 1.5 and key <> 'x' and topic is not null\"\ntombstone_on_null = true\ntimestamp = \"seq\"",
            "value = \"base64(key) ?? payload#/a\"\ntimestamp = \"payload#/a\"\npartition = \"payload#/a\"",
        ];
        let invalid_utf8 = policy.to_owned();
        let format = FormatSettings { schemas, invalid_utf8, ..FormatSettings::default() };
        let route = Arc::new(build(tomls[which], &format).expect("legal"));
        let plan = Plan::compile(&route, &relation(&RELAY)).expect("compiles");
        let borrowed: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let (bytes, cells) = cells(&borrowed);
        let mut event = Event::default();
        let outcome = plan.encode(&Transaction::default(), Position::default().into(), &Row::new(&bytes, &cells), 0, &mut event);
        if outcome == Ok(Outcome::Event) {
            prop_assert!(!event.topic().is_empty() && event.headers().next().is_some_and(|(name, _)| name == b"id"));
            prop_assert!(event.headers().all(|(name, _)| std::str::from_utf8(name).is_ok()));
            let is_struct = schemas && tomls[which].contains("envelope");
            let is_json = || event.value().is_some_and(|value| serde_json::from_slice::<serde_json::Value>(value).is_ok());
            prop_assert!(!is_struct || is_json());
        } else if let Err(poison) = outcome {
            prop_assert!(policy == "poison" || poison.reason != PoisonReason::Utf8);
        }
        prop_assert_eq!(event.open_piece(), b"");
    }

    #[test]
    fn no_message_panics(content in prop_oneof![
        any::<Vec<u8>>(),
        "\\{(\"(id|topic|payload|headers|key|payload_base64)\": ?(\"[a-z\\\\]{0,4}\"|[0-9]{1,3}|null|\\{\\}|\\[1\\]),? ?){0,5}\\}"
            .prop_map(String::into_bytes),
    ]) {
        let plan = Plan::compile_message(&route("message = \"m\""), "m").expect("compiles");
        let mut event = Event::default();
        let _ = plan.encode_message(&Transaction::default(), Position::default().into(), &content, true, 0, &mut event);
        prop_assert_eq!(event.open_piece(), b"");
    }
}
