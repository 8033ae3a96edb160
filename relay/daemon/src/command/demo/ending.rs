//! Turns SIGINT and SIGTERM into a request to end that every wait of the demo looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::Halt;
use crate::command::refusal::Refusal;

/// Whether somebody has asked the demo to end.
#[derive(Clone, Debug)]
pub(super) struct Ending(Arc<AtomicBool>);

// === impl Ending ===

impl Ending {
    /// Takes the signals over: the first asks, the second ends the process at once, and what it started is tidied up after it.
    pub(super) fn watch() -> Result<Self, Refusal> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first of two looks at the flag before the second raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .map_err(|error| Refusal::refused(format!("receive signals: {error}"), ""))?;
        }
        Ok(Self(asked))
    }

    /// As a signal would.
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// For waits with nothing to sum up yet.
    pub(super) fn check(&self) -> Result<(), Halt> {
        if self.is_asked() { Err(Halt::Asked) } else { Ok(()) }
    }
}
