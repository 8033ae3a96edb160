//! Random values of each type go through a real server and relay, are decoded by code of the test's own, and must be what the server
//! itself says that they are.

use super::decode::{bits, decimal, hex_of_base64, variable_decimal};
use crate::scene::QUICK;
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One type: how to make a value, what the server says of it, and how to read that out of relay's JSON.
struct Kind {
    name: &'static str,
    sql: &'static str,
    /// The server's own words; `$` is the column.
    says: &'static str,
    random: fn(&mut Seed) -> String,
    decode: fn(&Value) -> String,
}

/// The part of an envelope that is looked at, each column's text as it stands.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    after: BTreeMap<&'a str, &'a RawValue>,
}

const ROWS: u64 = 150;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}

fn number(value: &Value) -> String {
    value.as_i64().unwrap_or_else(|| panic!("no integer: {value}")).to_string()
}

fn float(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(digits) => digits.parse().unwrap_or_else(|e| panic!("{e}: {digits}")),
        None => value.as_f64().unwrap_or_else(|| panic!("no float: {value}")),
    }
}

/// Compact JSON with its members in order, for comparison.
fn json(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}")).to_string()
}

fn letters(seed: &mut Seed, max: u64) -> String {
    const ALL: [&str; 16] = ["a", "Z", "0", " ", "\"", "\\", "'", "{", ",", "é", "😀", "\u{1}", "\n", "\u{2028}", "%", "NULL"];
    (0..seed.below(max + 1)).map(|_| ALL[usize::try_from(seed.below(16)).unwrap()]).collect()
}

fn digits(seed: &mut Seed, max: u64) -> String {
    let sign = if seed.chance(0.5) { "-" } else { "" };
    format!(
        "{sign}{}",
        (0..=seed.below(max)).map(|_| char::from(b'0' + u8::try_from(seed.below(10)).unwrap())).collect::<String>()
    )
}

fn bytes(seed: &mut Seed) -> String {
    (0..seed.below(20)).map(|_| format!("{:02x}", seed.below(256))).collect()
}

fn binary(seed: &mut Seed, len: u64) -> String {
    (0..len).map(|_| if seed.chance(0.5) { '1' } else { '0' }).collect()
}

fn day(seed: &mut Seed) -> String {
    format!("{:04}-{:02}-{:02}", seed.between(1, 9999), seed.between(1, 12), seed.between(1, 28))
}

fn time(seed: &mut Seed) -> String {
    format!("{:02}:{:02}:{:02}.{:06}", seed.below(24), seed.below(60), seed.below(60), seed.below(1_000_000))
}

fn real(seed: &mut Seed) -> String {
    let value = f32::from_bits(u32::try_from(seed.number() >> 32).unwrap());
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:e}") }
}

fn double(seed: &mut Seed) -> String {
    let value = f64::from_bits(seed.number());
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:e}") }
}

