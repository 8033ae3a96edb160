//! What a run did, line by line, for whoever looks at a failure.

use std::collections::VecDeque;

/// The last lines of a run; nothing is kept, nor even made, unless a failure is played again.
#[derive(Debug, Default)]
pub(crate) struct Journal(Option<VecDeque<String>>);

/// Lines that are kept.
const LINES: usize = 400;

// === impl Journal ===

impl Journal {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self(is_kept.then(VecDeque::new))
    }

    pub(crate) fn note(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.0 else { return };
        let line = line();
        // What goes on waiting says the same again and again.
        if lines.back().is_some_and(|last| last.get(8..) == Some(&line)) {
            return;
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{now_ms:>7} {line}"));
    }

    pub(crate) fn print(&self) {
        self.0.iter().flatten().for_each(|line| eprintln!("{line}"));
    }
}
