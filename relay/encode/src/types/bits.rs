//! Bit strings and bytes: base64 written straight from the digits of the text.

use super::Written;
use crate::binary;

/// bit(1) and varbit(1).
pub(super) fn write_bit(text: &[u8], out: &mut Vec<u8>) -> Written {
    match text {
        b"1" => out.extend_from_slice(b"true"),
        b"0" => out.extend_from_slice(b"false"),
        _ => return Err("is not exactly one bit"),
    }
    Ok(())
}

/// Little-endian bytes without the high zero ones, as base64 in quotes.
pub(super) fn write_bits(text: &[u8], out: &mut Vec<u8>) -> Written {
    if !text.iter().all(|byte| matches!(byte, b'0' | b'1')) {
        return Err("is not a bit string");
    }
    let highest = memchr::memchr(b'1', text).unwrap_or(text.len());
    let bits = text.get(highest..).unwrap_or_default();
    let byte = |eight: &[u8]| eight.iter().fold(0, |byte, bit| byte << 1 | (bit & 1));
    out.push(b'"');
    let mut rest = bits;
    while !rest.is_empty() {
        // 24 bits are four digits; the last group is the one with fewer.
        let (more, group) = rest.split_at(rest.len().saturating_sub(24));
        let mut bytes = [0; 3];
        let mut used = 0;
        for (eight, byte_at) in group.rchunks(8).zip(&mut bytes) {
            *byte_at = byte(eight);
            used += 1;
        }
        binary::write_base64(bytes.get(..used).unwrap_or_default(), out);
        rest = more;
    }
    out.push(b'"');
    Ok(())
}

/// `bytea` hex as base64 in quotes.
pub(super) fn write_bytea(text: &[u8], out: &mut Vec<u8>) -> Written {
    let digits = text.strip_prefix(b"\\x").ok_or("is not bytea in hex form (bytea_output must be hex)")?;
    write_hex_as_base64(digits, out)
}

/// The same in the alphabet for URLs.
pub(super) fn write_bytea_url(text: &[u8], out: &mut Vec<u8>) -> Written {
    let start = out.len();
    write_bytea(text, out)?;
    for digit in out.iter_mut().skip(start) {
        match *digit {
            b'+' => *digit = b'-',
            b'/' => *digit = b'_',
            _ => {}
        }
    }
    Ok(())
}

/// `bytea` hex as hex in quotes, in lower case.
pub(super) fn write_bytea_hex(text: &[u8], out: &mut Vec<u8>) -> Written {
    let digits = text.strip_prefix(b"\\x").unwrap_or(b"?");
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("is not bytea in hex form (bytea_output must be hex)");
    }
    out.push(b'"');
    out.extend(digits.iter().map(u8::to_ascii_lowercase));
    out.push(b'"');
    Ok(())
}

/// Pairs of hex digits as base64 in quotes.
pub(super) fn write_hex_as_base64(digits: &[u8], out: &mut Vec<u8>) -> Written {
    if !digits.len().is_multiple_of(2) {
        return Err("has half a byte in its hex form");
    }
    out.push(b'"');
    out.reserve(digits.len() / 6 * 4 + 6);
    // Whole groups of three bytes are as many as fit a small buffer; each group of 48 becomes 64 digits.
    let mut bytes = [0; 48];
    for group in digits.chunks(96) {
        let used = group.len() / 2;
        let Some(some) = bytes.get_mut(..used) else { break };
        if !binary::decode_hex_into(group, some) {
            return Err("has a character in its hex form that is no hex digit");
        }
        binary::write_base64(some, out);
    }
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(text: &str) -> String {
        let mut out = Vec::new();
        write_bits(text.as_bytes(), &mut out).expect("bits");
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn bits_are_little_endian_without_high_zeros() {
        assert_eq!(bits("11"), r#""Aw==""#);
        assert_eq!(bits("1000000"), r#""QA==""#);
        assert_eq!((bits("00"), bits("")), (r#""""#.into(), r#""""#.into()));
        assert_eq!(bits(&format!("1{}", "0".repeat(63))), r#""AAAAAAAAAIA=""#);
        assert!(write_bits(b"012", &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_come_through_as_bits_and_as_bytea(mut bytes: Vec<u8>) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let hex = format!("\\x{hex}");
            let (mut got, mut want) = (Vec::new(), b"\"".to_vec());
            binary::write_base64(&bytes, &mut want);
            want.push(b'"');
            prop_assert!(write_bytea(hex.as_bytes(), &mut got).is_ok());
            prop_assert_eq!(&got, &want);

            let text: String = bytes.iter().rev().map(|byte| format!("{byte:08b}")).collect();
            while bytes.last() == Some(&0) {
                bytes.pop();
            }
            want.truncate(1);
            binary::write_base64(&bytes, &mut want);
            want.push(b'"');
            prop_assert_eq!(bits(&text).into_bytes(), want);
        }
    }
}
