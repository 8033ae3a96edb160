//! The text of a one-dimensional PostgreSQL array, element by element.

/// Calls `each` with every element, unquoted; `None` for NULL. False when the text is no such array, or `each` says so.
pub(crate) fn read(text: &[u8], scratch: &mut Vec<u8>, mut each: impl FnMut(Option<&[u8]>) -> bool) -> bool {
    let Some(mut rest) = text.strip_prefix(b"{") else { return false };
    if rest == b"}" {
        return true;
    }
    loop {
        scratch.clear();
        let is_quoted = rest.first() == Some(&b'"');
        let end = if is_quoted { quoted(&rest[1..], scratch).map(|length| length + 1) } else { plain(rest, scratch) };
        let Some(end) = end else { return false };
        let is_null = !is_quoted && scratch.eq_ignore_ascii_case(b"null");
        if !each((!is_null).then_some(scratch.as_slice())) {
            return false;
        }
        match rest.get(end..) {
            Some([b'}']) => return true,
            Some([b',', more @ ..]) => rest = more,
            _ => return false,
        }
    }
}

/// The inside of a quoted element, and its length with the closing quote.
fn quoted(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                out.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// An element without quotes, and its length: it is not empty and holds no brace.
fn plain(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let end = text.iter().position(|byte| matches!(byte, b',' | b'}' | b'{' | b'"'))?;
    if end == 0 || matches!(text[end], b'{' | b'"') {
        return None;
    }
    let mut bytes = text[..end].iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elements(text: &str) -> Option<Vec<Option<String>>> {
        let mut found = Vec::new();
        let is_legal = read(text.as_bytes(), &mut Vec::new(), |element| {
            found.push(element.map(|element| String::from_utf8_lossy(element).into_owned()));
            true
        });
        is_legal.then_some(found)
    }

    #[test]
    fn elements_are_read_as_postgres_prints_them() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(elements("{}"), Some(vec![]));
        assert_eq!(elements("{a,b c,NULL}"), Some(vec![text("a"), text("b c"), None]));
        assert_eq!(elements(r#"{"a,b","c\"d\\e","NULL",""}"#), Some(vec![text("a,b"), text("c\"d\\e"), text("NULL"), text("")]));
        for wrong in ["", "{", "a", "{a", "{a,}", "{,a}", "{\"a}", "{{a},{b}}", "{a}b", "{\"a\"b}", "[0:1]={a,b}"] {
            assert_eq!(elements(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[{},\"\\\\aN ]{0,20}", other: Vec<u8>) {
            let _ = (elements(&text), read(&other, &mut Vec::new(), |_| true));
        }

        #[test]
        fn what_is_quoted_comes_back(list in prop::collection::vec(".*", 0..5)) {
            let quoted: Vec<String> =
                list.iter().map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            let expected = list.iter().map(|item| Some(item.clone())).collect::<Vec<_>>();
            prop_assert_eq!(elements(&format!("{{{}}}", quoted.join(","))), Some(expected));
        }
    }
}
