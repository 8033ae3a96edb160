//! Turns PostgreSQL's timestamps into Unix time.

/// A `TimestampTz` of the protocol: microseconds since 2000-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// From the Unix epoch to PostgreSQL's, in microseconds: 10,957 days.
const EPOCHS_APART_US: i64 = 946_684_800_000_000;

// === impl Timestamp ===

impl Timestamp {
    /// Microseconds since the Unix epoch; the far end of the range (and `infinity`) saturates.
    #[inline]
    #[must_use]
    pub fn unix_us(self) -> i64 {
        self.0.saturating_add(EPOCHS_APART_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_meet_and_the_ends_saturate() {
        assert_eq!(Timestamp(0).unix_us(), 946_684_800_000_000);
        assert_eq!(Timestamp(-EPOCHS_APART_US).unix_us(), 0);
        assert_eq!(Timestamp(i64::MAX).unix_us(), i64::MAX);
        assert_eq!(Timestamp(i64::MIN).unix_us(), i64::MIN + EPOCHS_APART_US);
    }
}
