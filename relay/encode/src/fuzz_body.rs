//! What the fuzz targets and the time-boxed stable test run over any bytes: every parser, and what must hold afterwards.

use crate::array;
use crate::json;
use crate::pointer::Pointer;
use crate::poll::{AfterPublish, Order};
use crate::predicate;
use crate::properties;
use crate::template::{Bare, Expression, HeaderItem, Reference};
use crate::timestamp;
use crate::types::{ColumnType, every};

/// JSON: a legal document splits into legal parts, and a legal string is unescaped to UTF-8.
pub fn json(bytes: &[u8]) {
    let Ok(document) = json::document(bytes) else { return };
    for member in json::members(document).into_iter().flatten() {
        let member = member.expect("the members of a legal document are legal");
        assert!(json::document(member.value).is_ok());
        assert_eq!(bytes_at(document, member.start, member.value.len()), member.value);
        let _ = json::stands_for(member.name, b"a");
    }
    for element in json::elements(document).into_iter().flatten() {
        assert!(json::document(element.expect("the elements of a legal document are legal")).is_ok());
    }
    if let (Some(inside), true) = (json::string_inside(document), std::str::from_utf8(document).is_ok()) {
        let mut text = Vec::new();
        if json::unescape(inside, &mut text) {
            assert!(json::stands_for(inside, &text));
            let mut again = Vec::new();
            json::write_string(std::str::from_utf8(&text).expect("UTF-8 in, UTF-8 out"), &mut again);
            assert!(json::document(&again).is_ok());
        }
    }
    for pointer in ["/a", "/0", "/a/b/0"] {
        let found = Pointer::parse(pointer).expect("legal").find(document).expect("a legal document");
        assert!(found.is_none_or(|raw| json::document(raw).is_ok()));
    }
}

/// java.util.Properties text: UTF-8 stays UTF-8.
pub fn properties(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let _ = properties::read(text, &mut key, &mut value, |key, value| {
        assert!(std::str::from_utf8(key).is_ok() && std::str::from_utf8(value).is_ok());
    });
}

/// The field language, conditions, orders, marks, timestamps, and the text of arrays.
pub fn template(bytes: &[u8]) {
    let _ = (timestamp::parse(bytes), array::read(bytes, &mut Vec::new(), |_| true));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for bare in [Bare::Column, Bare::Literal] {
        if let Ok(expression) = Expression::parse(text, bare) {
            assert!(expression.alternatives.iter().all(|alternative| !alternative.is_empty()));
        }
    }
    let _ = (Reference::parse(text), HeaderItem::parse(text), Pointer::parse(text), Order::parse(text));
    for term in predicate::parse(text).into_iter().flatten() {
        assert!(!term.sql().is_empty());
    }
    if let Ok(AfterPublish::Update(assignments)) = AfterPublish::parse(text) {
        assert!(assignments.iter().all(|(column, literal)| !column.is_empty() && !literal.sql().is_empty()));
    }
}

thread_local! {
    static COLUMNS: Vec<ColumnType> = every::columns();
}

/// Values of every type in every mode: refused without a trace, or JSON.
pub fn types(bytes: &[u8]) {
    COLUMNS.with(|columns| {
        let mut out = Vec::new();
        for column in columns {
            out.clear();
            match column.write(bytes, &mut out) {
                Ok(()) => {
                    assert!(std::str::from_utf8(&out).is_ok());
                    assert!(json::document(&out).is_ok(), "{column:?}: {}", String::from_utf8_lossy(&out));
                }
                Err(poison) => assert!(out.is_empty() && !poison.message.is_empty()),
            }
            let _ = column.write_connect_text(bytes, &mut out);
            if let Ok(text) = std::str::from_utf8(bytes) {
                for default in [column.default_json(text), column.debezium_default(text)].into_iter().flatten() {
                    assert!(json::document(&default).is_ok());
                }
            }
        }
    });
}

fn bytes_at(text: &[u8], start: usize, length: usize) -> &[u8] {
    text.get(start..start + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    /// Seeds with telling forms; random edits of them for about two seconds.
    #[test]
    fn edited_seeds_are_safe_for_two_seconds() {
        const SEEDS: [&str; 16] = [
            r#"{"a":{"b":[1,-2.5e+3,"\ud83d\ude00\n"]},"a":null,"":[{}]}"#,
            "[[[[[[[[1,2],{}],\"\\u0000\"]]]]]]",
            "#c\ntrace\\u0070arent = 00-ab\\\n   cd\nk:v\\",
            "{topic} ?? outbox.event.{aggregate_type} ?? a#/b~1c",
            "base64(payload#/x?) ?? relay_pos()",
            "a = 1 and b in ('x','y') and c is not null",
            "2026-01-05 12:34:56.789123+05:30 BC",
            "const(\"x\"):name",
            "tick(xid, \"o\"\"ff\") claim(a ?? b)",
            "update:a=now(),b='x''y',\"C d\"=null",
            "entries(m#/h, \"x\") int64be(id):a arrays(n, v)",
            "{a,\"b\\\"c\",NULL,{d}}",
            "[1:2]={-1.50,3e+20}1 year -2 mons 04:05:06.78",
            r#""k\"1"=>"v", "k2"=>NULL"#,
            "<(1,2.5),3>((0,0),(1e-7,NaN))$1,234.11",
            "0101000020E6100000{1:1,3:2}/5 24:00:00-08 B'1011'",
        ];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            for seed in SEEDS {
                let mut bytes = seed.as_bytes().to_vec();
                for _ in 0..=next(4) {
                    let (at, other) = (next(bytes.len().max(1)), SEEDS[next(SEEDS.len())].as_bytes());
                    let byte = other[next(other.len())];
                    match next(4) {
                        0 if !bytes.is_empty() => bytes[at] = byte,
                        1 => bytes.insert(at.min(bytes.len()), byte),
                        2 => bytes.truncate(at),
                        _ => bytes.extend_from_slice(&other[next(other.len())..]),
                    }
                }
                super::json(&bytes);
                super::properties(&bytes);
                super::template(&bytes);
                super::types(&bytes);
            }
        }
    }
}
