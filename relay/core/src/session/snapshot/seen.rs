//! Which streamed transactions queries may not see yet: a commit is in the log before it is visible (postgres.md, section 13).

use crate::lsn::Xid;
use crate::snapshot::Snapshot;

/// The transactions streamed and not yet known to be visible, and what is not known of those that earlier processes streamed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of this process, in the order of the stream.
    xids: Vec<Xid>,
    /// How many of them were streamed before the low watermark of the chunk at hand.
    before_low: usize,
    barrier: Barrier,
}

/// What earlier processes streamed, or this one forgot: transactions that began before some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Barrier {
    /// No moment is known yet.
    #[default]
    Unknown,
    /// This id was given out after they had begun.
    Until(u64),
    /// All of them are over.
    Passed,
}

/// Transactions that are remembered at most; beyond it all are forgotten, and the barrier is put up again.
const XIDS_MAX: usize = 1 << 20;

/// The id in full of a transaction that ran not long before or after a snapshot was taken.
fn full(xid: Xid, near: &Snapshot) -> u64 {
    let distance = xid.0.wrapping_sub(near.xmax() as u32) as i32;
    near.xmax().saturating_add_signed(i64::from(distance))
}

// === impl Seen ===

impl Seen {
    /// A transaction is being streamed.
    #[inline]
    pub(super) fn streams(&mut self, xid: Xid) {
        if self.xids.len() >= XIDS_MAX {
            self.forget();
        }
        self.xids.push(xid);
    }

    #[cold]
    fn forget(&mut self) {
        self.xids.clear();
        self.before_low = 0;
        self.barrier = Barrier::Unknown;
    }

    /// The low watermark of a chunk has come by in the stream.
    pub(super) fn low(&mut self) {
        self.before_low = self.xids.len();
    }

    /// Whether this snapshot sees every transaction that was streamed before the low watermark.
    pub(super) fn is_visible_in(&self, snapshot: &Snapshot) -> bool {
        self.is_passed() && self.xids[..self.before_low].iter().all(|&xid| snapshot.sees(full(xid, snapshot)))
    }

    /// A query saw this much: what is visible once is so for good.
    pub(super) fn prune(&mut self, snapshot: &Snapshot) {
        let before_low = self.before_low;
        let (mut at, mut kept) = (0, 0);
        self.xids.retain(|&xid| {
            let is_kept = !snapshot.sees(full(xid, snapshot));
            kept += usize::from(is_kept && at < before_low);
            at += 1;
            is_kept
        });
        self.before_low = kept;
        if let Barrier::Until(xid) = self.barrier
            && snapshot.xmin() >= xid
        {
            self.barrier = Barrier::Passed;
        }
    }

    /// Whether a transaction id must be taken, to wait for everything that began before it.
    pub(super) fn needs_id(&self) -> bool {
        self.barrier == Barrier::Unknown
    }

    /// This id was given out just now.
    pub(super) fn wait_until(&mut self, xid: u64) {
        if self.needs_id() {
            self.barrier = Barrier::Until(xid);
        }
    }

    /// Whether everything that earlier processes streamed is visible.
    pub(super) fn is_passed(&self) -> bool {
        self.barrier == Barrier::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("legal")
    }

    #[test]
    fn a_transaction_streamed_before_the_low_watermark_must_be_visible() {
        let mut seen = Seen::default();
        seen.wait_until(5);
        seen.prune(&snapshot("4:9:4"));
        assert!(!seen.is_passed(), "4 began before 5 was given out");
        seen.prune(&snapshot("5:9:5"));
        [10, 12, 14].into_iter().for_each(|xid| seen.streams(Xid(xid)));
        seen.low();
        seen.streams(Xid(16));
        assert!(!seen.is_visible_in(&snapshot("10:20:12")));
        assert!(!seen.is_visible_in(&snapshot("13:13:")), "14 is beyond its end");
        assert!(seen.is_visible_in(&snapshot("16:20:16")), "16 was streamed behind the low watermark");
        seen.prune(&snapshot("10:20:14"));
        assert_eq!(seen.xids, [Xid(14)]);
        assert!(!seen.is_visible_in(&snapshot("14:20:14")) && seen.is_visible_in(&snapshot("15:20:")));
    }

    #[test]
    fn ids_of_32_bits_are_compared_near_the_snapshot() {
        let near = snapshot("8589934590:8589934600:8589934594");
        assert_eq!(full(Xid(4_294_967_294), &near), 8_589_934_590);
        assert_eq!(full(Xid(3), &near), 8_589_934_595);
        assert!(near.sees(full(Xid(3), &near)) && !near.sees(full(Xid(2), &near)), "{}", full(Xid(2), &near));
    }

    #[test]
    fn too_many_are_forgotten_and_waited_for_together() {
        let mut seen = Seen::default();
        seen.wait_until(1);
        seen.prune(&snapshot("1:1:"));
        (0..=XIDS_MAX as u32).for_each(|xid| seen.streams(Xid(xid + 3)));
        assert!(seen.needs_id() && !seen.is_visible_in(&snapshot("9000000:9000000:")));
    }
}
