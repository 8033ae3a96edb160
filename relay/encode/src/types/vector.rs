//! pgvector, int2vector and oidvector.

use super::{Refusal, Written, float, number};

const NOT_A_VECTOR: Refusal = "is not a vector";

/// `[1,2]` with float64 or float32 items.
pub(super) fn write(text: &[u8], is_half: bool, out: &mut Vec<u8>) -> Written {
    let inside = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).ok_or(NOT_A_VECTOR)?;
    out.push(b'[');
    if !inside.is_empty() {
        for (at, item) in inside.split(|&byte| byte == b',').enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if is_half { float::write_f32(item, out)? } else { float::write_f64(item, out)? }
        }
    }
    out.push(b']');
    Ok(())
}

/// `{1:1,3:2}/5`: pairs of an int16 and a float64, for JSON objects have text keys only.
pub(super) fn write_sparse(text: &[u8], out: &mut Vec<u8>) -> Written {
    let slash = memchr::memchr(b'/', text).ok_or(NOT_A_VECTOR)?;
    let (pairs, dimensions) = text.split_at(slash);
    let pairs = pairs.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).ok_or(NOT_A_VECTOR)?;
    out.extend_from_slice(b"{\"dimensions\":");
    write_int16(dimensions.get(1..).unwrap_or_default(), out)?;
    out.extend_from_slice(b",\"vector\":[");
    if !pairs.is_empty() {
        for (at, pair) in pairs.split(|&byte| byte == b',').enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let colon = memchr::memchr(b':', pair).ok_or(NOT_A_VECTOR)?;
            let (index, value) = pair.split_at(colon);
            out.push(b'[');
            write_int16(index, out)?;
            out.push(b',');
            float::write_f64(value.get(1..).unwrap_or_default(), out)?;
            out.push(b']');
        }
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn write_int16(text: &[u8], out: &mut Vec<u8>) -> Written {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i16>().ok());
    number::write_integer(i64::from(number.ok_or("has more dimensions than an int16 counts")?), out);
    Ok(())
}

/// `1 2`: int2vector and oidvector.
pub(super) fn write_numbers(text: &[u8], out: &mut Vec<u8>) -> Written {
    out.push(b'[');
    if !text.is_empty() {
        for (at, item) in text.split(|&byte| byte == b' ').enumerate() {
            if at > 0 {
                out.push(b',');
            }
            number::copy_integer(item, out)?;
        }
    }
    out.push(b']');
    Ok(())
}
