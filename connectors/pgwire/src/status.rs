//! The standby status update: how far relay has received and made durable, as the bytes the server reads.

use relay_core::Lsn;

/// What a status update reports. `flushed = 0/0` makes no statement and leaves the slot where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Highest position received.
    pub written: Lsn,
    /// Position up to which everything is durable; the server drops WAL up to it, so it must never be a guess.
    pub flushed: Lsn,
    /// As `flushed`.
    pub applied: Lsn,
    /// Ask the server for a keepalive in answer.
    pub reply_requested: bool,
}

/// Length of the whole CopyData message.
pub(crate) const STATUS_BYTES: usize = 39;

// === impl Status ===

impl Status {
    /// CopyData around message `r`: three positions, the client's clock in microseconds since 2000-01-01, the reply flag.
    pub(crate) fn encode(&self, now_us_since_2000: i64) -> [u8; STATUS_BYTES] {
        let mut bytes = [0; STATUS_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(b"d");
        put(&(STATUS_BYTES as u32 - 1).to_be_bytes());
        put(b"r");
        put(&self.written.0.to_be_bytes());
        put(&self.flushed.0.to_be_bytes());
        put(&self.applied.0.to_be_bytes());
        put(&now_us_since_2000.to_be_bytes());
        put(&[u8::from(self.reply_requested)]);
        debug_assert_eq!(at, STATUS_BYTES);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let status = Status { written: Lsn(1), flushed: Lsn(2), applied: Lsn(3), reply_requested: true };
        let mut expected = b"d\0\0\0\x26r".to_vec();
        for number in [1_u64, 2, 3, 4] {
            expected.extend(number.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(status.encode(4).as_slice(), expected);
    }
}
