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

/// What names an event to a reader, in the header `relay-pos`: the same on every replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayPos<'a> {
    /// A change of the log: `16B374D848.3`.
    Log(Position),
    /// A row polled with order `tick`: `x751.42`.
    Tick {
        /// Text of its xid8 column.
        xid: &'a [u8],
        /// Text of its order column.
        order: &'a [u8],
    },
    /// A row polled with order `claim`: `x.42`.
    Claim {
        /// Text of its order column.
        order: &'a [u8],
    },
}

// === impl Position ===

impl Position {
    fn write(&self, out: &mut Vec<u8>) {
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

// === impl RelayPos ===

impl RelayPos<'_> {
    /// Appends the header's text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            RelayPos::Log(position) => position.write(out),
            RelayPos::Tick { xid, order } => {
                out.push(b'x');
                out.extend_from_slice(xid);
                out.push(b'.');
                out.extend_from_slice(order);
            }
            RelayPos::Claim { order } => {
                out.extend_from_slice(b"x.");
                out.extend_from_slice(order);
            }
        }
    }

    /// The commit's LSN, where there is one.
    #[must_use]
    pub fn lsn(&self) -> Option<Lsn> {
        match self {
            RelayPos::Log(position) => Some(position.commit_lsn),
            RelayPos::Tick { .. } | RelayPos::Claim { .. } => None,
        }
    }
}

impl From<Position> for RelayPos<'_> {
    fn from(position: Position) -> Self {
        RelayPos::Log(position)
    }
}

impl fmt::Display for RelayPos<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RelayPos::Log(position) => position.fmt(f),
            RelayPos::Tick { xid, order } => {
                write!(f, "x{}.{}", String::from_utf8_lossy(xid), String::from_utf8_lossy(order))
            }
            RelayPos::Claim { order } => write!(f, "x.{}", String::from_utf8_lossy(order)),
        }
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
            RelayPos::from(position).write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(position.to_string(), text);
        }
        for (position, text) in [
            (RelayPos::Tick { xid: b"751", order: b"42" }, "x751.42"),
            (RelayPos::Claim { order: b"2026-01-02 03:04:05+00" }, "x.2026-01-02 03:04:05+00"),
        ] {
            let mut out = Vec::new();
            position.write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(position.to_string(), text);
        }
    }
}
