//! Turns what the demo does into lines on stderr, which leave the live status line alone.

use std::io::{IsTerminal, Write};

/// Where words go; data goes to stdout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    is_quiet: bool,
    is_terminal: bool,
}

/// Back to the start of the line, and the line is empty.
pub(super) const CLEAR_LINE: &str = "\r\x1b[2K";

// === impl Words ===

impl Words {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, is_terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn is_quiet(self) -> bool {
        self.is_quiet
    }

    pub(super) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Says it, unless the user wants it quiet.
    pub(super) fn say(self, text: &str) {
        if !self.is_quiet {
            self.insist(text);
        }
    }

    /// Says it in any case.
    pub(super) fn insist(self, text: &str) {
        let clear = if self.is_terminal { CLEAR_LINE } else { "" };
        // Nobody is left to tell that stderr is gone.
        let _ = std::io::stderr().write_all(format!("{clear}{text}\n").as_bytes());
    }
}
