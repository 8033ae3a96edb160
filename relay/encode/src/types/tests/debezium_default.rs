//! Defaults as Debezium 3.7.0 has them in its schemas (recorded): expressions as `pg_get_expr` prints them.

use super::{MOOD, PRICE, column, numeric};

/// The modes of the second recording.
const DOUBLES: &str = "decimal=double time=isostring interval=string";

#[test]
fn debezium_takes_the_first_text_in_quotes_or_the_whole_expression() {
    check(
        "",
        &[
            (25, -1, "CURRENT_USER", Some(r#""CURRENT_USER""#)),
            (1043, -1, "CURRENT_SCHEMA", Some(r#""CURRENT_SCHEMA""#)),
            (25, -1, "(1)::text", Some(r#""(1)::text""#)),
            (25, -1, "('a'::text || 'b'::text)", Some(r#""a""#)),
            (25, -1, "\nCASE\n    WHEN true THEN 'it''s'::text\n    ELSE NULL::text\nEND", Some(r#""it's""#)),
            (25, -1, "'NULL'::text", Some(r#""NULL""#)),
            (25, -1, "NULL::character varying", None),
            // A bracket behind the end of the line closes no call.
            (25, -1, "upper('x'::text)", Some(r#""""#)),
            (25, -1, "upper('x\ny'::text)", Some(r#""x\ny""#)),
            (25, -1, "CURRENT_DATE", Some(r#""""#)),
            (1042, 8, "'a '::bpchar", Some(r#""a ""#)),
            (1042, -1, "' '::bpchar", Some(r#"" ""#)),
            (3802, -1, "'{}'::jsonb", Some(r#""{}""#)),
            (3802, -1, "to_jsonb(1)", Some(r#""{}""#)),
            (2950, -1, "'00000000-0000-4000-8000-00000000000A'::uuid", Some(r#""00000000-0000-4000-8000-00000000000a""#)),
            (2950, -1, "('0'::text)::uuid", None),
            (2950, -1, "gen_random_uuid()", Some(r#""00000000-0000-0000-0000-000000000000""#)),
            // A label stays as it is spelt in the expression.
            (MOOD, -1, "'it''s'::s.mood", Some(r#""it''s""#)),
            (MOOD, -1, "('glad'::text)::s.mood", None),
            (MOOD, -1, "s.mood_of_today()", None),
            (PRICE, -1, "1.5", None),
            (26, -1, "9", None),
            (1007, -1, "('{1}'::integer[] || 1)", None),
        ],
    );
}

#[test]
fn debezium_parses_numbers_as_java_does() {
    check(
        "",
        &[
            (23, -1, "5", Some("5")),
            (23, -1, "'-5'::integer", Some("-5")),
            (23, -1, "(3)::bigint", None),
            (21, -1, "(3)::smallint", None),
            (23, -1, "((1)::oid)::integer", None),
            (23, -1, "(1 + 1)", None),
            (23, -1, "nextval('t_pk_seq'::regclass)", Some("0")),
            (700, -1, "1.5", Some("1.5")),
            (700, -1, "(0.1)::double precision", None),
            (701, -1, "1.5::numeric(3,1)", None),
            (1700, numeric(10, 2), "100", Some(r#""JxA=""#)),
            (1700, numeric(10, 2), "(1)::bigint", None),
            (1700, numeric(10, 2), "(0.5)::double precision", None),
            (1700, numeric(10, 2), "1.555", None),
            (1700, numeric(10, 2), "NULL::numeric", None),
            (16, -1, "true", Some("true")),
            (16, -1, "(1 = 1)", Some("false")),
            (16, -1, "(1)::boolean", Some("false")),
            (1560, 1, "'1'::\"bit\"", Some("true")),
            (1560, 1, "'1000'::bit(1)", Some("true")),
            (1560, 1, "(1)::bit(1)", None),
            (1562, 5, "'1'::bit varying", Some(r#""AQ==""#)),
            // Every `1` of the text is a bit.
            (1560, 5, "(5)::bit(5)", Some(r#""""#)),
            (1560, 31, "(5)::bit(31)", Some(r#""Ag==""#)),
            (1560, 100, "(5)::bit(100)", Some(r#""CA==""#)),
        ],
    );
    check(
        DOUBLES,
        &[
            (1700, -1, "1.50", Some("1.5")),
            (1700, -1, "(5)::bigint", None),
            (1700, -1, "'NaN'::numeric", None),
            (1700, -1, "round(0.5)", Some("0.0")),
            (1700, numeric(10, 2), "1.5", Some("1.5")),
            (1700, numeric(10, 2), "1.555", None),
            (1700, numeric(5, 0), "0.50", None),
            (1700, numeric(5, 0), "'7.0'::numeric", Some("7.0")),
        ],
    );
    check(
        "decimal=string",
        &[
            (1700, numeric(10, 2), "1.5", Some(r#""1.50""#)),
            (1700, numeric(10, 2), "1.500", Some(r#""1.50""#)),
            (1700, numeric(10, 0), "7.0", Some(r#""7""#)),
            (1700, numeric(10, 2), "1.555", None),
            (1700, numeric(10, 2), "round(0.5)", Some(r#""0.00""#)),
            (1700, -1, "'NaN'::numeric", None),
        ],
    );
}

#[test]
fn debezium_takes_one_kind_of_time_for_another() {
    check(
        "",
        &[
            (1082, -1, "'2020-01-01 10:00:00'::timestamp without time zone", Some("18262")),
            (1082, -1, "'0044-03-15 BC'::date", Some("-735160")),
            (1082, -1, "((now() + '1 day'::interval))::date", None),
            (1082, -1, "(CURRENT_DATE + 1)", None),
            (1083, -1, "'01:02:03.4'::time without time zone", Some("3723400000")),
            (1083, -1, "'01:02:03+05'::time with time zone", None),
            (1114, -1, "'2020-01-01'::date", Some("1577836800000000")),
            (1114, 3, "('2020-01-01'::date + '01:00:00'::time without time zone)", Some("1577836800000")),
            (1114, -1, "'0044-03-15 00:00:00 BC'::timestamp without time zone", Some("-63517824000000000")),
            (1114, 3, "'infinity'::timestamp without time zone", None),
            (1114, 5, "'infinity'::timestamp without time zone", Some("-9223372036853775810")),
            (1114, 5, "'-infinity'::timestamp without time zone", Some("-9223372036854775808")),
            (1184, -1, "'2020-01-01'::date", Some(r#""2020-01-01T00:00:00.000000Z""#)),
            (1184, -1, "'2020-01-01 00:00:00'::timestamp without time zone", Some(r#""2020-01-01T00:00:00.000000Z""#)),
            (1184, -1, "'infinity'::timestamp with time zone", None),
            (1184, 2, "'2019-12-31 18:30:00.678+00'::timestamp with time zone", Some(r#""2019-12-31T18:30:00.67Z""#)),
            // Without digits of its own a column shows those that there are.
            (1184, 0, "'2020-01-01 00:00:00.6+00'::timestamp with time zone", Some(r#""2020-01-01T00:00:00.6Z""#)),
            (1184, 0, "now()", Some(r#""1970-01-01T00:00:00Z""#)),
            (1186, -1, "('1 hour'::text)::interval", Some("3600000000")),
            (1186, -1, "'-1 days +02:03:00'::interval", Some("-79020000000")),
            (1186, -1, "make_interval(days => 3)", Some("0")),
        ],
    );
    check(
        DOUBLES,
        &[
            (1082, -1, "'2020-01-01 10:00:00'::timestamp without time zone", Some(r#""2020-01-01Z""#)),
            (1114, -1, "'2020-01-01'::date", Some(r#""2020-01-01T00:00:00Z""#)),
            (1114, -1, "'infinity'::timestamp without time zone", Some(r#""+999999999-12-31T23:59:59.999999999Z""#)),
            (1114, 0, "'-infinity'::timestamp without time zone", Some(r#""-999999999-01-01T00:00:00Z""#)),
            (1186, -1, "('1 hour'::text)::interval", Some(r#""P0Y0M0DT1H0M0S""#)),
        ],
    );
}

fn check(words: &str, cases: &[(u32, i32, &str, Option<&str>)]) {
    for &(oid, modifier, expression, want) in cases {
        let got = column(oid, modifier, None, words).debezium_default(expression);
        assert_eq!(got.as_deref().map(|json| std::str::from_utf8(json).expect("UTF-8")), want, "{oid} {expression}");
    }
}
