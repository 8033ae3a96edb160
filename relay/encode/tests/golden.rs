//! Golden files: each case describes a row or message, its route, and the exact record it must become.
//!
//! A case is separated from the next by a line of dashes. `row` and `record` lines are `name: value`; `\N` is NULL, `\n` a line
//! break. The format of a file is that of the first one, `golden/relay.txt`.

use relay_core::{Cell, Column, Event, Lsn, Oid, Position, Relation, RelayPos, ReplicaIdentity, Row, Transaction};
use relay_encode::{FormatSettings, MessagePlans, Mode, Order, OutboxSettings, Outcome, Plan, Route, Routes};
use std::fmt::Write as _;
use std::path::Path;

/// 2026-01-05 12:00:00.123456 UTC.
const COMMIT_TIME_US: i64 = 1_767_614_400_123_456;

#[derive(Default)]
struct Case {
    name: String,
    settings: String,
    table: String,
    message: Option<(String, String)>,
    row: Vec<(String, u32, Option<String>)>,
    format: FormatSettings,
    expected: String,
}

impl Case {
    /// With order `claim` a row that a column says is due in the future is not even read.
    fn waits_in_claim(&self) -> bool {
        let settings: OutboxSettings = toml::from_str(&self.settings).expect("legal");
        let format = FormatSettings { mode: Mode::Poll, ..self.format.clone() };
        Route::new(settings, &format).is_ok_and(|route| {
            matches!(route.order(), Some(Order::Claim { .. })) && route.poll_condition().is_some_and(|sql| sql.contains("now()"))
        })
    }
}

fn oid(name: &str) -> u32 {
    let known = [
        ("bool", 16),
        ("bytea", 17),
        ("int8", 20),
        ("int2", 21),
        ("int4", 23),
        ("float8", 701),
        ("date", 1082),
        ("text", 25),
        ("json", 114),
        ("text[]", 1009),
        ("varchar", 1043),
        ("timestamp", 1114),
        ("timestamptz", 1184),
        ("numeric", 1700),
        ("uuid", 2950),
        ("jsonb", 3802),
        ("xid8", 5069),
    ];
    known.into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("type {name}")).1
}

fn parse(text: &str) -> Vec<Case> {
    text.split("\n----\n").map(parse_case).collect()
}

fn parse_case(text: &str) -> Case {
    let mut case =
        Case { format: FormatSettings { pipeline: "orders".to_owned(), ..FormatSettings::default() }, ..Case::default() };
    let mut section = "";
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line {
            "[settings]" | "[row]" | "[record]" => section = line,
            _ if section == "[settings]" => {
                let _ = writeln!(case.settings, "{line}");
            }
            _ if section == "[record]" => {
                let _ = writeln!(case.expected, "{line}");
            }
            _ if section == "[row]" => {
                let (head, value) = line.split_once(':').expect(line);
                let (name, type_name) = head.rsplit_once(' ').expect(line);
                let value = value.strip_prefix(' ').unwrap_or(value);
                case.row.push((name.to_owned(), oid(type_name), (value != "\\N").then(|| value.replace("\\n", "\n"))));
            }
            _ => {
                let (name, value) = line.split_once(": ").expect(line);
                match name {
                    "case" => case.name = value.to_owned(),
                    "table" => case.table = value.to_owned(),
                    "message" => {
                        let (prefix, content) = value.split_once(' ').expect(line);
                        case.message = Some((prefix.to_owned(), content.to_owned()));
                    }
                    "compat" => {
                        case.format.compat = value.to_owned();
                        case.format.position_header = false;
                        case.format.run_id = "run".to_owned();
                    }
                    "schemas" => case.format.schemas = value == "true",
                    "cloudevents_mode" => case.format.cloudevents_mode = value.to_owned(),
                    "source_header" => case.format.source_header = value == "true",
                    "position_header" => case.format.position_header = value == "true",
                    _ => panic!("{line}"),
                }
            }
        }
    }
    case
}

fn printed(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "\\N".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.replace('\n', "\\n"),
            Err(_) => bytes.iter().fold("hex ".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        },
    }
}

fn print(event: &Event) -> String {
    let mut text = format!("topic: {}\nkey: {}\nvalue: {}\n", event.topic(), printed(event.key()), printed(event.value()));
    for (name, value) in event.headers() {
        let _ = writeln!(text, "header {}: {}", String::from_utf8_lossy(name), printed(value));
    }
    let _ = writeln!(text, "timestamp: {}", event.timestamp_ms);
    if let Some(partition) = event.partition {
        let _ = writeln!(text, "partition: {partition}");
    }
    text
}

