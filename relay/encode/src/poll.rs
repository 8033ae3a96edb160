//! What a route says about polling its table: the order of rows, and what becomes of published ones.

/// How the rows of a polled table are found and ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `tick(xid column, order column)`.
    Tick {
        /// Column of type xid8, filled by `pg_current_xact_id()`.
        xid: String,
        /// Identity column.
        order: String,
    },
    /// `claim(order column)`, or `claim(a ?? b)`: the first that the table has.
    Claim {
        /// Order columns.
        order: Vec<String>,
    },
}

/// What becomes of a published row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AfterPublish {
    /// Nothing: the cursor is in the checkpoint.
    #[default]
    Keep,
    /// It is deleted.
    Delete,
    /// `update:col=literal,…`.
    Update(Vec<(String, Literal)>),
}

/// The right side of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `now()`.
    Now,
    /// `null`.
    Null,
    /// Text, read as the column's type.
    Text(String),
}

// === impl Order ===

impl Order {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = "expected `tick(xid column, order column)` or `claim(order column)`";
        let inside = |name: &str| text.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
        if let Some(inside) = inside("tick") {
            let (xid, order) = inside.split_once(',').ok_or_else(|| form.to_owned())?;
            return Ok(Order::Tick { xid: column(xid)?, order: column(order)? });
        }
        match inside("claim") {
            Some(inside) => Ok(Order::Claim { order: inside.split("??").map(column).collect::<Result<_, _>>()? }),
            None => Err(form.to_owned()),
        }
    }
}

/// A column's exact name, with or without double quotes.
fn column(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or_else(|| format!("{text}: the quote is not closed"))?.replace("\"\"", "\""),
        None => text.to_owned(),
    };
    if name.is_empty() { Err("a column's name is empty".to_owned()) } else { Ok(name) }
}

// === impl AfterPublish ===

impl AfterPublish {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => match text.strip_prefix("update:") {
                Some(assignments) => Ok(Self::Update(parse_assignments(assignments)?)),
                None => Err(format!("`{text}` is not known; known: keep, delete, update:column=literal[,column=literal]")),
            },
        }
    }
}

fn parse_assignments(text: &str) -> Result<Vec<(String, Literal)>, String> {
    let mut assignments = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("`{rest}` is not of the form column=literal"))?;
        let name = column(name)?;
        let (literal, left) = parse_literal(after)?;
        if assignments.iter().any(|(known, _)| *known == name) {
            return Err(format!("column `{name}` is assigned twice"));
        }
        assignments.push((name, literal));
        match left {
            Some(left) => rest = left,
            None => return Ok(assignments),
        }
    }
}

/// A literal, and what follows the comma behind it.
fn parse_literal(text: &str) -> Result<(Literal, Option<&str>), String> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('\'') else {
        let (word, left) = text.split_once(',').map_or((text, None), |(word, left)| (word, Some(left)));
        let literal = match word.trim() {
            "now()" => Literal::Now,
            "null" => Literal::Null,
            word if word.contains('\'') => {
                return Err(format!("`{word}`: a literal with a quote stands in single quotes, doubled"));
            }
            word => Literal::Text(word.to_owned()),
        };
        return Ok((literal, left));
    };
    let mut inside = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '\'' {
            inside.push(character);
        } else if characters.next_if(|&(_, next)| next == '\'').is_some() {
            inside.push('\'');
        } else {
            let left = quoted[at + 1..].trim_start();
            return match left.strip_prefix(',') {
                Some(left) => Ok((Literal::Text(inside), Some(left))),
                None if left.is_empty() => Ok((Literal::Text(inside), None)),
                None => Err(format!("`{left}` is not expected behind a literal")),
            };
        }
    }
    Err("a single quote is not closed".to_owned())
}

// === impl Literal ===

impl Literal {
    /// As an SQL expression.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Literal::Now => "now()".to_owned(),
            Literal::Null => "NULL".to_owned(),
            Literal::Text(text) => sql_literal(text),
        }
    }
}

/// A string literal that reads the same under either setting of `standard_conforming_strings`.
pub(crate) fn sql_literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E" } else { "" };
    format!("{prefix}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_are_read() {
        let tick = |xid: &str, order: &str| Order::Tick { xid: xid.into(), order: order.into() };
        assert_eq!(Order::parse("tick(xid, seq)"), Ok(tick("xid", "seq")));
        assert_eq!(Order::parse("tick(transaction_id, \"off\"\"set\")"), Ok(tick("transaction_id", "off\"set")));
        assert_eq!(Order::parse(" claim(dbid ?? id) "), Ok(Order::Claim { order: vec!["dbid".into(), "id".into()] }));
        for wrong in ["", "tick", "tick(a)", "tick(a,)", "claim()", "claim(a", "log", "claim(\"a)"] {
            assert!(Order::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn assignments_are_read() {
        let text = |text: &str| Literal::Text(text.to_owned());
        let update = |text: &str| AfterPublish::parse(text);
        assert_eq!(update("update:published=1"), Ok(AfterPublish::Update(vec![("published".into(), text("1"))])));
        assert_eq!(
            update("update:StatusName=Succeeded,ExpiresAt=now(), x = null,y='a, ''b'''"),
            Ok(AfterPublish::Update(vec![
                ("StatusName".into(), text("Succeeded")),
                ("ExpiresAt".into(), Literal::Now),
                ("x".into(), Literal::Null),
                ("y".into(), text("a, 'b'")),
            ]))
        );
        for wrong in [
            "update",
            "update:",
            "update:a",
            "update:a=1,",
            "update:a='x",
            "update:a='x'y",
            "update:a=1,a=2",
            "update:=1",
            "drop",
            "update:a=it's",
        ] {
            assert!(update(wrong).is_err(), "{wrong}");
        }
        assert_eq!(sql_literal("a'b\\c"), "E'a''b\\\\c'");
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text: String, rest in "[a-z='(),?\"]{0,20}") {
            let _ = (Order::parse(&text), AfterPublish::parse(&text));
            let _ = (Order::parse(&format!("tick({rest})")), AfterPublish::parse(&format!("update:{rest}")));
        }
    }
}
