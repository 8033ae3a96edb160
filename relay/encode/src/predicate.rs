//! The plain condition of `match`: comparisons, `in` and `is null`, joined by `and`, over columns and constants.

use crate::field::{Field, Form, Piece, oid};
use crate::json;
use crate::poll::sql_literal;
use crate::sql::identifier;
use crate::template::{Reference, Refusal};
use crate::timestamp::{self, NoTime};
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

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Constant(Constant),
    Sign(&'static str),
}

/// Reads a condition.
pub(crate) fn parse(text: &str) -> Result<Vec<Term>, Refusal> {
    let tokens = tokens(text)?;
    let mut at = tokens.as_slice();
    let mut terms = vec![term(&mut at)?];
    while let Some(token) = take(&mut at) {
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case("and") => terms.push(term(&mut at)?),
            Token::Word(word) if word.eq_ignore_ascii_case("or") => return Err(Refusal::Later("`or`".to_owned())),
            other => return Err(wrong(format!("`and` expected, found {other:?}"))),
        }
    }
    Ok(terms)
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::Wrong(message.into())
}

fn take<'a>(at: &mut &'a [Token]) -> Option<&'a Token> {
    let (first, rest) = at.split_first()?;
    *at = rest;
    Some(first)
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted))
}

fn term(at: &mut &[Token]) -> Result<Term, Refusal> {
    let column = match take(at) {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("not") => return Err(Refusal::Later("`not`".to_owned())),
        Some(Token::Word(word)) => Reference::parse(word)?,
        Some(Token::Quoted(name)) => Reference { column: name.clone(), pointer: None, is_base64: false, is_optional: false },
        _ => return Err(wrong("a condition begins with a column")),
    };
    let test = match take(at) {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("is") => {
            let is_not = is_word(at.first(), "not");
            if is_not {
                take(at);
            }
            if !is_word(take(at), "null") {
                return Err(wrong("`is` stands only in `is null` and `is not null`"));
            }
            if is_not { Test::IsNotNull } else { Test::IsNull }
        }
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("in") => Test::In(list(at)?),
        Some(Token::Sign(sign)) => {
            let operator = match *sign {
                "=" => Operator::Equal,
                "<>" | "!=" => Operator::NotEqual,
                "<" => Operator::Less,
                "<=" => Operator::LessOrEqual,
                ">" => Operator::Greater,
                ">=" => Operator::GreaterOrEqual,
                _ => return Err(wrong(format!("`{sign}` is no comparison"))),
            };
            let constant = constant(at)?;
            if constant == Constant::Now && !matches!(operator, Operator::Less | Operator::LessOrEqual) {
                return Err(wrong("`now()` stands only in `column <= now()` and `column < now()`: the row is due then"));
            }
            if matches!(constant, Constant::Text(_) | Constant::Flag(_))
                && !matches!(operator, Operator::Equal | Operator::NotEqual)
            {
                return Err(Refusal::Later("an order of text (only `=` and `<>` compare text)".to_owned()));
            }
            Test::Compare(operator, constant)
        }
        _ => return Err(wrong("a comparison, `in` or `is null` is expected behind a column")),
    };
    Ok(Term { column, test })
}

fn list(at: &mut &[Token]) -> Result<Vec<Constant>, Refusal> {
    if take(at) != Some(&Token::Sign("(")) {
        return Err(wrong("`(` expected behind `in`"));
    }
    let constant = |at: &mut &[Token]| match constant(at)? {
        Constant::Now => Err(wrong("`now()` stands only behind `<` and `<=`")),
        constant => Ok(constant),
    };
    let mut constants = vec![constant(at)?];
    loop {
        match take(at) {
            Some(Token::Sign(",")) => constants.push(constant(at)?),
            Some(Token::Sign(")")) => return Ok(constants),
            _ => return Err(wrong("`,` or `)` expected in the list behind `in`")),
        }
    }
}

fn constant(at: &mut &[Token]) -> Result<Constant, Refusal> {
    match take(at) {
        Some(Token::Constant(constant)) => Ok(constant.clone()),
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Ok(Constant::Flag(true)),
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Ok(Constant::Flag(false)),
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("now") => match (take(at), take(at)) {
            (Some(Token::Sign("(")), Some(Token::Sign(")"))) => Ok(Constant::Now),
            _ => Err(wrong("`now()` is written with its parentheses")),
        },
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => Err(wrong("write `is null` or `is not null`")),
        _ => Err(wrong("a number, 'text', true or false is expected")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    const SIGNS: [&str; 10] = ["<=", ">=", "<>", "!=", "=", "<", ">", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else if matches!(first, '\'' | '"') {
            let (inside, length) = quoted(rest, first)?;
            tokens.push(if first == '"' { Token::Quoted(inside) } else { Token::Constant(Constant::Text(inside)) });
            length
        } else if first.is_ascii_digit() || matches!(first, '-' | '.') {
            let length = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '.'))).unwrap_or(rest.len());
            let number = &rest[..length];
            if Decimal::parse(number.as_bytes()).is_none() {
                return Err(wrong(format!("`{number}` is not a number")));
            }
            tokens.push(Token::Constant(Constant::Number(number.to_owned())));
            length
        } else if first.is_alphabetic() || first == '_' {
            let mut is_pointer = false;
            let mut is_part = |c: char| {
                // A JSON pointer's names may have a dash or a dot.
                is_pointer |= c == '#';
                c.is_alphanumeric() || matches!(c, '_' | '$' | '#' | '/' | '~') || (is_pointer && matches!(c, '-' | '.'))
            };
            let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            return Err(wrong(format!("`{first}` is not expected")));
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// The inside of a quoted text, doubled quotes undone, and its length with the quotes.
fn quoted(text: &str, quote: char) -> Result<(String, usize), Refusal> {
    let mut inside = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            inside.push(character);
        } else if characters.next_if(|&(_, next)| next == quote).is_some() {
            inside.push(quote);
        } else {
            return Ok((inside, at + 1));
        }
    }
    Err(wrong(format!("{quote} is not closed")))
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

/// Exact for plain decimals of any length; through f64 with an exponent. NaN is the greatest, as in PostgreSQL.
fn compare_numbers(left: &[u8], right: &[u8]) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (Decimal::parse(left), Decimal::parse(right)) {
        return Some(left.compare(&right));
    }
    let [left, right] = [left, right].map(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
    let (left, right) = (left?, right?);
    Some(left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan())))
}

/// A plain decimal without leading and trailing zeros.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (is_negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
        let dot = memchr::memchr(b'.', digits).unwrap_or(digits.len());
        let (mut whole, mut fraction) = (&digits[..dot], digits.get(dot + 1..).unwrap_or_default());
        let is_plain = whole.iter().chain(fraction).all(u8::is_ascii_digit) && whole.len() + fraction.len() > 0;
        while let Some((b'0', rest)) = whole.split_first() {
            whole = rest;
        }
        while let Some((b'0', rest)) = fraction.split_last() {
            fraction = rest;
        }
        let is_zero = whole.is_empty() && fraction.is_empty();
        is_plain.then_some(Self { is_negative: is_negative && !is_zero, whole, fraction })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = |decimal: &Self| decimal.whole.len();
        let magnitude = || size(self).cmp(&size(other)).then(self.whole.cmp(other.whole)).then(self.fraction.cmp(other.fraction));
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
