//! The text form of java.util.Properties, read entry by entry into buffers that are reused.

/// Hands each entry, unescaped, to `take`: key, value. False when an escape is wrong.
///
/// Keys and values are collected in `key` and `value`, so nothing is allocated once those have grown.
#[must_use]
pub(crate) fn read(text: &str, key: &mut Vec<u8>, value: &mut Vec<u8>, mut take: impl FnMut(&[u8], &[u8])) -> bool {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    loop {
        reader.skip_blank_lines();
        match reader.peek() {
            None => return true,
            Some(b'#' | b'!') => reader.skip_line(),
            Some(_) => {
                key.clear();
                value.clear();
                if !reader.piece(key, true) {
                    return false;
                }
                reader.skip_separator();
                if !reader.piece(value, false) {
                    return false;
                }
                take(key, value);
            }
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blank_lines(&mut self) {
        while let Some(b' ' | b'\t' | 0x0C | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | 0x0C) = self.peek() {
            self.at += 1;
        }
    }

    /// A comment line is not continued.
    fn skip_line(&mut self) {
        while !matches!(self.peek(), None | Some(b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// If a line ends here with a backslash, goes to the text of the next one.
    fn skip_continuation(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = match rest {
            [b'\\', b'\r', b'\n', ..] => 3,
            [b'\\', b'\n' | b'\r', ..] => 2,
            _ => return false,
        };
        self.at += length;
        self.skip_blanks();
        true
    }

    /// White space, at most one `=` or `:`, white space.
    fn skip_separator(&mut self) {
        let mut has_sign = false;
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | 0x0C) => self.at += 1,
                Some(b'=' | b':') if !has_sign => {
                    has_sign = true;
                    self.at += 1;
                }
                Some(b'\\') if self.skip_continuation() => {}
                _ => return,
            }
        }
    }

    /// Appends up to the end of the logical line, or of the key.
    fn piece(&mut self, out: &mut Vec<u8>, is_key: bool) -> bool {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' | b'\r' => return true,
                b'=' | b':' | b' ' | b'\t' | 0x0C if is_key => return true,
                b'\\' if self.skip_continuation() => {}
                b'\\' => {
                    if !self.escape(out) {
                        return false;
                    }
                }
                _ => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
        true
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let plain = match rest.get(1) {
            None => {
                // A backslash as the very last character is dropped, as Java does.
                self.at += 1;
                return true;
            }
            Some(b'u') => {
                let Some((character, length)) = crate::json::utf16(rest) else { return false };
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += length;
                return true;
            }
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'f') => 0x0C,
            Some(&other) => other,
        };
        out.push(plain);
        self.at += 2;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8 stays UTF-8");
        read(text, &mut Vec::new(), &mut Vec::new(), |key, value| found.push((text_of(key), text_of(value)))).then_some(found)
    }

    #[test]
    fn the_forms_java_documents() {
        let text = "#Mon Jan 05\n! also\ntraceparent=00-4bf9-01\r\n Truth : Beauty\nfruits  apple, \\\n   banana\\\r\n  , pear\n\
                    cheeses\na\\ b\\=c=d\\u00e4\\uD83D\\uDE00\\t\\q = e \nempty=\nlast=x\\";
        let want = [
            ("traceparent", "00-4bf9-01"),
            ("Truth", "Beauty"),
            ("fruits", "apple, banana, pear"),
            ("cheeses", ""),
            ("a b=c", "dä😀\tq = e "),
            ("empty", ""),
            ("last", "x"),
        ];
        let want: Vec<_> = want.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!(entries(text), Some(want));
        assert_eq!(entries(""), Some(vec![]));
        for wrong in ["a=\\u12", "a=\\uD83D", "\\uZZZZ=1"] {
            assert_eq!(entries(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[a\\\\u0dD8=: #!\r\nä]{0,40}") {
            let _ = entries(&text);
        }
    }
}
