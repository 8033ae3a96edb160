//! Fixed JSON shapes of a record value, `value_encoding = "wrap:…"`: what a framework's own relay makes of several columns.

use crate::field::{Field, Piece};
use crate::json;
use crate::plan::GeneratedId;
use relay_core::{Poison, PoisonReason, Row};

/// `wrap:eventuate`: `{"payload":"…","headers":{…}}`, the payload as a JSON string, the headers written anew. As Eventuate's own
/// mapper prints it, characters above U+FFFF stay as they are.
#[derive(Debug)]
pub(crate) struct Eventuate {
    pub(crate) headers: Field,
    /// The id of a row that brings none; it becomes the header `ID`.
    pub(crate) id: Option<GeneratedId>,
}

// === impl Eventuate ===

impl Eventuate {
    pub(crate) fn write(&self, payload: Option<(&Field, Piece<'_>)>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(b"{\"payload\":");
        match payload {
            None => out.extend_from_slice(b"null"),
            Some((field, Piece::Text(text))) => json::write_string_raw(field.check(text)?, out),
            Some((field, _)) => return Err(field.poison("is not text")),
        }
        out.extend_from_slice(b",\"headers\":{");
        let has_id = self.write_headers(row, out)?;
        if let Some(id) = self.id.as_ref().filter(|_| !has_id) {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.extend_from_slice(b"\"ID\":\"");
            if !id.write(row, out)? {
                return Err(id.field.poison("is NULL, and the headers have no ID"));
            }
            out.push(b'"');
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }

    /// Text values as they are, other scalars as text, null left out; whether `ID` was among them.
    fn write_headers(&self, row: &Row<'_>, out: &mut Vec<u8>) -> Result<bool, Poison> {
        let Piece::Text(object) = self.headers.read(row)? else { return Ok(false) };
        let text = self.headers.check(object)?;
        let not_json = |error: json::NotJson| Poison::new(PoisonReason::Encode, error.words("the headers"));
        let document = json::document(text.as_bytes()).map_err(not_json)?;
        let Some(members) = json::members(document) else { return Err(self.headers.poison("is not a JSON object")) };
        let (mut has_id, mut is_first) = (false, true);
        let mut plain = Vec::new();
        for member in members {
            let member = member.map_err(not_json)?;
            if member.value == b"null" {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            has_id |= json::stands_for(member.name, b"ID");
            self.write_member(member.name, &mut plain, out)?;
            out.push(b':');
            match (json::string_inside(member.value), member.value.first()) {
                (Some(inside), _) => self.write_member(inside, &mut plain, out)?,
                (None, Some(b'{' | b'[')) => return Err(self.headers.poison("has a header that is no text")),
                (None, _) => {
                    out.push(b'"');
                    out.extend_from_slice(member.value);
                    out.push(b'"');
                }
            }
        }
        Ok(has_id)
    }

    /// The inside of a JSON string, its escapes undone and only the needed ones made again.
    fn write_member(&self, inside: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Poison> {
        plain.clear();
        if !json::unescape(inside, plain) {
            return Err(self.headers.poison("has a string with half a surrogate pair"));
        }
        json::write_string_raw(self.headers.check(plain)?, out);
        Ok(())
    }
}
