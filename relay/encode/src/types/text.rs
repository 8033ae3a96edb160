//! Text that is not UTF-8 goes the way `format.invalid_utf8` says; all other text is one JSON string.

use super::modes::InvalidUtf8;
use super::{ColumnType, Refusal, Written};
use crate::binary;
use crate::json;

/// The refusal that is counted as one of its own.
pub(super) const NOT_UTF8: Refusal = "is not UTF-8";

/// Appends the text as a JSON string.
#[inline]
pub(super) fn write(text: &[u8], policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    if json::is_plain_ascii(text) {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
        return Ok(());
    }
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => json::write_string(text, out),
        Err(_) => return write_invalid(text, policy, out),
    }
    Ok(())
}

#[cold]
fn write_invalid(text: &[u8], policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    match policy {
        InvalidUtf8::Poison => return Err(NOT_UTF8),
        InvalidUtf8::Replace => json::write_string(&String::from_utf8_lossy(text), out),
        InvalidUtf8::Base64 => {
            out.push(b'"');
            binary::write_base64(text, out);
            out.push(b'"');
        }
    }
    Ok(())
}

// === impl ColumnType ===

impl ColumnType {
    /// The text that the column shows of text that is not UTF-8; `None` where that is poison.
    #[cold]
    pub(crate) fn mended(&self, text: &[u8]) -> Option<String> {
        match self.utf8 {
            InvalidUtf8::Poison => None,
            InvalidUtf8::Replace => Some(String::from_utf8_lossy(text).into_owned()),
            InvalidUtf8::Base64 => {
                let mut digits = Vec::new();
                binary::write_base64(text, &mut digits);
                String::from_utf8(digits).ok()
            }
        }
    }
}

/// Appends the text as it is, checked: what stands outside of JSON strings.
pub(super) fn write_bare(text: &[u8], policy: InvalidUtf8, out: &mut Vec<u8>) -> Written {
    match (simdutf8::basic::from_utf8(text), policy) {
        (Ok(text), _) => out.extend_from_slice(text.as_bytes()),
        (Err(_), InvalidUtf8::Poison) => return Err(NOT_UTF8),
        (Err(_), InvalidUtf8::Replace) => out.extend_from_slice(String::from_utf8_lossy(text).as_bytes()),
        (Err(_), InvalidUtf8::Base64) => binary::write_base64(text, out),
    }
    Ok(())
}
