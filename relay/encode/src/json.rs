//! JSON as text: raw slices are found in it without building values, and strings are written; strict, iterative, never panics.

mod string;
mod walk;

pub(crate) use string::{is_plain_ascii, stands_for, unescape, utf16, write_string, write_string_raw};
pub(crate) use walk::{document, elements, members, string_inside};

use std::fmt::Write as _;

/// The text is not JSON; what and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    /// What was expected.
    pub(crate) expected: &'static str,
    /// Byte offset in the text.
    pub(crate) at: usize,
}

type Found<T> = Result<T, NotJson>;

// === impl NotJson ===

impl NotJson {
    /// Words for a poison message: no text of the document.
    pub(crate) fn words(self, subject: &str) -> String {
        let mut words = String::new();
        let _ = write!(words, "{subject} is not JSON: {} expected at byte {}", self.expected, self.at);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(inside: &str) -> Option<String> {
        let mut out = Vec::new();
        unescape(inside.as_bytes(), &mut out).then(|| String::from_utf8(out).expect("UTF-8 in, UTF-8 out"))
    }

    #[test]
    fn members_come_in_their_order_as_raw_slices() {
        let doc = br#" { "a" : {"x": [1, 2.50, "]}"]}, "b\n": null ,"":"q\"" } "#;
        let found: Vec<_> = members(doc).expect("an object").map(|m| m.expect("legal")).map(|m| (m.name, m.value)).collect();
        assert_eq!(
            found,
            [(&b"a"[..], &br#"{"x": [1, 2.50, "]}"]}"#[..]), (&b"b\\n"[..], &b"null"[..]), (&b""[..], &br#""q\"""#[..]),]
        );
        assert!(members(b"[1]").is_none() && members(b"").is_none());
        assert_eq!(elements(b"[ 1 , [2] ]").expect("an array").flatten().collect::<Vec<_>>(), [&b"1"[..], b"[2]"]);
    }

    #[test]
    fn ten_thousand_levels_need_no_stack() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            assert_eq!(document(deep.as_bytes()).map(<[u8]>::len), Ok(deep.len()));
            assert!(document(&deep.as_bytes()[..deep.len() - 1]).is_err());
        }
        let mixed = format!("{}1{}", r#"[{"a":"#.repeat(300), "}]".repeat(300));
        assert!(document(mixed.as_bytes()).is_ok());
        let crossed = format!("{}1{}", r#"[{"a":"#.repeat(300), "]}".repeat(300));
        assert!(document(crossed.as_bytes()).is_err());
    }

    #[test]
    fn strings_are_unescaped_and_compared() {
        assert_eq!(text(r#"a\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00z"#).as_deref(), Some("a\"\\/\u{8}\u{c}\n\r\tä😀z"));
        for wrong in [r"\uD83D", r"\uDE00", r"\uD83D\u0041", r"\x", "\\", r"\u12"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert!(stands_for(br"tr\u0061ce", b"trace") && stands_for(b"trace", b"trace"));
        assert!(!stands_for(br"tr\u0061c", b"trace") && !stands_for(br"a\n", b"a\\n") && !stands_for(b"b", b"a"));
    }

    #[test]
    fn strings_are_written_as_the_format_says() {
        let mut out = Vec::new();
        write_string("q\"\\/\u{1}\u{1f}\u{8}\t\n\u{c}\r\u{7f}\u{2028}ä😀", &mut out);
        let want = "\"q\\\"\\\\/\\u0001\\u001F\\b\\t\\n\\f\\r\u{7f}\u{2028}ä\\uD83D\\uDE00\"";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), want);
        let mut raw = Vec::new();
        write_string_raw("\"😀\u{1f}\u{10ffff}é", &mut raw);
        assert_eq!(String::from_utf8(raw).expect("UTF-8"), "\"\\\"😀\\u001F\u{10ffff}é\"");
    }

    proptest! {
        #[test]
        fn plain_ascii_is_written_as_it_is(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20u8..0x7F, 1 => any::<u8>()], 0..30)
        ) {
            let mut out = Vec::new();
            let is_plain = std::str::from_utf8(&bytes).is_ok_and(|text| {
                write_string(text, &mut out);
                out.len() == bytes.len() + 2 && bytes.is_ascii()
            });
            prop_assert_eq!(is_plain_ascii(&bytes), is_plain);
        }

        #[test]
        fn random_bytes_never_panic_and_agree_with_serde_json(doc in "[\\[\\]{}\",:0-9a-f.eE+\\-\\\\untrlse ]{0,24}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&doc);
            prop_assert_eq!(document(doc.as_bytes()).is_ok(), theirs.is_ok(), "{}", doc);
        }

        #[test]
        fn a_string_comes_back(text in any::<String>()) {
            let mut json = Vec::new();
            write_string(&text, &mut json);
            prop_assert_eq!(&serde_json::from_slice::<String>(&json).expect("legal"), &text);
            let mut back = Vec::new();
            prop_assert!(unescape(string_inside(document(&json).expect("legal")).expect("a string"), &mut back));
            prop_assert_eq!(back, text.as_bytes());
        }
    }
}
