//! The field language: columns, pointers, functions and templates with `??`, parsed into parts.

use crate::pointer::Pointer;

/// Why a text of the field language is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is wrong.
    Wrong(String),
    /// It is for a later version.
    Later(String),
}

/// Alternatives in order; the first that is not NULL and not empty counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) alternatives: Vec<Vec<Part>>,
}

/// A piece of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Variable(Variable),
    Field(Reference),
    /// `relay_pos()`: the text of the header `relay-pos`.
    RelayPos,
    /// `null()`: makes its alternative NULL.
    Null,
    /// `generated_id(column)`: an id made of a number in the row, `outbox_id` and the number behind the table's name.
    GeneratedId(Reference),
}

/// What a route knows about its table or message without looking at the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    Table,
    Schema,
    TableSuffix,
    Prefix,
    PrefixRest,
}

/// A column, or a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) column: String,
    pub(crate) pointer: Option<Pointer>,
    /// `base64(…)`: the text is decoded first.
    pub(crate) is_base64: bool,
    /// `…?`.
    pub(crate) is_optional: bool,
}

/// An entry of the header list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderItem {
    /// `column`, `column:alias`, `column?`.
    Field { name: String, reference: Reference },
    /// `const("x"):name`.
    Constant { name: String, value: String },
    /// `{column}`: every entry of an object. `entries(column, "name", …)`: the same, and an entry of such a name is refused.
    Entries { reference: Reference, reserved: Vec<String> },
    /// `arrays(names, values)`: two arrays of text, of equal length.
    Arrays { names: Reference, values: Reference },
    /// `int64be(column):name`: an integer as 8 bytes, the highest first.
    Int64(String, Reference),
    /// `time(column, "form"):name`.
    Time { name: String, reference: Reference, form: TimeForm },
    /// `const(source_name):name`: the text of the key `source_name`.
    SourceName(String),
}

/// How a header shows a time, always in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// `rfc3339`: `2026-01-05T12:34:56.789Z`.
    Rfc3339,
    /// `month/day/year`: `01/05/2026 12:34:56`.
    MonthDayYear,
}

/// How text without braces reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// As a literal, unless it has a pointer: topics.
    Literal,
    /// As a column: all else.
    Column,
}

// === impl Expression ===

impl Expression {
    pub(crate) fn parse(text: &str, bare: Bare) -> Result<Self, Refusal> {
        let alternatives =
            text.split("??").map(|alternative| parse_alternative(alternative.trim(), bare)).collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// The text, if no row and no table takes part in it.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.alternatives.first()?.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    pub(crate) fn uses(&self, variable: Variable) -> bool {
        self.alternatives.iter().flatten().any(|part| *part == Part::Variable(variable))
    }
}

fn parse_alternative(text: &str, bare: Bare) -> Result<Vec<Part>, Refusal> {
    if text.is_empty() {
        return Err(Refusal::Wrong("an alternative is empty".to_owned()));
    }
    if text.contains(['{', '}']) {
        return parse_template(text);
    }
    Ok(vec![match text {
        "relay_pos()" => Part::RelayPos,
        "null()" => Part::Null,
        _ if text.starts_with("generated_id(") => match call(text) {
            Some((_, column)) => Part::GeneratedId(Reference::parse(column)?),
            None => return Err(Refusal::Wrong(format!("`{text}` is not closed"))),
        },
        _ if bare == Bare::Literal && !text.contains("#/") => Part::Literal(text.to_owned()),
        _ => Part::Field(Reference::parse(text)?),
    }])
}

fn parse_template(text: &str) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
        if literal.contains('}') {
            return Err(Refusal::Wrong(format!("`}}` without `{{` in `{text}`")));
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        if literal.len() == rest.len() {
            break;
        }
        let Some((inside, behind)) = after.split_once('}') else {
            return Err(Refusal::Wrong(format!("`{{` is not closed in `{text}`")));
        };
        parts.push(match inside.trim() {
            "" => return Err(Refusal::Wrong(format!("`{{}}` names nothing in `{text}`"))),
            "table" => Part::Variable(Variable::Table),
            "schema" => Part::Variable(Variable::Schema),
            "table_suffix" => Part::Variable(Variable::TableSuffix),
            "prefix" => Part::Variable(Variable::Prefix),
            "prefix_rest" => Part::Variable(Variable::PrefixRest),
            inside if inside.contains('{') => return Err(Refusal::Wrong(format!("`{{` inside braces in `{text}`"))),
            inside => Part::Field(Reference::parse(inside)?),
        });
        rest = behind;
    }
    Ok(parts)
}