/// What the case gives in that mode; `None` where its preset cannot be polled, or not without a mark.
fn run(case: &Case, mode: Mode) -> Option<String> {
    let settings: OutboxSettings = toml::from_str(&case.settings).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let format = FormatSettings { mode, ..case.format.clone() };
    let mut made = Route::new(settings.clone(), &format);
    if mode == Mode::Poll && made.as_ref().is_err_and(|errors| errors[0].field == "after_publish") {
        // A preset without a mark of its own.
        made = Route::new(OutboxSettings { after_publish: Some("delete".to_owned()), ..settings }, &format);
    }
    let route = match made {
        Ok(route) => route,
        Err(_) if mode == Mode::Poll => return None,
        Err(errors) => panic!("{}: {errors:?}", case.name),
    };
    let relay_pos = match (mode, route.order()) {
        (Mode::Poll, Some(Order::Tick { .. })) => RelayPos::Tick { xid: b"7", order: b"9" },
        (Mode::Poll, _) => RelayPos::Claim { order: b"9" },
        (Mode::Log, _) => Position { commit_lsn: Lsn(0x16_B374_D848), seq: 3 }.into(),
    };
    let now_ms = COMMIT_TIME_US / 1_000;
    let routes = Routes::new([route]);
    let transaction = Transaction { commit_time_us: COMMIT_TIME_US, ..Transaction::default() };
    let mut event = Event::default();
    let outcome = if let Some((prefix, content)) = &case.message {
        let mut plans = MessagePlans::new(routes);
        let plan = plans.plan(prefix).expect("compiles").expect("routed");
        plan.encode_message(&transaction, relay_pos, content.as_bytes(), true, now_ms, &mut event)
    } else {
        let (schema, name) = case.table.split_once('.').expect("schema.table");
        let column = |(name, oid, _): &(String, u32, Option<String>)| Column {
            name: name.as_str().into(),
            type_oid: Oid(*oid),
            type_modifier: -1,
            type_name: None,
            is_key: false,
        };
        let relation = Relation {
            oid: Oid(1),
            schema: schema.into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: case.row.iter().map(column).collect(),
        };
        let mut bytes = Vec::new();
        let mut cells = Vec::new();
        for (_, _, value) in &case.row {
            cells.push(match value {
                None => Cell::Null,
                Some(text) => {
                    let start = bytes.len() as u32;
                    bytes.extend_from_slice(text.as_bytes());
                    Cell::Text { start, len: text.len() as u32 }
                }
            });
        }
        let route = routes.table(&relation).unwrap_or_else(|| panic!("{}: no route", case.name));
        let plan = Plan::compile(route, &relation).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        plan.encode(&transaction, relay_pos, &Row::new(&bytes, &cells), now_ms, &mut event)
    };
    Some(match outcome {
        Ok(Outcome::Event) => print(&event),
        Ok(other) => format!("{other:?}\n"),
        Err(poison) => format!("poison: {poison}\n"),
    })
}

#[test]
fn every_golden_record_is_met_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("golden/").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert_eq!(files.len(), 8, "{files:?}");
    let (mut wrong, mut polled) = (String::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        for case in parse(&text) {
            let mut compare = |got: &str, expected: &str, how: &str| {
                if got != expected {
                    let _ = write!(wrong, "\n{} / {} / {how}\n--- expected\n{expected}--- got\n{got}", file.display(), case.name);
                }
            };
            compare(&run(&case, Mode::Log).unwrap_or_default(), &case.expected, "log");
            // By polling the record is the same but for its position.
            let Some(got) = run(&case, Mode::Poll) else { continue };
            polled += 1;
            // A polled row knows no commit.
            let expected: String = case
                .expected
                .lines()
                .filter(|line| !line.starts_with("header ce_sequence"))
                .fold(String::new(), |text, line| text + line + "\n");
            let expected = expected.replace(",\"sequence\":\"00000016B374D848-0000000003\"", "");
            let expected = |pos: &str| expected.replace("header relay-pos: 16B374D848.3", &format!("header relay-pos: {pos}"));
            let waits = case.expected.starts_with("poison: scheduled") && case.waits_in_claim();
            if !waits {
                compare(&got, &expected(if got.contains("header relay-pos: x7.9") { "x7.9" } else { "x.9" }), "poll");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{polled} cases by polling too");
    assert!(polled > 40, "{polled} cases were polled");
}
