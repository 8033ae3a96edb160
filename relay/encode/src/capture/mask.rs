//! A column's text becomes what may be shown of it (event-format.md, section 8.6).

use sha2::{Digest, Sha256};

/// What is shown instead of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// So many asterisks.
    Stars(usize),
    /// The first characters.
    Truncate(usize),
    /// SHA-256 of salt and text in lower-case hexadecimal.
    Sha256(Box<str>),
    /// `null`.
    Null,
}

// === impl Mask ===

impl Mask {
    /// Longest text of stars; a number of more is a slip of the keyboard.
    const STARS_MAX: usize = 10_000;

    /// Reads `stars:N`, `truncate:N`, `sha256:salt`, `null`; the error is words for what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<usize>().map_err(|_| format!("`{digits}` is not a number of characters"));
        match text.split_once(':') {
            Some(("stars", digits)) => match number(digits)? {
                stars if stars <= Self::STARS_MAX => Ok(Self::Stars(stars)),
                _ => Err(format!("more than {} stars", Self::STARS_MAX)),
            },
            Some(("truncate", digits)) => Ok(Self::Truncate(number(digits)?)),
            Some(("sha256", "")) => Err("`sha256:` needs a salt: without one short values are found by trying".to_owned()),
            Some(("sha256", salt)) => Ok(Self::Sha256(salt.into())),
            None if text == "null" => Ok(Self::Null),
            _ => Err("a mask is `sha256:salt`, `stars:N`, `truncate:N` or `null`".to_owned()),
        }
    }

    /// The parameter that tells of it in the column's schema.
    pub(super) fn parameter(&self) -> Option<(&'static str, String)> {
        match self {
            Mask::Stars(_) | Mask::Sha256(_) => Some(("masked", "true".to_owned())),
            Mask::Truncate(length) => Some(("truncateLength", length.to_string())),
            Mask::Null => None,
        }
    }

    /// Appends what is shown of `text`, at most `length` characters of a hash; false when nothing is.
    pub(super) fn write(&self, text: &str, length: Option<usize>, out: &mut Vec<u8>) -> bool {
        match self {
            Mask::Stars(count) => out.resize(out.len() + count, b'*'),
            Mask::Truncate(count) => {
                let end = text.char_indices().nth(*count).map_or(text.len(), |(at, _)| at);
                out.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
            }
            Mask::Sha256(salt) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let start = out.len();
                for byte in Sha256::new().chain_update(salt.as_bytes()).chain_update(text).finalize() {
                    out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
                if let Some(length) = length {
                    out.truncate(start + length);
                }
            }
            Mask::Null => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        let shown = |mask: &str, text: &str, length| {
            let mut out = Vec::new();
            let is_shown = Mask::parse(mask).expect("legal").write(text, length, &mut out);
            is_shown.then(|| String::from_utf8(out).expect("UTF-8"))
        };
        assert_eq!(shown("stars:3", "secret", None).as_deref(), Some("***"));
        assert_eq!(shown("truncate:2", "äöü", None).as_deref(), Some("äö"));
        assert_eq!(shown("truncate:0", "äöü", None).as_deref(), Some(""));
        assert_eq!(shown("truncate:9", "äöü", None).as_deref(), Some("äöü"));
        assert_eq!(shown("null", "x", None), None);
        // SHA-256 of `saltabc`.
        let hash = shown("sha256:salt", "abc", None).expect("shown");
        assert_eq!(hash.len(), 64);
        assert_eq!(shown("sha256:salt", "abc", Some(20)).as_deref(), Some(&hash[..20]));
        assert_eq!(shown("sha256:sal", "tabc", None), Some(hash));
        for wrong in ["", "stars", "stars:x", "stars:-1", "stars:99999999999", "sha256:", "sha256", "md5:x", "null:1"] {
            assert!(Mask::parse(wrong).is_err(), "{wrong}");
        }
    }
}
