//! The text of a condition becomes its terms.

use super::number::Decimal;
use super::{Constant, Operator, Term, Test};
use crate::template::{Reference, Refusal};

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
