//! Integers as decimal text: core's, and times in nanoseconds.

pub(super) use relay_core::decimal::{write_i64, write_u64};

/// Appends a time of `us` microseconds in nanoseconds.
#[inline]
pub(super) fn write_ns(us: i64, out: &mut Vec<u8>) {
    write_i64(us, out);
    if us != 0 {
        out.extend_from_slice(b"000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(number in prop_oneof![any::<i64>(), -1_000i64..1_000, Just(i64::MIN)]) {
            let mut out = Vec::new();
            write_i64(number, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), number.to_string());
            let mut out = Vec::new();
            write_ns(number, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), (i128::from(number) * 1_000).to_string());
        }
    }
}
