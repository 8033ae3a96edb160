//! The plain condition of `match`: comparisons, `in` and `is null`, joined by `and`, over columns and constants.

mod number;
mod parse;

pub(crate) use parse::parse;

use crate::field::{Field, Form, Piece, oid};
use crate::json;
use crate::poll::sql_literal;
use crate::sql::identifier;
use crate::template::Reference;
use crate::timestamp::{self, NoTime};
use number::compare_numbers;
use relay_core::{Poison, Row};
use std::cmp::Ordering;

/// One term of a condition, as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) column: Reference,
    pub(crate) test: Test,
}

/// What a column is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Compare(Operator, Constant),
    In(Vec<Constant>),
    IsNull,
    IsNotNull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A constant of the condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    Number(String),
    Text(String),
    Flag(bool),
    /// `now()`: what is compared with it is when the row is due.
    Now,
}

// === impl Term ===

impl Term {
    /// Whether it only says when the row is due.
    pub(crate) fn is_schedule(&self) -> bool {
        matches!(self.test, Test::Compare(_, Constant::Now))
    }

    /// Whether the server can tell when the row is due: the time inside a document may have any form.
    pub(crate) fn can_wait(&self) -> bool {
        self.column.pointer.is_none()
    }

    /// The same condition in SQL.
    pub(crate) fn sql(&self) -> String {
        let column = identifier(&self.column.column);
        let Some(pointer) = &self.column.pointer else {
            return match &self.test {
                Test::IsNull => format!("{column} IS NULL"),
                Test::IsNotNull => format!("{column} IS NOT NULL"),
                Test::Compare(operator, Constant::Now) => format!("({column} {} now()) IS NOT FALSE", operator.sql()),
                Test::Compare(operator, constant) => format!("{column} {} {}", operator.sql(), constant.sql()),
                Test::In(constants) => {
                    let list: Vec<String> = constants.iter().map(Constant::sql).collect();
                    format!("{column} IN ({})", list.join(", "))
                }
            };
        };
        let path = sql_literal(&pointer.array_text());
        let (json, text) = (format!("{column}::jsonb #> {path}"), format!("{column}::jsonb #>> {path}"));
        let of_type = |constant: &Constant, operator: &str| {
            let (kind, value) = match constant {
                Constant::Number(_) => ("number", format!("({text})::numeric")),
                Constant::Flag(_) => ("boolean", format!("({text})::boolean")),
                Constant::Text(_) | Constant::Now => ("string", format!("({text})")),
            };
            format!("CASE WHEN jsonb_typeof({json}) = '{kind}' THEN {value} {operator} {} END", constant.sql())
        };
        match &self.test {
            Test::IsNull | Test::Compare(_, Constant::Now) => format!("({text}) IS NULL"),
            Test::IsNotNull => format!("({text}) IS NOT NULL"),
            Test::Compare(operator, constant) => of_type(constant, operator.sql()),
            Test::In(constants) => {
                let any: Vec<String> = constants.iter().map(|constant| of_type(constant, "=")).collect();
                format!("({})", any.join(" OR "))
            }
        }
    }
}

// === impl Operator ===

impl Operator {
    fn sql(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::NotEqual => "<>",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
        }
    }
}

// === impl Constant ===

impl Constant {
    fn sql(&self) -> String {
        match self {
            Constant::Number(number) => number.clone(),
            Constant::Text(text) => sql_literal(text),
            Constant::Flag(flag) => flag.to_string(),
            Constant::Now => "now()".to_owned(),
        }
    }
}

// === impl Test ===

impl Test {
    /// Why a column of that type cannot be held against these constants, if so.
    pub(crate) fn unfit(&self, field: &Field) -> Option<String> {
        let constants = match self {
            Test::Compare(_, constant) => std::slice::from_ref(constant),
            Test::In(constants) => constants,
            Test::IsNull | Test::IsNotNull => &[],
        };
        if field.form == Form::Member || field.pointer.is_some() {
            return None;
        }
        constants.iter().find_map(|constant| {
            let fits = match constant {
                Constant::Number(_) => {
                    matches!(field.type_oid, oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8)
                }
                Constant::Text(_) => {
                    matches!(field.type_oid, oid::TEXT | oid::VARCHAR | oid::NAME | oid::UUID)
                        || field.type_oid >= oid::FIRST_NORMAL
                }
                Constant::Flag(_) => field.type_oid == oid::BOOL,
                Constant::Now => matches!(field.type_oid, oid::TIMESTAMP | oid::TIMESTAMPTZ),
            };
            let what = match constant {
                Constant::Number(_) => "a number needs an integer, numeric or float column",
                Constant::Text(_) => "text needs a text, varchar, name, uuid or enum column",
                Constant::Flag(_) => "true and false need a boolean column",
                Constant::Now => "now() needs a timestamp or timestamptz column",
            };
            (!fits).then(|| what.to_owned())
        })
    }

