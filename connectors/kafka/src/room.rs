//! How much a client may hold: what it can make use of, and no more.
//!
//! librdkafka (2.12.1) sends one batch of a partition at a time: its bound of five counts the records on their way, not the requests. So
//! beside that batch the next one is all that helps. What is queued behind leaves no sooner, and has left the processor's caches by then:
//! with 64 MiB queued a record of a snapshot cost relay a quarter more than with 8.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of keys and values that one client holds, and their bound. `delivery.in_flight` bounds what is accepted, too: the smaller
/// one counts.
#[derive(Debug)]
pub(crate) struct Room {
    batch_bytes: usize,
    partitions: usize,
    limit: usize,
    accepted: usize,
    /// The reported bytes as they were looked at last: another thread writes them with each report.
    reported: usize,
}

/// Batches of a partition: the one on its way, and the next.
const BATCHES: usize = 2;
/// A topic of fewer partitions gets as much as one of so many, because five large records of a partition may be on their way at once.
const PARTITIONS_MIN: usize = 4;

// === impl Room ===

impl Room {
    pub(crate) fn new(batch_bytes: usize) -> Self {
        let mut room = Self { batch_bytes, partitions: 0, limit: 0, accepted: 0, reported: 0 };
        room.add(0);
        room
    }

    /// Another topic is in use, of so many partitions.
    pub(crate) fn add(&mut self, partitions: i32) {
        self.partitions = self.partitions.saturating_add(usize::try_from(partitions).unwrap_or(0));
        self.limit = self.partitions.max(PARTITIONS_MIN).saturating_mul(BATCHES).saturating_mul(self.batch_bytes);
    }

    /// A record was taken.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        self.accepted = self.accepted.wrapping_add(bytes);
    }

    /// Whether another record may be taken, of whatever size.
    #[inline]
    pub(crate) fn is_free(&mut self, reported: &AtomicUsize) -> bool {
        if self.held() < self.limit {
            return true;
        }
        self.reported = reported.load(Ordering::Acquire);
        self.held() < self.limit
    }

    /// A report may be seen before its record is counted here.
    fn held(&self) -> usize {
        usize::try_from(self.accepted.wrapping_sub(self.reported).cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_batches_a_partition_are_held() {
        let reported = AtomicUsize::new(0);
        let mut room = Room::new(100);
        room.add(6);
        room.take(600);
        // One record more, of whatever size, and then none until something is reported.
        room.take(5_000);
        assert!(!room.is_free(&reported));
        reported.store(4_401, Ordering::Release);
        assert!(room.is_free(&reported));
        // The report of a record that is not counted yet.
        reported.store(6_000, Ordering::Release);
        assert!(room.is_free(&reported));
    }

    #[test]
    fn a_topic_of_few_partitions_has_room_for_four() {
        let reported = AtomicUsize::new(0);
        let mut room = Room::new(100);
        room.add(1);
        room.take(799);
        assert!(room.is_free(&reported));
        room.take(1);
        assert!(!room.is_free(&reported));
    }
}
