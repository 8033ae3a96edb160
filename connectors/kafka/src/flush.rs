//! Makes queued records leave at once while relay is caught up, and leaves them to fill batches while it is behind.
//!
//! linger.ms is a few milliseconds, so that a backlog travels in large batches. When the source has nothing more to read,
//! the sink is nudged; the native flush then suspends linger for its duration. It runs here because it waits, and the thread
//! that reads the source must not. One call lasts at most a little over linger.ms: what it did not make leave has by then
//! outlived its linger anyway, and a load that starts meanwhile gets its large batches back at once.

use crate::native;
use crate::producer::Client;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// The request to flush, shared by whoever asks and the thread that does it.
#[derive(Debug, Default)]
pub(crate) struct Nudge {
    asked: AtomicBool,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

// === impl Nudge ===

impl Nudge {
    /// Asks for a flush. Costs one atomic operation while one is asked for already.
    #[inline]
    pub(crate) fn ask(&self) {
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
        let timeout = (linger + Duration::from_millis(2)).min(Duration::from_millis(100));
        while !self.stop.load(Ordering::Acquire) {
            if self.asked.swap(false, Ordering::AcqRel) {
                native::flush(client, timeout);
            } else {
                thread::park();
            }
        }
    }
}
