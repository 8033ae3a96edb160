//! What happened to a chunk's table between its watermarks, going by the stream.

use std::collections::HashSet;

/// What the stream said of one table since the chunk's low watermark.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether the low watermark has come by.
    is_on: bool,
    keys: HashSet<Box<[u8]>>,
    bytes: usize,
    /// The table was emptied: every row that was read before counts no more.
    is_emptied: bool,
    fate: Fate,
}

/// Whether the chunk that was read can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// But for the rows whose keys were streamed.
    #[default]
    Fit,
    /// More keys were streamed than are kept.
    TooManyKeys,
    /// The table's shape changed.
    Altered,
}

/// Bytes of keys that are kept, with what a key costs beside its bytes.
const BYTES_MAX: usize = 32 << 20;
const KEY_BYTES: usize = 48;

// === impl Watch ===

impl Watch {
    /// Everything from here on counts.
    pub(super) fn begin(&mut self) {
        *self = Self { is_on: true, ..Self::default() };
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn supersede(&mut self, key: &[u8]) {
        if self.fate != Fate::Fit || self.keys.contains(key) {
            return;
        }
        self.bytes += key.len() + KEY_BYTES;
        if self.bytes > BYTES_MAX {
            self.keys = HashSet::new();
            self.fate = Fate::TooManyKeys;
            return;
        }
        self.keys.insert(key.into());
    }

    pub(super) fn empty(&mut self) {
        self.is_emptied = true;
    }

    pub(super) fn alter(&mut self) {
        self.fate = Fate::Altered;
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate
    }

    /// Whether a row of the chunk is outdated: its key was streamed, or its table emptied.
    #[inline]
    pub(super) fn is_superseded(&self, key: Option<&[u8]>) -> bool {
        self.is_emptied || key.is_some_and(|key| self.keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_streamed_between_the_watermarks_is_superseded() {
        let mut watch = Watch::default();
        assert!(!watch.is_on());
        watch.begin();
        watch.supersede(b"1");
        assert!(watch.is_superseded(Some(b"1")) && !watch.is_superseded(Some(b"2")) && !watch.is_superseded(None));
        watch.empty();
        assert!(watch.is_superseded(Some(b"2")) && watch.is_superseded(None));
        watch.begin();
        assert!(!watch.is_superseded(Some(b"1")));
    }

    #[test]
    fn keys_are_bounded() {
        let mut watch = Watch::default();
        watch.begin();
        let long = vec![7; BYTES_MAX / 2];
        watch.supersede(&long);
        watch.supersede(&long);
        assert_eq!(watch.fate(), Fate::Fit, "a key counts once");
        watch.supersede(&[&long[..], b"x"].concat());
        assert_eq!((watch.fate(), watch.keys.len()), (Fate::TooManyKeys, 0));
    }
}
