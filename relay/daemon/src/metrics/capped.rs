//! Hands out one handle a name, up to a limit; all further names share one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The name that all names past the limit go under.
pub(crate) const OTHER: &str = "_other";

/// Handles by name. Asked when a name is met for the first time on a connection, not per event.
#[derive(Debug)]
pub(super) struct Capped<T> {
    limit: usize,
    by_name: Mutex<HashMap<String, T>>,
}

// === impl Capped ===

impl<T: Clone> Capped<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, by_name: Mutex::default() }
    }

    /// The handle of that name, or of [`OTHER`].
    pub(super) fn get(&self, name: &str, make: impl Fn(&str) -> T) -> T {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_name.get(name) {
            return known.clone();
        }
        let own = by_name.keys().filter(|known| *known != OTHER).count();
        let name = if own < self.limit { name } else { OTHER };
        by_name.entry(name.to_owned()).or_insert_with(|| make(name)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_past_the_limit_share_a_handle() {
        let capped = Capped::new(2);
        let get = |name| capped.get(name, str::to_owned);
        assert_eq!([get("a"), get("b"), get("c"), get("d"), get("a"), get("c")], ["a", "b", "_other", "_other", "a", "_other"]);
        assert_eq!(Capped::new(0).get("a", str::to_owned), "_other");
    }
}