// === impl Reference ===

impl Reference {
    /// Reads `column`, `column#/pointer`, `base64(…)`, each with a `?` behind it if it may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let (text, is_optional) = text.strip_suffix('?').map_or((text, false), |text| (text.trim_end(), true));
        if let Some((name, arguments)) = call(text) {
            return match name {
                "base64" => Ok(Self { is_base64: true, is_optional, ..Self::parse(arguments)? }),
                _ => Err(Refusal::Wrong(format!(
                    "there is no function `{name}(…)` here; known: base64, relay_pos, null, generated_id; in headers also const, arrays, \
                     entries, int64be, time"
                ))),
            };
        }
        let (column, pointer) = match text.split_once('#') {
            Some((column, pointer)) => (column, Some(Pointer::parse(pointer).map_err(Refusal::Wrong)?)),
            None => (text, None),
        };
        if column.is_empty() {
            return Err(Refusal::Wrong(format!("`{text}` names no column")));
        }
        Ok(Self { column: column.to_owned(), pointer, is_base64: false, is_optional })
    }
}

/// The parts of `name(arguments)`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (name, arguments) = text.strip_suffix(')')?.split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some((name, arguments))
}

// === impl HeaderItem ===

impl HeaderItem {
    /// Reads one entry of the header list.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("const(source_name)") {
            return Ok(Self::SourceName(alias(name)?));
        }
        if let Some((function, rest)) = ["arrays", "entries", "int64be", "time"]
            .into_iter()
            .find_map(|name| Some((name, text.strip_prefix(name)?.strip_prefix('(')?)))
        {
            return Self::function(function, rest);
        }
        if let Some(rest) = text.strip_prefix("const(") {
            let quoted = rest.strip_prefix('"').and_then(|rest| rest.rsplit_once("\")"));
            let Some((value, alias)) = quoted else {
                return Err(Refusal::Wrong("a constant is written `const(\"text\"):name`".to_owned()));
            };
            let Some(name) = alias.strip_prefix(':').filter(|name| !name.is_empty()) else {
                return Err(Refusal::Wrong("a constant needs a header name: `const(\"text\"):name`".to_owned()));
            };
            return Ok(Self::Constant { name: name.to_owned(), value: value.to_owned() });
        }
        if let Some(inside) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            return Ok(Self::Entries { reference: Reference::parse(inside)?, reserved: Vec::new() });
        }
        if text.contains(['{', '}']) {
            return Err(Refusal::Wrong("braces stand only around one object column: `{column}`".to_owned()));
        }
        match text.rsplit_once(':') {
            Some((_, "")) => Err(Refusal::Wrong("the header name behind `:` is empty".to_owned())),
            Some((column, name)) => Ok(Self::Field { name: name.to_owned(), reference: Reference::parse(column)? }),
            None => {
                let reference = Reference::parse(text)?;
                if reference.pointer.is_some() || reference.is_base64 {
                    return Err(Refusal::Wrong("a pointer or function needs a header name: `column#/pointer:name`".to_owned()));
                }
                Ok(Self::Field { name: reference.column.clone(), reference })
            }
        }
    }
}

impl HeaderItem {
    /// Reads the arguments of a function, and the header's name behind it.
    fn function(function: &str, rest: &str) -> Result<Self, Refusal> {
        let Some((inside, name)) = rest.rsplit_once(')') else {
            return Err(Refusal::Wrong(format!("`{function}(` is not closed")));
        };
        let arguments: Vec<&str> = inside.split(',').map(str::trim).collect();
        let quoted = |text: &str| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
        match (function, arguments.as_slice()) {
            ("arrays", [names, values]) if name.is_empty() => {
                Ok(Self::Arrays { names: Reference::parse(names)?, values: Reference::parse(values)? })
            }
            ("entries", [column, reserved @ ..]) if name.is_empty() => {
                let reserved = reserved.iter().map(|name| quoted(name)).collect::<Option<_>>();
                let reserved =
                    reserved.ok_or_else(|| Refusal::Wrong("the names that `entries` refuses stand in quotes".to_owned()))?;
                Ok(Self::Entries { reference: Reference::parse(column)?, reserved })
            }
            ("int64be", [column]) => Ok(Self::Int64(alias(name)?, Reference::parse(column)?)),
            ("time", [column, form]) => {
                let form = match quoted(form).as_deref() {
                    Some("rfc3339") => TimeForm::Rfc3339,
                    Some("month/day/year") => TimeForm::MonthDayYear,
                    _ => return Err(Refusal::Wrong("the forms of `time` are \"rfc3339\" and \"month/day/year\"".to_owned())),
                };
                Ok(Self::Time { name: alias(name)?, reference: Reference::parse(column)?, form })
            }
            _ => Err(Refusal::Wrong(format!(
                "`{function}` is written arrays(names, values), entries(column, \"refused\"), int64be(column):name or time(column, \
                 \"form\"):name"
            ))),
        }
    }
}

