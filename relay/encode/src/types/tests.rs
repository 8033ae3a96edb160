//! The tables of section 8, row by row: values; beside them schemas, placeholders, fallbacks, defaults, Connect's text.

mod beside;
mod debezium_default;

use super::{ColumnType, Modes};
use crate::settings::FormatSettings;
use proptest::prelude::*;
use relay_core::Oid;
use relay_core::catalog::{Catalog, CatalogType, TypeForm};

/// Modifier of numeric(p, s).
const fn numeric(precision: i32, scale: i32) -> i32 {
    (precision << 16 | scale & 0x7FF) + 4
}

const MOOD: u32 = 20_001;
const PRICE: u32 = 20_002;
const MOODS: u32 = 20_003;
const MOOD_DOMAIN: u32 = 20_004;
const PRICES: u32 = 20_005;
const ROW: u32 = 20_006;
const OWN_MONEY: u32 = 20_007;
const MOODS_DOMAIN: u32 = 20_008;
const STAMPS: u32 = 20_009;
const EXTENSION: u32 = 20_100;

fn catalog() -> Catalog {
    let of = |oid, name: &str, form| CatalogType { oid: Oid(oid), name: name.into(), form };
    Catalog {
        types: vec![
            of(MOOD, "mood", TypeForm::Enum(vec!["c".into(), "a".into(), "b".into()])),
            of(PRICE, "price", TypeForm::Domain(Oid(1700), numeric(3, 2))),
            of(MOODS, "_mood", TypeForm::Array(Oid(MOOD), b',')),
            of(MOOD_DOMAIN, "my_mood", TypeForm::Domain(Oid(MOOD), -1)),
            of(PRICES, "_price", TypeForm::Array(Oid(PRICE), b',')),
            of(ROW, "row", TypeForm::Composite),
            of(OWN_MONEY, "money", TypeForm::Plain),
            of(MOODS_DOMAIN, "my_moods", TypeForm::Domain(Oid(MOODS), -1)),
            of(STAMPS, "stamps", TypeForm::Domain(Oid(1115), 3)),
        ],
        ..Catalog::default()
    }
}

/// Settings from `key=value` words.
fn modes(words: &str) -> Modes {
    let mut settings = FormatSettings::default();
    for (key, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        let value = value.to_owned();
        match key {
            "decimal" => settings.decimal = value,
            "time" => settings.time = value,
            "interval" => settings.interval = value,
            "binary" => settings.binary = value,
            "hstore" => settings.hstore = value,
            "compat" => settings.compat = value,
            "utf8" => settings.invalid_utf8 = value,
            "money_scale" => settings.money_scale = value.parse().expect("a number"),
            "unavailable" => settings.unavailable_value = value,
            "schemas" => settings.schemas = true,
            _ => panic!("{key}"),
        }
    }
    Modes::new(&settings).expect("legal modes")
}

/// `oid`, `oid(modifier)`, or the name of a type of an extension; then words of modes.
fn column(oid: u32, modifier: i32, name: Option<&str>, words: &str) -> ColumnType {
    ColumnType::new(Oid(oid), modifier, name, &catalog(), &modes(words))
}

fn value(column: &ColumnType, text: &[u8]) -> Result<String, String> {
    let mut out = b"kept".to_vec();
    let written = column.write(text, &mut out);
    let json = String::from_utf8(out.split_off(4)).expect("UTF-8");
    match written {
        Ok(()) => Ok(json),
        Err(poison) => {
            assert!(json.is_empty(), "an error leaves nothing behind");
            Err(poison.message)
        }
    }
}

