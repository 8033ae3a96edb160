//! Turns what was committed and what arrived into what is missing, double or out of order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by the order service, which writes events, and the consumer, which reads them.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    committed: Numbers,
    received: Numbers,
    rolled_back: u64,
    duplicates: u64,
    reordered: u64,
    /// The last event of each order that is still open.
    last: HashMap<String, u64>,
}

/// What it all comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Rows whose transaction was committed.
    pub(super) committed: u64,
    /// Rows whose transaction was rolled back; none of them may arrive.
    pub(super) rolled_back: u64,
    /// Different events that arrived.
    pub(super) received: u64,
    /// Committed and never received.
    pub(super) missing: u64,
    /// Received again.
    pub(super) duplicates: u64,
    /// Received, but never committed.
    pub(super) extra: u64,
    /// Received after a later event of the same order.
    pub(super) reordered: u64,
}

/// A set of numbers that are given out one after the other.
#[derive(Debug, Default)]
struct Numbers {
    words: Vec<u64>,
    count: u64,
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn committed(&self, events: Range<u64>) {
        let mut books = self.books();
        for event in events {
            books.committed.insert(event);
        }
    }

    pub(super) fn rolled_back(&self, events: Range<u64>) {
        self.books().rolled_back += events.end - events.start;
    }

    /// Enters an arrival. `is_last`: nothing more will come for this order.
    pub(super) fn received(&self, event: u64, order: &str, is_last: bool) {
        let mut books = self.books();
        if !books.received.insert(event) {
            books.duplicates += 1;
            return;
        }
        if books.last.get(order).is_some_and(|last| *last > event) {
            books.reordered += 1;
        }
        if is_last {
            books.last.remove(order);
        } else {
            books.last.insert(order.to_owned(), event);
        }
    }

    /// Rows that are committed and have not arrived yet.
    pub(super) fn behind(&self) -> u64 {
        let books = self.books();
        books.committed.count.saturating_sub(books.received.count)
    }

    pub(super) fn balance(&self) -> Balance {
        let books = self.books();
        Balance {
            committed: books.committed.count,
            rolled_back: books.rolled_back,
            received: books.received.count,
            missing: books.committed.without(&books.received),
            duplicates: books.duplicates,
            extra: books.received.without(&books.committed),
            reordered: books.reordered,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Balance ===

impl Balance {
    /// Whether everything that was committed arrived, and nothing else.
    pub(super) fn is_good(&self) -> bool {
        (self.missing, self.extra, self.reordered) == (0, 0, 0)
    }
}

// === impl Numbers ===

impl Numbers {
    /// Whether the number is new.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let Some(word) = self.words.get_mut(word) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// How many are here and not there.
    fn without(&self, other: &Numbers) -> u64 {
        let theirs = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter().zip(theirs).map(|(ours, theirs)| u64::from((ours & !theirs).count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_tells_missing_from_double_and_late() {
        let ledger = Ledger::default();
        ledger.committed(0..100);
        ledger.rolled_back(100..103);
        ledger.committed(103..200);
        (0..90).for_each(|event| ledger.received(event, "a", false));
        assert_eq!(ledger.behind(), 107);
        ledger.received(7, "a", false);
        ledger.received(195, "b", false);
        ledger.received(193, "b", true);
        ledger.received(101, "c", false);
        let balance = ledger.balance();
        let expected =
            Balance { committed: 197, rolled_back: 3, received: 93, missing: 105, duplicates: 1, extra: 1, reordered: 1 };
        assert_eq!(balance, expected);
        assert!(!balance.is_good() && Ledger::default().balance().is_good());
    }
}