/// The header's name behind a function.
fn alias(text: &str) -> Result<String, Refusal> {
    match text.strip_prefix(':').filter(|name| !name.is_empty()) {
        Some(name) => Ok(name.to_owned()),
        None => Err(Refusal::Wrong("a function needs a header name: `function(column):name`".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Reference {
        Reference { column: name.to_owned(), pointer: None, is_base64: false, is_optional: false }
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.to_owned())
    }

    #[test]
    fn templates_split_into_literals_and_fields() {
        let parse = |text, bare| Expression::parse(text, bare).expect("legal").alternatives;
        assert_eq!(
            parse("{topic} ?? outbox.event.{aggregate_type}", Bare::Literal),
            [vec![Part::Field(column("topic"))], vec![literal("outbox.event."), Part::Field(column("aggregate_type"))]]
        );
        assert_eq!(parse("orders", Bare::Literal), [[literal("orders")]]);
        assert_eq!(parse("key", Bare::Column), [[Part::Field(column("key"))]]);
        assert_eq!(
            parse("{table_suffix}/{Msg Id?}", Bare::Column),
            [[
                Part::Variable(Variable::TableSuffix),
                literal("/"),
                Part::Field(Reference { is_optional: true, ..column("Msg Id") })
            ]]
        );
        assert_eq!(parse("id ?? relay_pos()", Bare::Column), [[Part::Field(column("id"))], [Part::RelayPos]]);
        assert_eq!(
            parse("payload#/destination_topic", Bare::Literal),
            [[Part::Field(Reference { pointer: Pointer::parse("/destination_topic").ok(), ..column("payload") })]]
        );
        for wrong in ["", "a ??", "{", "a}", "{}", "{a{b}", "{a}}", "f(x", "nosuch(x)", "a#b", "#/x"] {
            let parsed = Expression::parse(wrong, Bare::Column);
            assert!(matches!(parsed, Err(Refusal::Wrong(_))) || wrong == "f(x", "{wrong}: {parsed:?}");
        }
        assert_eq!(
            parse("id ?? generated_id(dbid?)", Bare::Column)[1],
            [Part::GeneratedId(Reference { is_optional: true, ..column("dbid") })]
        );
    }

    #[test]
    fn header_items() {
        let parse = |text| HeaderItem::parse(text).expect("legal");
        let field = |name: &str, reference| HeaderItem::Field { name: name.to_owned(), reference };
        assert_eq!(parse("type"), field("type", column("type")));
        assert_eq!(parse("type:eventType"), field("eventType", column("type")));
        assert_eq!(parse("type?"), field("type", Reference { is_optional: true, ..column("type") }));
        let entries = |name, reserved: &[&str]| HeaderItem::Entries {
            reference: column(name),
            reserved: reserved.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(parse("{headers}"), entries("headers", &[]));
        assert_eq!(parse("entries(metadata, \"a\", \"b\")"), entries("metadata", &["a", "b"]));
        assert_eq!(parse("arrays(k, v)"), HeaderItem::Arrays { names: column("k"), values: column("v") });
        assert_eq!(parse("int64be(id):x"), HeaderItem::Int64("x".to_owned(), column("id")));
        assert_eq!(
            parse("time(at, \"month/day/year\"):x"),
            HeaderItem::Time { name: "x".to_owned(), reference: column("at"), form: TimeForm::MonthDayYear }
        );
        assert_eq!(parse("const(source_name):x"), HeaderItem::SourceName("x".to_owned()));
        assert_eq!(parse("const(\"a:b\"):x"), HeaderItem::Constant { name: "x".to_owned(), value: "a:b".to_owned() });
        for wrong in [
            "",
            "a:",
            "{a",
            "a{b}",
            "const(x):y",
            "const(\"x\")",
            "a#/b",
            "{}",
            "arrays(a)",
            "arrays(a, b):x",
            "int64be(a)",
            "time(a):x",
            "time(a, \"x\"):y",
            "time(a",
            "entries(a, b)",
        ] {
            assert!(HeaderItem::parse(wrong).is_err(), "{wrong}");
        }
    }
}