fn list(seed: &mut Seed, item: impl Fn(&mut Seed) -> String) -> String {
    let quoted = |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let items: Vec<String> =
        (0..seed.below(5)).map(|_| if seed.chance(0.2) { "NULL".to_owned() } else { quoted(item(seed)) }).collect();
    format!("{{{}}}", items.join(","))
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "flag", sql: "boolean", says: "$::text", random: |s| s.chance(0.5).to_string(), decode: Value::to_string },
    Kind { name: "small", sql: "smallint", says: "$::text", random: |s| (i64::try_from(s.below(65536)).unwrap() - 32768).to_string(), decode: number },
    Kind { name: "medium", sql: "integer", says: "$::text", random: |s| i32::from_ne_bytes(s.number().to_ne_bytes()[..4].try_into().unwrap()).to_string(), decode: number },
    Kind { name: "large", sql: "bigint", says: "$::text", random: |s| s.number().cast_signed().to_string(), decode: number },
    Kind { name: "object", sql: "oid", says: "$::text", random: |s| (s.number() >> 32).to_string(), decode: number },
    Kind { name: "single", sql: "real", says: "CASE WHEN $ = 'NaN' THEN 'NaN' ELSE encode(float4send($), 'hex') END", random: real,
           decode: |v| { let f = float(v); if f.is_nan() { "NaN".into() } else { #[expect(clippy::cast_possible_truncation)] { format!("{:08x}", (f as f32).to_bits()) } } } },
    Kind { name: "double", sql: "double precision", says: "CASE WHEN $ = 'NaN' THEN 'NaN' ELSE encode(float8send($), 'hex') END", random: double,
           decode: |v| { let f = float(v); if f.is_nan() { "NaN".into() } else { format!("{:016x}", f.to_bits()) } } },
    Kind { name: "fixed", sql: "numeric(40,7)", says: "$::text", random: |s| format!("{}.{}", digits(s, 30), s.below(10_000_000)), decode: |v| decimal(v, 7) },
    Kind { name: "whole", sql: "numeric(60)", says: "$::text", random: |s| digits(s, 60), decode: |v| decimal(v, 0) },
    Kind { name: "free", sql: "numeric", says: "trim_scale($)::text", random: |s| format!("{}.{}", digits(s, 40), digits(s, 30).trim_start_matches('-')), decode: variable_decimal },
    Kind { name: "cash", sql: "money", says: "$::numeric::text", random: |s| format!("{}.{:02}", digits(s, 16), s.below(100)), decode: |v| decimal(v, 2) },
    Kind { name: "words", sql: "text", says: "$", random: |s| letters(s, 30), decode: text },
    Kind { name: "short", sql: "varchar(90)", says: "$", random: |s| letters(s, 20), decode: text },
    Kind { name: "padded", sql: "char(9)", says: "rpad($, 9)", random: |s| digits(s, 7), decode: text },
    Kind { name: "data", sql: "bytea", says: "encode($, 'hex')", random: |s| format!("\\x{}", bytes(s)), decode: hex_of_base64 },
    Kind { name: "bits", sql: "bit(13)", says: "$::text", random: |s| binary(s, 13), decode: |v| bits(v, 13) },
    Kind { name: "bitstring", sql: "varbit", says: "ltrim($::text, '0')", random: |s| { let n = s.below(80); binary(s, n) }, decode: |v| bits(v, 0).trim_start_matches('0').to_owned() },
    Kind { name: "day", sql: "date", says: "($ - '1970-01-01'::date)::text", random: day, decode: number },
    Kind { name: "clock", sql: "time", says: "(extract(epoch FROM $) * 1000000)::bigint::text", random: time, decode: number },
    Kind { name: "clock3", sql: "time(3)", says: "(extract(epoch FROM $) * 1000)::bigint::text", random: |s| time(s).replacen("23:59:59", "22:59:59", 1), decode: number },
    Kind { name: "zoned", sql: "timetz", says: "($ AT TIME ZONE 'UTC')::text", random: |s| { let zone = s.below(15); format!("{}+{zone:02}", time(s)) },
           decode: |v| format!("{}+00", text(v).trim_end_matches('Z')) },
    Kind { name: "moment", sql: "timestamp", says: "(extract(epoch FROM $) * 1000000)::bigint::text", random: |s| format!("{} {}", day(s), time(s)), decode: number },
    Kind { name: "moment2", sql: "timestamp(2)", says: "(extract(epoch FROM $) * 1000)::bigint::text", random: |s| format!("{} {}", day(s), time(s)), decode: number },
    Kind { name: "instant", sql: "timestamptz", says: "to_char($ AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", random: |s| { let zone = s.below(15); format!("{} {}+{zone:02}", day(s).replacen("0001-01-01", "0001-01-02", 1), time(s)) }, decode: text },
    Kind { name: "span", sql: "interval", says: "(extract(epoch FROM make_interval(days => extract(day FROM $)::int, hours => extract(hour FROM $)::int, mins => extract(minute FROM $)::int, secs => extract(second FROM $)::float8)) * 1000000 + ((extract(year FROM $) * 12 + extract(month FROM $)) * 30.4375 * 86400000000))::bigint::text",
           random: |s| format!("{} years {} mons {} days {}", s.below(200), s.below(40), s.below(4000), time(s)), decode: number },
    Kind { name: "uuid", sql: "uuid", says: "$::text", random: |s| format!("{:016x}{:016x}", s.number(), s.number()), decode: text },
    Kind { name: "document", sql: "jsonb", says: "$::text", random: |s| serde_json::json!({ "k": letters(s, 9), "n": [1, 2.5, null] }).to_string().replace("\\u0001", "1"), decode: text },
    Kind { name: "address", sql: "inet", says: "$::text", random: |s| format!("{}.{}.{}.{}/{}", s.below(256), s.below(256), s.below(256), s.below(256), s.below(32)), decode: text },
    Kind { name: "span4", sql: "int4range", says: "$::text", random: |s| { let low = s.below(1000); format!("[{low},{})", low + s.below(1000)) }, decode: text },
    Kind { name: "pairs", sql: "hstore", says: "hstore_to_json($)::text", random: |s| format!("k{}=>\"{}\"", s.below(9), letters(s, 5).replace(['\\', '"'], "")), decode: text },
    Kind { name: "numbers", sql: "integer[]", says: "to_json($)::text", random: |s| list(s, |s| s.below(1_000_000).to_string()), decode: Value::to_string },
    Kind { name: "texts", sql: "text[]", says: "to_json($)::text", random: |s| list(s, |s| letters(s, 6)), decode: Value::to_string },
    Kind { name: "point", sql: "point", says: "$[0]::text || ' ' || $[1]::text", random: |s| format!("({},{})", digits(s, 7), s.below(1000)),
           decode: |v| format!("{} {}", float(&v["x"]), float(&v["y"])) },
];

#[test]
fn random_values_of_each_type_are_what_the_server_says() {
    let start = Seed::fresh();
    println!("RELAY_TEST_SEED={start}");
    for version in Version::ALL {
        let mut seed = Seed::new(start);
        let name = format!("roundtrip{}", version.major());
        let db = Postgres::builder(version).setting("timezone", "Asia/Tokyo").setting("intervalstyle", "iso_8601").start();
        let columns: Vec<String> = KINDS.iter().map(|kind| format!("\"{}\" {}", kind.name, kind.sql)).collect();
        db.sql(&format!(
            "CREATE EXTENSION hstore; CREATE TABLE random (id int PRIMARY KEY, {}); CREATE PUBLICATION p FOR ALL TABLES",
            columns.join(", ")
        ));
        Kafka::shared().create_topic(&format!("{name}.public.random"), 1, &[]);
        let builder = Builder::new(&name).url(&db.url("postgres")).brokers(&Kafka::shared().brokers()).toml(QUICK);
        let mut relay = builder.toml("source.log.publication = \"p\"\n[[capture]]\ntables = [\"public.random\"]").spawn();
        relay.until_state("streaming", secs(60));
        for id in 0..ROWS {
            let values: Vec<String> = KINDS
                .iter()
                .map(|kind| match seed.chance(0.05) {
                    true => "NULL".to_owned(),
                    false => format!("'{}'", (kind.random)(&mut seed).replace('\'', "''")),
                })
                .collect();
            db.sql(&format!("SET standard_conforming_strings = on; INSERT INTO random VALUES ({id}, {})", values.join(", ")));
        }
        let says: Vec<String> =
            KINDS.iter().map(|kind| format!("({})", kind.says.replace('$', &format!("\"{}\"", kind.name)))).collect();
        let said = db.sql(&format!("SET timezone = 'UTC'; SELECT {} FROM random ORDER BY id", says.join(", ")));
        let topic = format!("{name}.public.random");
        let records = until("the random rows", secs(60), || {
            let records = read_all(&Kafka::shared().brokers(), &[&topic], Isolation::Committed);
            (records.len() == usize::try_from(ROWS).unwrap()).then_some(records)
        });
        let (mut count, mut wrong) = (0, Vec::new());
        for (record, said) in records.iter().zip(&said.0) {
            let row: Envelope<'_> = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("an envelope");
            for (kind, said) in KINDS.iter().zip(said) {
                let raw = row.after[kind.name].get();
                let value: Value = serde_json::from_str(raw).unwrap_or_else(|e| panic!("{e}: {raw}"));
                // serde_json reads a number's digits only nearly; the standard library to the bit.
                let value = &if value.is_f64() { Value::from(raw) } else { value };
                let read = if value.is_null() { None } else { Some((kind.decode)(value)) };
                let is_same = match (&read, said) {
                    (Some(read), Some(said)) if kind.says.contains("json") => json(read) == json(said),
                    // Computed in float64 as Debezium does, and cut: a microsecond may be lost.
                    (Some(read), Some(said)) if kind.sql == "interval" => {
                        read.parse::<i64>().unwrap().abs_diff(said.parse::<i64>().unwrap()) <= 1
                    }
                    (read, said) => read == said,
                };
                if !is_same {
                    wrong.push(format!("{}: relay {value}, read as {read:?}; the server {said:?}", kind.sql));
                }
                count += 1;
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {count} values, RELAY_TEST_SEED={start}:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(30)].join("\n")
        );
        println!("{version}: {count} random values of {} types are what the server says", KINDS.len());
    }
}
