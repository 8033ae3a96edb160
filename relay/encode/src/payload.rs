//! A payload column becomes the value of an outbox record.

use crate::binary;
use crate::field::{Field, Form, Piece};
use crate::json;
use crate::plan::{ValueStep, is_raw_json};
use crate::route::ValueEncoding;
use relay_core::{Event, Poison, Row};

// === impl ValueStep ===

impl ValueStep {
    /// The first alternative that is not NULL.
    #[inline]
    pub(crate) fn find<'a>(&self, row: &Row<'a>) -> Result<Option<(&Field, Piece<'a>)>, Poison> {
        for field in &self.alternatives {
            let piece = field.read(row)?;
            if !piece.is_none() {
                return Ok(Some((field, piece)));
            }
        }
        Ok(None)
    }

    /// Whether what was found is JSON as it stands.
    pub(crate) fn is_json(&self, found: Option<(&Field, Piece<'_>)>) -> bool {
        match found {
            Some((field, _)) => is_json(field) && !field.is_base64 && self.encoding == ValueEncoding::Auto,
            None => self.null == b"null",
        }
    }

    pub(crate) fn write(
        &self,
        found: Option<(&Field, Piece<'_>)>,
        row: &Row<'_>,
        event: &mut Event,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        if found.is_none() && self.is_null_kept && self.envelope.is_none() && self.wrap.is_none() {
            return Ok(());
        }
        event.out().extend_from_slice(&self.head);
        let out = event.out();
        if let Some(wrap) = &self.wrap {
            wrap.write(found, row, out)?;
        } else if let Some(envelope) = &self.envelope {
            envelope.write(found, row, out, scratch)?;
        } else if let Some((field, piece)) = found {
            match (self.encoding, piece) {
                (ValueEncoding::Base64, piece) => {
                    field.write_decoded(piece, out)?;
                }
                (ValueEncoding::JsonString, piece) => write_json_string(field, piece, out, scratch)?,
                (ValueEncoding::Auto | ValueEncoding::Eventuate, Piece::Text(text) | Piece::Json(text)) if !field.is_base64 => {
                    out.extend_from_slice(field.check(text)?.as_bytes());
                }
                (ValueEncoding::Auto | ValueEncoding::Eventuate, piece) => {
                    field.write_text(piece, out)?;
                }
            }
        } else {
            out.extend_from_slice(self.null);
        }
        if !self.head.is_empty() {
            event.out().push(b'}');
        }
        event.end_value();
        Ok(())
    }
}

/// Java's String.trim: everything up to U+0020 at both ends.
pub(crate) fn is_blank(piece: Piece<'_>) -> bool {
    matches!(piece, Piece::Text(text) if text.iter().all(|&byte| byte <= b' '))
}

fn is_json(field: &Field) -> bool {
    field.form == Form::Json || is_raw_json(field)
}

/// The text as one JSON string; bytes as the base64 of theirs.
pub(crate) fn write_json_string(field: &Field, piece: Piece<'_>, out: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<(), Poison> {
    match piece {
        Piece::Text(text) | Piece::Json(text) if !field.is_base64 => json::write_string(field.check(text)?, out),
        piece => {
            scratch.clear();
            field.write_text(piece, scratch)?;
            out.push(b'"');
            binary::write_base64(scratch, out);
            out.push(b'"');
        }
    }
    Ok(())
}
