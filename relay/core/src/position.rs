//! The identity of an event: which commit it belongs to and where in that transaction it stands.

use crate::lsn::Lsn;
use std::fmt;

/// (commit LSN, index of the change in its transaction): the same on every replay, because decoding is deterministic.
///
/// `seq` counts row changes, truncates and transactional messages in the order received, from 0, before filters and routes.
/// Positions order as the log does: by commit, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Start of the commit record; unique per transaction.
    pub commit_lsn: Lsn,
    /// Index of the change in its transaction.
    pub seq: u64,
}

// === impl Position ===

impl Position {
    /// Appends the text of the header `relay-pos`: `16B374D848.3`.
    pub fn write_relay_pos(&self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut digits = [0u8; 37];
        let mut at = digits.len();
        let mut seq = self.seq;
        loop {
            at -= 1;
            digits[at] = b'0' + (seq % 10) as u8;
            seq /= 10;
            if seq == 0 {
                break;
            }
        }
        at -= 1;
        digits[at] = b'.';
        let mut lsn = self.commit_lsn.0;
        loop {
            at -= 1;
            digits[at] = HEX[(lsn & 15) as usize];
            lsn >>= 4;
            if lsn == 0 {
                break;
            }
        }
        out.extend_from_slice(&digits[at..]);
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}.{}", self.commit_lsn.0, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_text_is_the_display_text() {
        for (commit_lsn, seq, text) in [
            (0x16_B374_D848, 3, "16B374D848.3"),
            (0, 0, "0.0"),
            (u64::MAX, u64::MAX, "FFFFFFFFFFFFFFFF.18446744073709551615"),
            (0x10, 10, "10.10"),
        ] {
            let position = Position { commit_lsn: Lsn(commit_lsn), seq };
            let mut out = Vec::new();
            position.write_relay_pos(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(position.to_string(), text);
        }
    }
}
