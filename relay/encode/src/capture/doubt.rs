//! What excluded and masked columns do to a record key that whoever wrote them may not have meant.

use super::mask::Mask;
use super::plan::KeyPlan;
use super::rule::Capture;
use crate::glob::Glob;
use relay_core::Relation;
use std::fmt;

/// A column of a record key that another rule of the capture is about as well. The key is as configured all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyDoubt {
    /// Its mask makes different values alike, and with them the keys of different rows.
    Blurred(String),
    /// It is left out of the value, and stands in the key.
    Shown(String),
}

// === impl Capture ===

impl Capture {
    /// The doubts that the configuration alone raises, each with the index of its column in `key`.
    pub fn key_doubts(&self) -> impl Iterator<Item = (usize, KeyDoubt)> {
        // The columns of globs; what stands before the last dot is the table's.
        let is_of =
            |glob: &Glob, name: &str| glob.as_str().rsplit_once('.').is_some_and(|(_, column)| Glob::new(column).matches(name));
        self.key.iter().enumerate().filter_map(move |(at, name)| {
            let mask = self.masks.iter().find(|(glob, _)| is_of(glob, name)).map(|(_, mask)| mask);
            let is_excluded = self.columns_exclude.iter().any(|glob| is_of(glob, name));
            Some((at, doubt(name, mask, is_excluded)?))
        })
    }
}

/// The doubts about the key of one table.
pub(super) fn of_key(rule: &Capture, relation: &Relation, key: Option<&KeyPlan>) -> Box<[KeyDoubt]> {
    let columns = key.iter().flat_map(|key| key.columns.iter());
    columns.filter_map(|column| doubt(&column.name, column.mask.as_ref(), rule.excludes(relation, &column.name))).collect()
}

fn doubt(name: &str, mask: Option<&Mask>, is_excluded: bool) -> Option<KeyDoubt> {
    match mask {
        // Different texts have different hashes.
        Some(Mask::Stars(_) | Mask::Truncate(_) | Mask::Null) => Some(KeyDoubt::Blurred(name.to_owned())),
        None if is_excluded => Some(KeyDoubt::Shown(name.to_owned())),
        Some(Mask::Sha256(_)) | None => None,
    }
}

// === impl KeyDoubt ===

impl KeyDoubt {
    /// What becomes of it.
    #[must_use]
    pub fn effect(&self) -> &'static str {
        match self {
            KeyDoubt::Blurred(_) => "rows with different values share a key: a compacted topic keeps the last of them alone",
            KeyDoubt::Shown(_) => "whoever reads the topic sees its values",
        }
    }

    /// What could have been meant.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            KeyDoubt::Blurred(_) => "mask it by `sha256:salt`, which keeps keys apart, or set `key` to other columns",
            KeyDoubt::Shown(_) => "set `key` to other columns, or mask it by `sha256:salt` as well",
        }
    }
}

impl fmt::Display for KeyDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDoubt::Blurred(column) => write!(f, "column `{column}` of the key is masked, and different values look alike"),
            KeyDoubt::Shown(column) => write!(f, "column `{column}` is excluded from the value; the key has it all the same"),
        }
    }
}
