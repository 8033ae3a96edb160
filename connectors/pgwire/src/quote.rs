//! Text becomes an SQL identifier or string literal that the server reads back unchanged.

/// `name` as a quoted identifier: in double quotes, inner ones doubled.
///
/// Always quoted, so that keywords, upper case and odd characters need no rule of their own. The server cuts identifiers at
/// 63 bytes and knows no NUL: both are the caller's business.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for c in name.chars() {
        if c == '"' {
            quoted.push('"');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// `text` as a string literal: in single quotes, inner ones doubled; with a backslash in it the `E''` form with backslashes
/// doubled, which reads the same under either setting of `standard_conforming_strings` (as libpq's PQescapeLiteral does).
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 4);
    if text.contains('\\') {
        // The space keeps the E from growing into a word that stands before it.
        quoted.push_str(" E");
    }
    quoted.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// `text` as a string literal of a replication command: in single quotes, inner ones doubled, nothing else.
///
/// The replication grammar (`repl_scanner.l`) has a scanner of its own, to which a backslash is an ordinary character and
/// `E''` a syntax error. For `publication_names`, quote each name as identifier, join with commas, then quote the whole here.
#[must_use]
pub fn quote_replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a literal as the server's scanner does.
    fn read_literal(quoted: &str) -> String {
        let text = quoted.trim_start();
        let (escapes, body) = match text.strip_prefix('E') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let body = body.strip_prefix('\'').expect("opens").strip_suffix('\'').expect("closes");
        let mut read = String::new();
        let mut chars = body.chars();
        while let Some(c) = chars.next() {
            if c == '\'' || (c == '\\' && escapes) {
                assert_eq!(chars.next(), Some(c), "a single {c} inside {quoted}");
            } else {
                assert_ne!(c, '\\', "a bare backslash depends on standard_conforming_strings");
            }
            read.push(c);
        }
        read
    }

    proptest! {
        #[test]
        fn literals_read_back(text in "[a'\\\\\"% \\n\u{e9}]{0,12}|.{0,20}") {
            prop_assert_eq!(read_literal(&quote_literal(&text)), text);
        }

        #[test]
        fn identifiers_read_back(text in "[a\"' \\\\.]{0,12}|.{0,20}") {
            let quoted = quote_identifier(&text);
            let body = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(body.replace("\"\"", "\u{0}").matches('"').count(), 0);
            prop_assert_eq!(body.replace("\"\"", "\""), text);
        }
    }

    #[test]
    fn known_forms() {
        assert_eq!(quote_identifier("a\"B"), "\"a\"\"B\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(quote_literal(""), "''");
        assert_eq!(quote_replication_literal("\"a\\'b\""), "'\"a\\''b\"'");
    }
}
