//! Integers as decimal text, two digits at a time.

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends `number`.
#[inline]
pub fn write_u64(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), number);
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        digits[at] = PAIRS[pair];
        digits[at + 1] = PAIRS[pair + 1];
    }
    if rest >= 10 {
        at -= 2;
        digits[at] = PAIRS[rest as usize * 2];
        digits[at + 1] = PAIRS[rest as usize * 2 + 1];
    } else {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `number`, signed.
#[inline]
pub fn write_i64(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(number.unsigned_abs(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(
            number in prop_oneof![any::<i64>(), -1_000i64..1_000, Just(i64::MIN)],
            unsigned in prop_oneof![any::<u64>(), Just(u64::MAX)]
        ) {
            let mut out = Vec::new();
            write_i64(number, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), number.to_string());
            let mut out = Vec::new();
            write_u64(unsigned, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), unsigned.to_string());
        }
    }
}
