//! The identity of an event: which commit it belongs to and where in that transaction it stands.

use crate::decimal::write_u64;
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
    /// One of several records of a change of the log, counted from 0: `16B374D848.3.0`.
    Part(Position, u32),
    /// A row of a snapshot, named by its record's topic and key beside this: the consistent point, or the commit of the high
    /// watermark: `16B374D848.s`.
    Snapshot(Lsn),
    /// A row of a snapshot of a table without key: `16B374D848.s.<chunk>.<row>`.
    SnapshotRow {
        /// As with [`RelayPos::Snapshot`].
        lsn: Lsn,
        /// Number of the chunk.
        chunk: u64,
        /// Number of the row in the chunk.
        row: u64,
    },
    /// A message outside of transactions: `16B374D848.m`, the message's own LSN.
    Message(Lsn),
    /// The BEGIN record of a transaction, by its commit: `16B374D848.b`.
    Begin(Lsn),
    /// The END record of a transaction, by its commit: `16B374D848.e`.
    End(Lsn),
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
        write_hex(self.commit_lsn, out);
        out.push(b'.');
        write_u64(self.seq, out);
    }
}

fn write_hex(lsn: Lsn, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut digits = [0u8; 16];
    let (mut at, mut rest) = (digits.len(), lsn.0);
    loop {
        at -= 1;
        digits[at] = HEX[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

// === impl RelayPos ===

impl RelayPos<'_> {
    /// Appends the header's text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            RelayPos::Log(position) => position.write(out),
            RelayPos::Part(position, sub) => {
                position.write(out);
                out.push(b'.');
                write_u64(u64::from(*sub), out);
            }
            RelayPos::Snapshot(lsn) => {
                write_hex(*lsn, out);
                out.extend_from_slice(b".s");
            }
            RelayPos::SnapshotRow { lsn, chunk, row } => {
                write_hex(*lsn, out);
                out.extend_from_slice(b".s.");
                write_u64(*chunk, out);
                out.push(b'.');
                write_u64(*row, out);
            }
            RelayPos::Message(lsn) => {
                write_hex(*lsn, out);
                out.extend_from_slice(b".m");
            }
            RelayPos::Begin(lsn) => {
                write_hex(*lsn, out);
                out.extend_from_slice(b".b");
            }
            RelayPos::End(lsn) => {
                write_hex(*lsn, out);
                out.extend_from_slice(b".e");
            }
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
            RelayPos::Log(position) | RelayPos::Part(position, _) => Some(position.commit_lsn),
            RelayPos::Snapshot(lsn)
            | RelayPos::SnapshotRow { lsn, .. }
            | RelayPos::Message(lsn)
            | RelayPos::Begin(lsn)
            | RelayPos::End(lsn) => Some(*lsn),
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
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
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
            (RelayPos::Part(Position { commit_lsn: Lsn(0x16_B374_D848), seq: 3 }, 2), "16B374D848.3.2"),
            (RelayPos::Snapshot(Lsn(0xA0)), "A0.s"),
            (RelayPos::SnapshotRow { lsn: Lsn(0xA0), chunk: 7, row: 10 }, "A0.s.7.10"),
            (RelayPos::Message(Lsn(0xA0)), "A0.m"),
            (RelayPos::Begin(Lsn(0xA0)), "A0.b"),
            (RelayPos::End(Lsn(0xA0)), "A0.e"),
            (RelayPos::Claim { order: b"2026-01-02 03:04:05+00" }, "x.2026-01-02 03:04:05+00"),
        ] {
            let mut out = Vec::new();
            position.write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(position.to_string(), text);
        }
    }
}
