//! Bytes in text: `bytea` hex and base64, read and written.

/// Appends the bytes of a `bytea` in its hex form `\x0aff`; false when it is not of that form.
#[must_use]
pub(crate) fn decode_bytea(text: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(digits) = text.strip_prefix(b"\\x") else { return false };
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return false;
    }
    let start = out.len();
    let mut wrong = 0;
    out.extend(pairs.iter().map(|&[high, low]| {
        let (high, low) = (HEX_VALUE[high as usize], HEX_VALUE[low as usize]);
        wrong |= (high | low) & 0xF0;
        high << 4 | low & 15
    }));
    if wrong != 0 {
        out.truncate(start);
    }
    wrong == 0
}

/// Fills `out` with the bytes of twice as many hex digits; false when one is no digit or their number is another.
#[must_use]
pub(crate) fn decode_hex_into(digits: &[u8], out: &mut [u8]) -> bool {
    let (pairs, odd) = digits.as_chunks::<2>();
    let mut wrong = 0;
    for (&[high, low], byte) in pairs.iter().zip(out.iter_mut()) {
        let (high, low) = (HEX_VALUE[high as usize], HEX_VALUE[low as usize]);
        wrong |= (high | low) & 0xF0;
        *byte = high << 4 | low & 15;
    }
    wrong == 0 && odd.is_empty() && pairs.len() == out.len()
}

/// Appends two hex digits in upper case.
pub(crate) fn write_hex_upper(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

const HEX_VALUE: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const BASE64_VALUE: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut digit = 0;
    while digit < 64 {
        table[BASE64[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Appends `bytes` in the standard alphabet with padding.
pub(crate) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        let digits = [18, 12, 6, 0].map(|shift| BASE64[(bits >> shift & 63) as usize]);
        let used = group.len() + 1;
        out.extend_from_slice(digits.get(..used).unwrap_or_default());
        out.extend_from_slice(b"==".get(used - 2..).unwrap_or_default());
    }
}

/// Appends the bytes that `text` stands for: standard alphabet, padding complete; line breaks between digits are skipped, as
/// PostgreSQL's `encode` writes them. False when it is not base64.
#[must_use]
pub(crate) fn decode_base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (mut bits, mut digits, mut padding) = (0u32, 0u32, 0u32);
    for &byte in text {
        match byte {
            b'\n' | b'\r' => {}
            b'=' => padding += 1,
            _ => {
                let value = BASE64_VALUE[byte as usize];
                if value == 0xFF || padding > 0 {
                    out.truncate(start);
                    return false;
                }
                bits = bits << 6 | u32::from(value);
                digits += 1;
                if digits == 4 {
                    out.extend_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
                    (bits, digits) = (0, 0);
                }
            }
        }
    }
    match (digits, padding) {
        (0, 0) => true,
        (2, 2) => {
            out.push((bits >> 4) as u8);
            true
        }
        (3, 1) => {
            out.extend_from_slice(&[(bits >> 10) as u8, (bits >> 2) as u8]);
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytea_hex_is_read_and_anything_else_is_not() {
        let mut out = b"x".to_vec();
        assert!(decode_bytea(b"\\x00fFa1", &mut out) && decode_bytea(b"\\x", &mut out));
        assert_eq!(out, b"x\x00\xFF\xA1");
        for wrong in [&b""[..], b"00", b"\\x0", b"\\x0g", b"\\001"] {
            assert!(!decode_bytea(wrong, &mut out));
        }
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn the_base64_vectors_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            write_base64(plain.as_bytes(), &mut there);
            assert_eq!(there, coded.as_bytes());
            assert!(decode_base64(coded.as_bytes(), &mut back));
            assert_eq!(back, plain.as_bytes());
        }
        let mut out = Vec::new();
        assert!(decode_base64(b"Zm9v\nYg==", &mut out));
        for wrong in ["Z", "Zg", "Zg=", "Zg===", "Z===", "Zg==Zg==", "Zm9v!", "_w==", "===="] {
            assert!(!decode_base64(wrong.as_bytes(), &mut out), "{wrong}");
        }
        assert_eq!(out, b"foob");
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes: Vec<u8>) {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            write_base64(&bytes, &mut there);
            prop_assert!(decode_base64(&there, &mut back));
            prop_assert_eq!(back, bytes);
        }
    }
}
