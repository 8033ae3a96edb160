//! A JSON pointer (RFC 6901) leads from a document to the raw text of one value in it.

use crate::json::{self, NotJson};

/// The tokens of a pointer, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    tokens: Box<[Box<[u8]>]>,
}

// === impl Pointer ===

impl Pointer {
    /// Reads `/a/b~1c/0`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("a JSON pointer begins with `/`; `{text}` does not"));
        };
        let token = |token: &str| -> Result<Box<[u8]>, String> {
            let mut out = Vec::with_capacity(token.len());
            let mut bytes = token.bytes();
            while let Some(byte) = bytes.next() {
                out.push(match byte {
                    b'~' => match bytes.next() {
                        Some(b'0') => b'~',
                        Some(b'1') => b'/',
                        _ => return Err(format!("`~` stands only in `~0` and `~1` in the JSON pointer `{text}`")),
                    },
                    byte => byte,
                });
            }
            Ok(out.into())
        };
        Ok(Self { tokens: path.split('/').map(token).collect::<Result<_, _>>()? })
    }

    /// The path as the text of a PostgreSQL array, for `#>` and `#>>`.
    pub(crate) fn array_text(&self) -> String {
        let item = |token: &[u8]| {
            let text = String::from_utf8_lossy(token).replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{text}\"")
        };
        let items: Vec<String> = self.tokens.iter().map(|token| item(token)).collect();
        format!("{{{}}}", items.join(","))
    }

    /// The raw text of the value it points to; `None` when there is none.
    pub(crate) fn find<'a>(&self, document: &'a [u8]) -> Result<Option<&'a [u8]>, NotJson> {
        let mut value = json::document(document)?;
        for token in &self.tokens {
            let found = if let Some(members) = json::members(value) {
                // The last of equal names wins, as in PostgreSQL's own `->`.
                let mut last = None;
                for member in members {
                    let member = member?;
                    if json::stands_for(member.name, token) {
                        last = Some(member.value);
                    }
                }
                last
            } else if let (Some(mut elements), Some(index)) = (json::elements(value), array_index(token)) {
                elements.nth(index).transpose()?
            } else {
                None
            };
            match found {
                Some(inner) => value = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

fn array_index(token: &[u8]) -> Option<usize> {
    let is_canonical = token == b"0" || token.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    if !is_canonical || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(token).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(pointer: &str, document: &str) -> Option<String> {
        let found = Pointer::parse(pointer).expect(pointer).find(document.as_bytes()).expect(document);
        found.map(|raw| String::from_utf8_lossy(raw).into_owned())
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let doc = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}"#;
        let cases = [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ];
        for (pointer, value) in cases {
            assert_eq!(find(pointer, doc).as_deref(), Some(value), "{pointer}");
        }
        for nothing in ["/foo/2", "/foo/00", "/foo/-", "/foo/bar", "/x", "/a/b", "/foo/0/x"] {
            assert_eq!(find(nothing, doc), None, "{nothing}");
        }
        assert_eq!(find("/a", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
        assert!(Pointer::parse("a").is_err() && Pointer::parse("").is_err() && Pointer::parse("/~2").is_err());
        assert!(Pointer::parse("/a").expect("legal").find(b"{\"a\":").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(keys in proptest::collection::vec("[ab~/\"]{0,2}", 1..4), at in 0..4usize) {
            let mut doc = serde_json::json!("end");
            for key in keys.iter().rev() {
                doc = serde_json::json!({ "other": [1], key.as_str(): doc });
            }
            let path: String =
                keys.iter().take(at + 1).map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
            let text = doc.to_string();
            let ours = Pointer::parse(&path).expect("legal").find(text.as_bytes()).expect("legal");
            let ours = ours.map(|raw| serde_json::from_slice::<serde_json::Value>(raw).expect("legal"));
            prop_assert_eq!(ours.as_ref(), doc.pointer(&path));
        }
    }
}