#[test]
fn built_in_types_in_the_default_modes() {
    let cases: &[(u32, i32, &str, &str)] = &[
        (16, -1, "t", "true"),
        (1560, 1, "1", "true"),
        (1562, 1, "0", "false"),
        (1560, 2, "11", r#""Aw==""#),
        (1562, -1, "00", r#""""#),
        (21, -1, "-32768", "-32768"),
        (20, -1, "9223372036854775807", "9223372036854775807"),
        (26, -1, "4000000000", "4000000000"),
        (700, -1, "3.3", "3.3"),
        (701, -1, "NaN", r#""NaN""#),
        (1700, numeric(3, 2), "1.10", r#""bg==""#),
        (1700, numeric(3, 0), "0", r#""AA==""#),
        (1700, numeric(3, 0), "128", r#""AIA=""#),
        (1700, numeric(3, 0), "-1", r#""/w==""#),
        (1700, numeric(5, -2), "12300", r#""ew==""#),
        (1700, -1, "10.1111", r#"{"scale":4,"value":"AYr3"}"#),
        (1700, -1, "100.00", r#"{"scale":0,"value":"ZA=="}"#),
        (790, -1, "$1,234.11", r#""AeIT""#),
        (790, -1, "-$1,234.11", r#""/h3t""#),
        (1042, 14, "cone      ", r#""cone      ""#),
        (25, -1, "Hello \"World\"\u{1F600}\n", r#""Hello \"World\"\uD83D\uDE00\n""#),
        (3802, -1, r#"{"bar": "baz"}"#, r#""{\"bar\": \"baz\"}""#),
        (2950, -1, "b68a35a7-17ad-35b3-af2a-ae46edb4545a", r#""b68a35a7-17ad-35b3-af2a-ae46edb4545a""#),
        (17, -1, "\\x010203", r#""AQID""#),
        (1082, -1, "2016-11-04", "17109"),
        (1083, 3, "13:51:30.123", "49890123"),
        (1083, -1, "13:51:30", "49890000000"),
        (1083, -1, "24:00:00", "86400000000"),
        (1266, -1, "13:51:30.123789+02", r#""11:51:30.123789Z""#),
        (1266, -1, "24:00:00+00", r#""24:00:00Z""#),
        (1266, -1, "24:00:00+02", r#""22:00:00Z""#),
        (1266, -1, "24:00:00-08", r#""08:00:00Z""#),
        (1266, -1, "00:30:00.5-05:30", r#""06:00:00.5Z""#),
        (1114, 3, "2016-11-04 13:51:30.123", "1478267490123"),
        (1114, -1, "2016-11-04 13:51:30.123456", "1478267490123456"),
        (1184, -1, "2016-11-04 11:51:30.123456+00", r#""2016-11-04T11:51:30.123456Z""#),
        (1184, -1, "2016-11-04 13:51:30+02", r#""2016-11-04T11:51:30.000000Z""#),
        (1184, 0, "2016-11-04 11:51:30+00", r#""2016-11-04T11:51:30Z""#),
        (1184, 3, "0044-03-15 12:00:00.5+00 BC", r#""-0043-03-15T12:00:00.500Z""#),
        (1184, -1, "-infinity", r#""-infinity""#),
        (1186, -1, "1 year", "31557600000000"),
        (1186, -1, "1 year 2 mons 3 days 04:05:06.78", "37091106780000"),
        (1186, -1, "-1 days +02:03:00", "-79020000000"),
        (869, -1, "192.168.2.0/12", r#""192.168.2.0/12""#),
        (3908, -1, r#"["2019-03-31 15:30:00",infinity)"#, r#""[\"2019-03-31 15:30:00\",infinity)""#),
        (600, -1, "(1,1)", r#"{"x":1.0,"y":1.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAPA/","srid":null}"#),
        (628, -1, "{1,2,3}", r#"{"a":1.0,"b":2.0,"c":3.0}"#),
        (718, -1, "<(1,1),2.5>", r#"{"center":{"x":1.0,"y":1.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAPA/","srid":null},"radius":2.5}"#),
        (
            601,
            -1,
            "[(0,0),(0,1)]",
            r#"{"wkb":"AQIAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA8D8=","srid":null,"extensions":{"type":"lseg"}}"#,
        ),
        // One point is a closed ring.
        (604, -1, "((1,1))", r#"{"wkb":"AQMAAAABAAAAAQAAAAAAAAAAAPA/AAAAAAAA8D8=","srid":null,"extensions":{"type":"polygon"}}"#),
        (22, -1, "1 2", "[1,2]"),
        (1007, -1, "{1,NULL,3}", "[1,null,3]"),
        (1007, -1, "[2:4]={1,2,3}", "[1,2,3]"),
        (1007, -1, "{}", "[]"),
        (1007, -1, "{{1,2},{3,NULL}}", "[[1,2],[3,null]]"),
        (1009, -1, r#"{a,"b c","q\"\\z","NULL",NULL,""}"#, r#"["a","b c","q\"\\z","NULL",null,""]"#),
        (1231, numeric(3, 2), "{1.10}", r#"["bg=="]"#),
        (1183, -1, "{24:00:00}", "[86400000000]"),
        (1561, 2, "{11}", r#"["Aw=="]"#),
        (1001, -1, r#"{"\\x01"}"#, r#"["AQ=="]"#),
        (1115, 3, r#"{"2016-11-04 13:51:30.123"}"#, "[1478267490123]"),
        (MOOD, -1, "a", r#""a""#),
        (MOODS, -1, "{a,b}", r#"["a","b"]"#),
        (PRICE, -1, "1.10", r#""bg==""#),
        (PRICES, -1, "{1.10}", r#"["bg=="]"#),
        (MOOD_DOMAIN, -1, "a", r#""a""#),
        (ROW, -1, "(1,\"a b\")", r#""(1,\"a b\")""#),
        (3220, -1, "0/16B3748", r#""0/16B3748""#),
        (OWN_MONEY, -1, "7 talents", r#""7 talents""#),
        (MOODS_DOMAIN, -1, "{a,NULL}", r#"["a",null]"#),
        (STAMPS, -1, r#"{"1969-12-31 23:59:59.999"}"#, "[-1]"),
        (1114, 3, "1969-12-31 23:59:59.001", "-999"),
        (1114, -1, "0001-01-01 00:00:00.5 BC", "-62167219199500000"),
        (1266, -1, "00:00:01+00:00:02", r#""23:59:59Z""#),
        (1266, -1, "23:59:59.9-15:59:59", r#""15:59:58.9Z""#),
        (1184, -1, "1900-01-01 00:00:00+00:19:32", r#""1899-12-31T23:40:28.000000Z""#),
        (1022, -1, "{NaN,-Infinity,1e+21,-0}", r#"["NaN","-Infinity",1.0E21,-0.0]"#),
        (1009, -1, r#"{"{\"a\": 1}","a,b","null",null}"#, r#"["{\"a\": 1}","a,b","null",null]"#),
        (1009, -1, "[0:1][1:1]={{a},{NULL}}", r#"[["a"],[null]]"#),
        (199, -1, r#"{"{\"k\": \"x\\\\y\"}"}"#, r#"["{\"k\": \"x\\\\y\"}"]"#),
        (790, -1, "-$0.01", r#""/w==""#),
        (25, -1, "\u{FFFF}\u{10FFFF}\u{2028}\u{7f}", "\"\u{FFFF}\\uDBFF\\uDFFF\u{2028}\u{7f}\""),
        (1043, 9, "", r#""""#),
        (3906, -1, "empty", r#""empty""#),
        (1700, numeric(3, 5), "0.00123", r#""ew==""#),
        (1700, numeric(1000, 0), "-170141183460469231731687303715884105728", r#""gAAAAAAAAAAAAAAAAAAAAA==""#),
    ];
    for &(oid, modifier, text, want) in cases {
        assert_eq!(value(&column(oid, modifier, None, ""), text.as_bytes()), Ok(want.to_owned()), "{oid} {text}");
    }
    let boxes = value(&column(1020, -1, None, ""), b"{(1,1),(0,0);(2,2),(1,1)}").expect("boxes");
    let boxes: serde_json::Value = serde_json::from_str(&boxes).expect("JSON");
    assert_eq!(boxes.as_array().map(Vec::len), Some(2));
}

#[test]
fn types_of_extensions_are_told_by_name() {
    let cases = [
        ("citext", "Hello", r#""Hello""#),
        ("ltree", "Top.Collections", r#""Top.Collections""#),
        ("hstore", r#""key1"=>"val1", "key2"=>NULL"#, r#""{\"key1\":\"val1\",\"key2\":null}""#),
        ("hstore", "\"a\\\"\\\\\"=>\"\n\u{1}\u{1F600}\"", r#""{\"a\\\"\\\\\":\"\\n\\u0001\uD83D\uDE00\"}""#),
        ("hstore", "", r#""{}""#),
        ("_hstore", r#"{"\"a\"=>\"1\""}"#, r#"["{\"a\":\"1\"}"]"#),
        ("vector", "[1,2]", "[1.0,2.0]"),
        ("halfvec", "[0.1,-2]", "[0.1,-2.0]"),
        ("sparsevec", "{1:1,3:2}/5", r#"{"dimensions":5,"vector":[[1,1.0],[3,2.0]]}"#),
        (
            "geometry",
            "0101000020E6100000000000000000F03F000000000000F03F",
            r#"{"wkb":"AQEAACDmEAAAAAAAAAAA8D8AAAAAAADwPw==","srid":4326,"extensions":null}"#,
        ),
        ("geography", "0101000000000000000000F03F000000000000F03F", r#"{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAPA/","srid":null}"#),
        ("int4", "7", "7"),
        ("_box", "{(1,1),(0,0)}", "box"),
    ];
    for (name, text, want) in cases {
        let got = value(&column(EXTENSION, -1, Some(name), ""), text.as_bytes()).expect(name);
        assert!(got == want || want == "box", "{name}: {got}");
    }
    let map = column(EXTENSION, -1, Some("hstore"), "hstore=map");
    assert_eq!(value(&map, br#""key1"=>"val1", "key2"=>NULL"#).as_deref(), Ok(r#"{"key1":"val1","key2":null}"#));
}

#[test]
fn other_modes() {
    let cases: &[(&str, u32, i32, &str, &str)] = &[
        ("decimal=string", 1700, numeric(6, 4), "22.22", r#""22.2200""#),
        ("decimal=string", 1700, -1, "NaN", r#""NAN""#),
        ("decimal=string", 1700, -1, "-Infinity", r#""NEGATIVE_INFINITY""#),
        ("decimal=string", 1700, numeric(5, -2), "12300", r#""12300""#),
        ("decimal=string", 790, -1, "-$92,233,720,368,547,758.08", r#""-92233720368547758.08""#),
        ("decimal=string", 790, -1, "$0.05", r#""0.05""#),
        ("decimal=double", 1700, numeric(6, 4), "22.2200", "22.22"),
        ("decimal=double", 1700, -1, "Infinity", r#""Infinity""#),
        ("decimal=double", 790, -1, "$1.50", "1.5"),
        ("interval=string", 1186, -1, "1 year 2 mons 3 days 04:05:06.78", r#""P1Y2M3DT4H5M6.78S""#),
        ("interval=string", 1186, -1, "00:00:00", r#""P0Y0M0DT0H0M0S""#),
        ("interval=string", 1186, -1, "-1 days +02:03:00", r#""P0Y0M-1DT2H3M0S""#),
        ("interval=string", 1186, -1, "-00:00:00.5", r#""P0Y0M0DT0H0M-0.5S""#),
        ("binary=base64", 17, -1, "\\xfbff", r#""+/8=""#),
        ("binary=base64-url-safe", 17, -1, "\\xfbff", r#""-_8=""#),
        ("binary=hex", 17, -1, "\\xFBff", r#""fbff""#),
        ("time=adaptive-microseconds", 1083, 3, "13:51:30.123456", "49890123456"),
        ("time=connect", 1083, -1, "13:51:30.123456", "49890123"),
        ("time=connect", 1114, -1, "1969-12-31 23:59:59.9999", "-1"),
        ("time=connect", 1082, -1, "2016-11-04", "17109"),
        ("time=isostring", 1082, -1, "2016-11-04", r#""2016-11-04Z""#),
        ("time=isostring", 1083, -1, "13:51:30.123456", r#""13:51:30.123456Z""#),
        ("time=isostring", 1083, -1, "24:00:00", r#""24:00:00Z""#),
        ("time=isostring", 1114, -1, "2016-11-04 13:51:30.1200", r#""2016-11-04T13:51:30.12Z""#),
        ("time=isostring", 1114, -1, "21016-11-04 06:51:30.123456", r#""+21016-11-04T06:51:30.123456Z""#),
        ("time=isostring", 1114, -1, "4714-12-31 23:59:59.999999 BC", r#""-4713-12-31T23:59:59.999999Z""#),
        ("time=isostring", 1114, -1, "294275-12-31 23:59:59.999999", r#""+294275-12-31T23:59:59.999999Z""#),
        ("time=isostring", 1114, -1, "infinity", r#""+292278994-08-16T23:00:00Z""#),
        ("time=isostring", 1082, -1, "-infinity", r#""-5877611-06-22Z""#),
        ("time=isostring", 1082, -1, "4713-01-01 BC", r#""-4712-01-01Z""#),
        ("time=microseconds", 1114, 3, "2016-11-04 13:51:30.123", "1478267490123000"),
        ("time=nanoseconds", 1083, -1, "13:51:30.123456", "49890123456000"),
        ("time=nanoseconds", 1114, -1, "2016-11-04 13:51:30.123456", "1478267490123456000"),
        ("", 1114, 3, "infinity", "9223372036825200000"),
        ("time=connect", 1114, -1, "-infinity", "-9223372036832400000"),
        ("", 1114, -1, "-infinity", "-9223372036854775808"),
        ("", 1082, -1, "infinity", "2146033979"),
        ("", 1082, -1, "4713-01-01 BC", "-2440550"),
        ("", 1114, -1, "294247-01-10 04:00:54.775807", "9223372036854775807"),
        ("utf8=replace", 25, -1, "", r#""""#),
    ];
    for &(words, oid, modifier, text, want) in cases {
        assert_eq!(value(&column(oid, modifier, None, words), text.as_bytes()).as_deref(), Ok(want), "{words} {oid} {text}");
    }
    assert_eq!(value(&column(25, -1, None, "utf8=replace"), b"a\xFF").as_deref(), Ok("\"a\u{FFFD}\""));
    assert_eq!(value(&column(25, -1, None, "utf8=base64"), b"a\xFF").as_deref(), Ok("\"Yf8=\""));
}

#[test]
fn what_is_not_representable_is_an_error_and_never_null() {
    let cases: &[(&str, u32, i32, &[u8])] = &[
        ("", 1700, numeric(3, 2), b"NaN"),
        ("", 1700, -1, b"-Infinity"),
        ("", 1114, -1, b"294247-01-10 04:00:54.775808"),
        ("time=nanoseconds", 1114, -1, b"2263-01-01 00:00:00"),
        ("schemas=true", 1007, -1, b"{{1}}"),
        ("", 25, -1, b"\xFF"),
        ("", 23, -1, b"x"),
        ("", 1186, -1, b"infinity"),
        ("", 1007, -1, b"{1,2"),
        ("", 1007, -1, b"{1}}"),
    ];
    for &(words, oid, modifier, text) in cases {
        assert!(value(&column(oid, modifier, None, words), text).is_err(), "{oid} {text:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_become_json(bytes: Vec<u8>, text in "[-0-9{}()\\[\\],.:;\"\\\\ =>NULa-z$/+<]{0,40}") {
        crate::fuzz_body::types(&bytes);
        crate::fuzz_body::types(text.as_bytes());
    }
}
