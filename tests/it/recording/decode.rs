//! Decodes what Connect's JSON wraps in base64, by code that shares nothing with relay's.

use serde_json::Value;

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut held, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = LETTERS.iter().position(|known| *known == letter).unwrap_or_else(|| panic!("no base64: {text}"));
        held = held << 6 | u32::try_from(six).expect("a small number");
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((held >> count & 0xFF).try_into().expect("a byte"));
        }
    }
    out
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex_of_base64(value: &Value) -> String {
    base64(string(value)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Decimal as plain digits.
pub(super) fn decimal(value: &Value, scale: usize) -> String {
    let mut bytes = base64(string(value));
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if is_negative {
        // Two's complement: every bit turned, and one more.
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        for byte in bytes.iter_mut().rev() {
            let (next, is_carried) = byte.overflowing_add(1);
            *byte = next;
            if !is_carried {
                break;
            }
        }
    }
    // Long division by ten, digit after digit from the end.
    let mut digits = Vec::new();
    while bytes.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut bytes {
            let current = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(current / 10).expect("a byte");
            rest = current % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(rest).expect("a digit")));
    }
    while digits.len() <= scale {
        digits.push('0');
    }
    digits.reverse();
    let mut text: String = digits.into_iter().collect();
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    if is_negative { format!("-{text}") } else { text }
}

/// A VariableScaleDecimal as plain digits.
pub(super) fn variable_decimal(value: &Value) -> String {
    let scale = value["scale"].as_u64().unwrap_or_else(|| panic!("no scale: {value}"));
    decimal(&value["value"], usize::try_from(scale).expect("a small scale"))
}

/// Bits: little-endian bytes, the high ones left out when zero; at least so many bits.
pub(super) fn bits(value: &Value, least: usize) -> String {
    let all: String = base64(string(value)).iter().rev().map(|byte| format!("{byte:08b}")).collect();
    let all = all.trim_start_matches('0');
    format!("{all:0>least$}")
}
