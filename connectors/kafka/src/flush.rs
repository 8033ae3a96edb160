//! Makes queued records leave at once while relay is caught up, and leaves them to fill batches while it is behind.
//!
//! linger.ms is long enough that a backlog travels in large batches. When the source has nothing more to read, the sink is
//! nudged; the native flush then suspends linger for its duration. It runs here because it waits, and the thread that reads
//! the source must not. It goes on until what was queued when it was asked for is reported, and no longer: a load that starts
//! meanwhile gets its large batches back. After linger.ms it ends in any case, because what is left has outlived that.

use crate::native;
use crate::producer::Client;
use rdkafka::producer::Producer as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The request to flush, shared by whoever asks and the thread that does it.
#[derive(Debug, Default)]
pub(crate) struct Nudge {
    asked: AtomicBool,
    /// Events that had been accepted when it was asked for last.
    accepted: AtomicUsize,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

/// How often a flush that waits looks whether what it was asked for is reported.
const LOOK: Duration = Duration::from_millis(2);

// === impl Nudge ===

impl Nudge {
    /// Asks for a flush, with how many events were accepted so far. Costs two atomic operations while one is asked for already.
    #[inline]
    pub(crate) fn ask(&self, accepted: usize) {
        self.accepted.fetch_max(accepted, Ordering::AcqRel);
        if !self.asked.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The life of the thread.
    pub(crate) fn serve(&self, client: &Arc<Client>, linger: Duration) {
        let _ = self.thread.set(thread::current());
        let limit = (linger + LOOK).min(Duration::from_millis(100));
        let reported = &client.client().context().reported;
        while !self.stop.load(Ordering::Acquire) {
            if self.asked.swap(false, Ordering::AcqRel) {
                let start = Instant::now();
                let is_left =
                    || (self.accepted.load(Ordering::Acquire).wrapping_sub(reported.load(Ordering::Acquire))).cast_signed() > 0;
                while !native::flush(client, LOOK) && is_left() && start.elapsed() < limit {}
            } else {
                thread::park();
            }
        }
    }
}
