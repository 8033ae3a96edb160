//! What a column has beside its value: schema, placeholder, fallback, default, Connect's text, and whether it is there at all.

use super::super::{ColumnType, SchemaField};
use super::{EXTENSION, MOOD, MOOD_DOMAIN, MOODS, PRICE, PRICES, ROW, column, numeric};

fn schema(column: &ColumnType, field: &SchemaField<'_>) -> String {
    let mut out = Vec::new();
    column.write_schema(field, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn schemas_have_their_properties_in_order() {
    let optional = SchemaField { name: Some("a"), is_optional: true, ..SchemaField::default() };
    let cases: &[(&str, u32, i32, &str)] = &[
        ("", 23, -1, r#"{"type":"int32","optional":true,"field":"a"}"#),
        ("", 700, -1, r#"{"type":"float","optional":true,"field":"a"}"#),
        ("", 3802, -1, r#"{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1,"field":"a"}"#),
        (
            "",
            1560,
            5,
            r#"{"type":"bytes","optional":true,"name":"io.debezium.data.Bits","version":1,"parameters":{"length":"5"},"field":"a"}"#,
        ),
        (
            "",
            1700,
            numeric(5, 2),
            concat!(
                r#"{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"#,
                r#""parameters":{"scale":"2","connect.decimal.precision":"5"},"field":"a"}"#
            ),
        ),
        (
            "",
            790,
            -1,
            concat!(
                r#"{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"#,
                r#""parameters":{"scale":"2"},"field":"a"}"#
            ),
        ),
        (
            "",
            1700,
            -1,
            concat!(
                r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"scale"},"#,
                r#"{"type":"bytes","optional":false,"field":"value"}],"optional":true,"#,
                r#""name":"io.debezium.data.VariableScaleDecimal","version":1,"doc":"Variable scaled decimal","field":"a"}"#
            ),
        ),
        (
            "",
            MOODS,
            -1,
            concat!(
                r#"{"type":"array","items":{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"#,
                r#""parameters":{"allowed":"c,a,b"}},"optional":true,"field":"a"}"#
            ),
        ),
        // As Debezium has it, where NULL cannot be an element.
        (
            "compat=debezium",
            3643,
            -1,
            concat!(
                r#"{"type":"array","items":{"type":"string","optional":false,"name":"io.debezium.data.Tsvector","version":1},"#,
                r#""optional":true,"field":"a"}"#
            ),
        ),
        (
            "",
            1182,
            -1,
            concat!(
                r#"{"type":"array","items":{"type":"int32","optional":true,"name":"io.debezium.time.Date","version":1},"#,
                r#""optional":true,"field":"a"}"#
            ),
        ),
        ("", 22, -1, r#"{"type":"array","items":{"type":"int16","optional":false},"optional":true,"field":"a"}"#),
        (
            "time=connect",
            1114,
            -1,
            r#"{"type":"int64","optional":true,"name":"org.apache.kafka.connect.data.Timestamp","version":1,"field":"a"}"#,
        ),
        (
            "",
            628,
            -1,
            concat!(
                r#"{"type":"struct","fields":[{"type":"double","optional":false,"field":"a"},"#,
                r#"{"type":"double","optional":false,"field":"b"},{"type":"double","optional":false,"field":"c"}],"#,
                r#""optional":true,"name":"io.debezium.data.geometry.Line","version":1,"doc":"Geometry (LINE)","field":"a"}"#
            ),
        ),
    ];
    for &(words, oid, modifier, want) in cases {
        assert_eq!(schema(&column(oid, modifier, None, words), &optional), want);
    }
    let masked = SchemaField { name: Some("a"), is_optional: false, default: Some(b"\"x\""), mask: Some(("masked", "true")) };
    assert_eq!(
        schema(&column(25, -1, None, ""), &masked),
        r#"{"type":"string","optional":false,"parameters":{"masked":"true"},"default":"x","field":"a"}"#
    );
}

#[test]
fn placeholders_of_unchanged_toast_values() {
    let codes = "[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101]";
    let p = r#""__debezium_unavailable_value""#;
    let cases: &[(&str, u32, i32, Option<&str>)] = &[
        ("", 25, -1, Some(p)),
        ("", 3802, -1, Some(p)),
        ("", 1042, 8, Some(p)),
        ("", 3614, -1, Some(p)),
        ("", 3908, -1, Some(p)),
        ("", 17, -1, Some(r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#)),
        ("binary=hex", 17, -1, Some(p)),
        ("binary=base64", 17, -1, Some(p)),
        ("", 1009, -1, Some(r#"["__debezium_unavailable_value"]"#)),
        ("", 1014, -1, Some(r#"["__debezium_unavailable_value"]"#)),
        ("", 3807, -1, Some(r#"["__debezium_unavailable_value"]"#)),
        ("", 1001, -1, Some(r#"["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="]"#)),
        ("binary=hex", 1001, -1, None),
        ("", 1007, -1, Some(codes)),
        ("", 1016, -1, Some(codes)),
        ("", 1182, -1, Some(codes)),
        ("", 2951, -1, Some(r#"["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]"#)),
        ("decimal=string", 1700, -1, Some(p)),
        ("decimal=string", 1700, numeric(250, 2), Some(p)),
        ("", 1700, -1, None),
        ("", 1562, -1, None),
        ("", 602, -1, None),
        ("", 1005, -1, None),
        ("", 1028, -1, None),
        ("", 1041, -1, None),
        ("", 1231, -1, None),
        ("", MOODS, -1, None),
    ];
    for &(words, oid, modifier, want) in cases {
        let mut out = Vec::new();
        let is_there = column(oid, modifier, None, words).write_unavailable(&mut out);
        assert_eq!((is_there, out.as_slice()), (want.is_some(), want.unwrap_or("null").as_bytes()), "{words} {oid}");
    }
    let hstore = |words: &str| column(EXTENSION, -1, Some("hstore"), words);
    let mut out = Vec::new();
    assert!(
        hstore("unavailable=P").write_unavailable(&mut out) && hstore("unavailable=P hstore=map").write_unavailable(&mut out)
    );
    assert_eq!(out, br#""{\"P\":\"P\"}"{"P":"P"}"#);
}

#[test]
fn fallbacks_of_columns_that_are_not_there() {
    let cases: &[(&str, u32, i32, &str)] = &[
        ("", 16, -1, "false"),
        ("", 20, -1, "0"),
        ("", 701, -1, "0.0"),
        ("", 1700, numeric(5, 2), r#""AA==""#),
        ("", 1700, -1, r#"{"scale":0,"value":"AA=="}"#),
        ("decimal=string", 1700, numeric(5, 2), r#""0.00""#),
        ("decimal=string", 790, -1, r#""0.00""#),
        ("", 790, -1, r#""AA==""#),
        ("", 1560, 5, r#""""#),
        ("", 17, -1, r#""""#),
        ("", 2950, -1, r#""""#),
        ("", MOOD, -1, r#""""#),
        ("", 1082, -1, "0"),
        ("time=isostring", 1114, -1, r#""1970-01-01T00:00:00Z""#),
        ("", 1266, -1, r#""00:00:00Z""#),
        ("", 1184, -1, r#""1970-01-01T00:00:00Z""#),
        ("", 1186, -1, "0"),
        ("interval=string", 1186, -1, r#""P0Y0M0DT0H0M0S""#),
        ("", 1007, -1, "[]"),
        ("", 600, -1, r#"{"x":0.0,"y":0.0,"wkb":"AQEAAAAAAAAAAAAAAAAAAAAAAAAA","srid":null}"#),
        ("", 628, -1, r#"{"a":0.0,"b":1.0,"c":0.0}"#),
        (
            "",
            602,
            -1,
            r#"{"wkb":"AQIAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPA/AAAAAAAAAAA=","srid":null,"extensions":{"type":"path"}}"#,
        ),
    ];
    for &(words, oid, modifier, want) in cases {
        let mut out = Vec::new();
        column(oid, modifier, None, words).write_fallback(&mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), want, "{words} {oid}");
    }
}

#[test]
fn defaults_are_literals_and_zeros() {
    let cases: &[(u32, i32, &str, Option<&str>)] = &[
        (23, -1, "nextval('t_pk_seq'::regclass)", Some("0")),
        (23, -1, "'-1'::integer", Some("-1")),
        (23, -1, "42", Some("42")),
        (20, -1, "(1)::bigint", Some("1")),
        (23, -1, "(1 + 1)", None),
        (25, -1, "'it''s'::text", Some(r#""it's""#)),
        (25, -1, "'NULL'::text", Some(r#""NULL""#)),
        (25, -1, "NULL::text", None),
        (25, -1, "('a'::text || 'b'::text)", None),
        (1043, 14, "'abc'::character varying", Some(r#""abc""#)),
        (1042, 8, "'ab  '::bpchar", Some(r#""ab""#)),
        (16, -1, "true", Some("true")),
        (1700, numeric(5, 2), "1.5", Some(r#""AJY=""#)),
        (1700, -1, "1.5", None),
        (700, -1, "1.5", Some("1.5")),
        (701, -1, "'-1.5'::numeric", Some("-1.5")),
        (1082, -1, "'2016-11-04'::date", Some("17109")),
        (1083, -1, "'10:00:00'::time without time zone", Some("36000000000")),
        (1114, 3, "'2016-11-04 13:51:30.123'::timestamp without time zone", Some("1478267490123")),
        (1184, -1, "'2016-11-04 11:51:30+00'::timestamp with time zone", Some(r#""2016-11-04T11:51:30.000000Z""#)),
        (1184, -1, "now()", Some(r#""1970-01-01T00:00:00.000000Z""#)),
        (1114, -1, "CURRENT_TIMESTAMP", Some("0")),
        (2950, -1, "gen_random_uuid()", Some(r#""00000000-0000-0000-0000-000000000000""#)),
        (3802, -1, "'{}'::jsonb", Some(r#""{}""#)),
        (1186, -1, "'1 day'::interval", Some("86400000000")),
        (1560, 3, "'101'::\"bit\"", Some(r#""BQ==""#)),
        (17, -1, "'\\x01'::bytea", None),
        (1007, -1, "'{}'::integer[]", None),
        (790, -1, "1", None),
        (1266, -1, "'10:00:00+00'::time with time zone", None),
        (869, -1, "'1.2.3.4'::inet", None),
        (MOOD, -1, "'a'::mood", Some(r#""a""#)),
        (26, -1, "9", None),
        (PRICE, -1, "1.5", None),
    ];
    for &(oid, modifier, expression, want) in cases {
        let got = column(oid, modifier, None, "").default_json(expression);
        assert_eq!(got.as_deref().map(|json| std::str::from_utf8(json).expect("UTF-8")), want, "{expression}");
    }
}

#[test]
fn connect_has_a_text_of_its_own() {
    let cases: &[(&str, u32, i32, &str, &str, &str)] = &[
        ("", 1700, numeric(3, 2), "1.50", "1.50", "1.50"),
        ("", 23, -1, "2", "2", "2"),
        ("", 25, -1, "a\"\\\n\u{1F600}", "\"a\\\"\\\\\n\u{1F600}\"", "a\"\\\n\u{1F600}"),
        ("", 701, -1, "-0.0001", "-1.0E-4", "-1.0E-4"),
        ("", 701, -1, "NaN", "NaN", "NaN"),
        ("", 1082, -1, "2020-01-01", "18262", "18262"),
        ("", 17, -1, "\\x01", "\"AQ==\"", "AQ=="),
        ("", 2950, -1, "u", "\"u\"", "u"),
        ("", 1184, -1, "2016-11-04 11:51:30+00", r#""2016-11-04T11:51:30.000000Z""#, "2016-11-04T11:51:30.000000Z"),
        ("time=connect", 1082, -1, "2020-01-01", "2020-01-01", "2020-01-01"),
        ("time=connect", 1082, -1, "10000-01-01", "10000-01-01", "10000-01-01"),
        ("time=connect", 1114, -1, "12345-01-01 00:00:01", "12345-01-01T00:00:01.000Z", "12345-01-01T00:00:01.000Z"),
        ("time=connect", 1083, -1, "13:51:30.5", "13:51:30.500Z", "13:51:30.500Z"),
        ("time=connect", 1114, -1, "2020-01-01 00:00:01", "2020-01-01T00:00:01.000Z", "2020-01-01T00:00:01.000Z"),
    ];
    for &(words, oid, modifier, text, inside, alone) in cases {
        let column = column(oid, modifier, None, words);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        column.write_connect_text(text.as_bytes(), &mut first).expect("a value");
        column.write_connect_header(text.as_bytes(), &mut second).expect("a value");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        assert_eq!((text(first).as_str(), text(second).as_str()), (inside, alone));
    }
}

#[test]
fn debezium_omits_what_it_does_not_know() {
    let is_omitted = |oid, name, words: &str| column(oid, -1, name, words).is_omitted();
    for oid in [ROW, PRICES, 791, 1003, 1187, 1563, 143, 1017, 2201, 1790, 3220] {
        assert!(is_omitted(oid, None, "compat=debezium"), "{oid}");
        assert!(!is_omitted(oid, None, ""), "{oid}");
    }
    for oid in [23, 1007, 1009, 2951, MOOD, MOODS, MOOD_DOMAIN, PRICE, 1231, 1561, 22, 1020, 3643] {
        assert!(!is_omitted(oid, None, "compat=debezium"), "{oid}");
    }
    for (name, want) in [("isbn", false), ("isbn13", true), ("upc", true), ("citext", false), ("_citext", false), ("odd", true)] {
        assert_eq!(is_omitted(EXTENSION, Some(name), "compat=debezium"), want, "{name}");
    }
    assert!(column(ROW, -1, None, "").is_unknown() && column(3221, -1, None, "").is_unknown());
    assert!(!column(23, -1, None, "").is_unknown() && column(EXTENSION, -1, None, "").is_unknown());
}
