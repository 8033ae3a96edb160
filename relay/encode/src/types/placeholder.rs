//! What stands in for an unchanged TOAST value that the server did not send (8.5).

use super::ColumnType;
use super::form::{DateUnit, Form};
use super::md5;
use super::number::write_integer;
use crate::{binary, json};

/// oid: an int64 in all but this.
const OID: u32 = 26;

/// The placeholder of a column as JSON; `None` where Debezium has none.
pub(super) fn of(column: &ColumnType, placeholder: &[u8]) -> Option<Box<[u8]>> {
    let mut out = Vec::new();
    match &column.form {
        Form::Text(_) | Form::Char | Form::Enum(_) | Form::NumericText(None) => write_text(placeholder, &mut out),
        Form::BytesBase64 | Form::BytesBase64Url | Form::BytesHex => write_text(placeholder, &mut out),
        Form::Bytes => write_base64(placeholder, &mut out),
        Form::Hstore => {
            let mut object = Vec::new();
            write_pair(placeholder, &mut object);
            json::write_string(&String::from_utf8_lossy(&object), &mut out);
        }
        Form::HstoreMap => write_pair(placeholder, &mut out),
        Form::Array(array) => {
            out.push(b'[');
            write_elements(&array.item, placeholder, &mut out)?;
            out.push(b']');
        }
        _ => return None,
    }
    Some(out.into())
}

fn write_elements(item: &ColumnType, placeholder: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match &item.form {
        _ if item.is_unknown => return None,
        Form::Text(Some("Uuid")) => write_uuid(placeholder, out),
        Form::Text(Some("Json")) | Form::Char => write_text(placeholder, out),
        Form::Text(None) if item.is_plain_text() => write_text(placeholder, out),
        Form::Bytes => write_base64(placeholder, out),
        Form::Int32 | Form::Int64 | Form::Date(DateUnit::Days | DateUnit::Connect) if item.base != OID => {
            for (at, byte) in placeholder.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                // A byte of Java has a sign.
                write_integer(i64::from(byte.cast_signed()), out);
            }
        }
        _ => return None,
    }
    Some(())
}

fn write_text(placeholder: &[u8], out: &mut Vec<u8>) {
    json::write_string(&String::from_utf8_lossy(placeholder), out);
}

fn write_base64(placeholder: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    binary::write_base64(placeholder, out);
    out.push(b'"');
}

fn write_pair(placeholder: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(placeholder);
    out.push(b'{');
    json::write_string_raw(&text, out);
    out.push(b':');
    json::write_string_raw(&text, out);
    out.push(b'}');
}

/// The UUID of version 3 over the bytes alone, without a name space.
fn write_uuid(placeholder: &[u8], out: &mut Vec<u8>) {
    let mut digest = md5::digest(placeholder);
    digest[6] = digest[6] & 0x0F | 0x30;
    digest[8] = digest[8] & 0x3F | 0x80;
    out.push(b'"');
    for (at, byte) in digest.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend(format!("{byte:02x}").into_bytes());
    }
    out.push(b'"');
}