    /// Whether the row meets it; as in SQL, NULL meets nothing but `is null`, and the time of a row that names none has come.
    pub(crate) fn is_met(&self, field: &Field, row: &Row<'_>, now_ms: i64) -> Result<bool, Poison> {
        let piece = field.read(row)?;
        Ok(match self {
            Test::IsNull => piece.is_none(),
            Test::IsNotNull => !piece.is_none(),
            Test::Compare(operator, Constant::Now) => match piece {
                Piece::Null | Piece::Absent => true,
                Piece::Text(text) if field.pointer.is_none() => match timestamp::parse(text) {
                    Ok(due_ms) => operator.holds(due_ms.cmp(&now_ms)),
                    Err(NoTime::Infinite) => text.starts_with(b"-"),
                    Err(NoTime::Malformed) => false,
                },
                _ => false,
            },
            Test::Compare(operator, constant) => compare(piece, constant).is_some_and(|order| operator.holds(order)),
            Test::In(constants) => constants.iter().any(|constant| compare(piece, constant).is_some_and(Ordering::is_eq)),
        })
    }
}

/// How the value stands to the constant; `None` for NULL and for a JSON value of another type.
fn compare(piece: Piece<'_>, constant: &Constant) -> Option<Ordering> {
    let unequal_unless = |is_equal: bool| Some(if is_equal { Ordering::Equal } else { Ordering::Less });
    match (piece, constant) {
        (Piece::Text(text), Constant::Text(wanted)) => Some(text.cmp(wanted.as_bytes())),
        (Piece::Json(raw), Constant::Text(wanted)) => {
            unequal_unless(json::stands_for(json::string_inside(raw)?, wanted.as_bytes()))
        }
        (Piece::Text(text) | Piece::Json(text), Constant::Number(wanted)) => compare_numbers(text, wanted.as_bytes()),
        (Piece::Text(text) | Piece::Json(text), Constant::Flag(wanted)) => {
            unequal_unless((text == b"true" || text == b"false") && (text == b"true") == *wanted)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Refusal;
    use proptest::prelude::*;

    #[test]
    fn conditions_are_read() {
        let terms = parse("status = 'PENDING' and \"Retries\" >= -1.5 AND kind in ('a', 'it''s') and x is not null and f = true")
            .expect("legal");
        let tests: Vec<_> = terms.iter().map(|term| (term.column.column.as_str(), term.test.clone())).collect();
        let text = |text: &str| Constant::Text(text.to_owned());
        assert_eq!(
            tests,
            [
                ("status", Test::Compare(Operator::Equal, text("PENDING"))),
                ("Retries", Test::Compare(Operator::GreaterOrEqual, Constant::Number("-1.5".to_owned()))),
                ("kind", Test::In(vec![text("a"), text("it's")])),
                ("x", Test::IsNotNull),
                ("f", Test::Compare(Operator::Equal, Constant::Flag(true))),
            ]
        );
        for later in ["a = 1 or b = 2", "not a = 1", "a < 'x'"] {
            assert!(matches!(parse(later), Err(Refusal::Later(_))), "{later}");
        }
        for illegal in [
            "",
            "a",
            "a =",
            "a = now()",
            "a <= now",
            "a <= now(",
            "a in (now())",
            "a = 'x",
            "1 = a",
            "a in ()",
            "a in (1",
            "a is 1",
            "a = 1 b = 2",
            "a = 1.2.3",
            "a = null",
            "a ; 1",
        ] {
            assert!(matches!(parse(illegal), Err(Refusal::Wrong(_))), "{illegal}");
        }
    }

    #[test]
    fn the_same_condition_in_sql() {
        let sql = |text: &str| parse(text).expect(text).iter().map(Term::sql).collect::<Vec<_>>().join(" AND ");
        assert_eq!(
            sql(
                "status = 'it''s' and \"Retries\" >= -1.5 and kind in ('a', 'b') and x is not null and f = true and due <= now()"
            ),
            "status = 'it''s' AND \"Retries\" >= -1.5 AND kind IN ('a', 'b') AND x IS NOT NULL AND f = true \
             AND (due <= now()) IS NOT FALSE"
        );
        assert_eq!(
            sql("h#/a~1b = 1 and h#/delay <= now()"),
            "CASE WHEN jsonb_typeof(h::jsonb #> '{\"a/b\"}') = 'number' THEN (h::jsonb #>> '{\"a/b\"}')::numeric = 1 END \
             AND (h::jsonb #>> '{\"delay\"}') IS NULL"
        );
        assert!(parse("due <= now()").expect("legal")[0].is_schedule());
    }

    #[test]
    fn numbers_compare_exactly() {
        let cases = [
            ("10", "9", Ordering::Greater),
            ("1.50", "1.5", Ordering::Equal),
            ("-2", "-1", Ordering::Less),
            ("-0", "0.0", Ordering::Equal),
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("1e3", "999", Ordering::Greater),
            ("NaN", "999", Ordering::Greater),
            (".05", "0.1", Ordering::Less),
        ];
        for (left, right, order) in cases {
            assert_eq!(compare_numbers(left.as_bytes(), right.as_bytes()), Some(order), "{left} {right}");
        }
        assert_eq!(compare_numbers(b"x", b"1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[a-c =<>!'\",().0-9n]{0,20}", other: String) {
            let _ = (parse(&text), parse(&other));
        }
    }
}
