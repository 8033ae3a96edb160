//! `pg_snapshot`: which transactions were over at one moment. Two of them make a tick of the polling source.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What `pg_current_snapshot()` prints: `xmin:xmax:xip,…`, top-level transaction ids of 64 bits that never wrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// In progress, ascending, each from `xmin` up to below `xmax`.
    xip: Vec<u64>,
}

/// The text is no snapshot as PostgreSQL prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot; expected xmin:xmax:list, such as `748:751:749`")]
pub struct ParseSnapshotError(pub String);

// === impl Snapshot ===

impl Snapshot {
    /// The snapshot that sees nothing, `1:1:`: ids begin at 3.
    #[must_use]
    pub fn nothing() -> Self {
        Self { xmin: 1, xmax: 1, xip: Vec::new() }
    }

    /// Every transaction before this one was over.
    #[must_use]
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// No transaction from this one on was over.
    #[must_use]
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Those in between that were in progress.
    #[must_use]
    pub fn xip(&self) -> &[u64] {
        &self.xip
    }

    /// Whether the transaction was over: `pg_visible_in_snapshot`. One that aborted counts, too; its rows are gone.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.xip.binary_search(&xid).is_err())
    }

    /// Whether it sees everything that `other` sees.
    #[must_use]
    pub fn sees_all_of(&self, other: &Snapshot) -> bool {
        // From our end on we see nothing, so `other` must have had every id from there on in progress.
        let open_beyond = other.xip.len() - other.xip.partition_point(|&xid| xid < self.xmax);
        open_beyond as u64 == other.xmax.saturating_sub(self.xmax) && !self.xip.iter().any(|&xid| other.sees(xid))
    }

    /// A measure of progress: of two snapshots of one server, the later one's is not lower, and higher when it sees more.
    #[must_use]
    pub fn rank(&self) -> (u64, u64) {
        (self.xmax, self.xmax - self.xip.len() as u64)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (at, xid) in self.xip.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{xid}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split(':');
            let xmin: u64 = parts.next()?.parse().ok()?;
            let xmax: u64 = parts.next()?.parse().ok()?;
            let list = parts.next()?;
            let xip: Vec<u64> =
                if list.is_empty() { Vec::new() } else { list.split(',').map(|xid| xid.parse().ok()).collect::<Option<_>>()? };
            let is_ascending = xip.windows(2).all(|pair| pair[0] < pair[1]);
            let is_inside = xip.iter().all(|xid| (xmin..xmax).contains(xid));
            (parts.next().is_none() && xmin >= 1 && xmin <= xmax && is_ascending && is_inside).then_some(Snapshot {
                xmin,
                xmax,
                xip,
            })
        };
        parse().ok_or_else(|| ParseSnapshotError(text.to_owned()))
    }
}

impl TryFrom<String> for Snapshot {
    type Error = ParseSnapshotError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Snapshot> for String {
    fn from(snapshot: Snapshot) -> Self {
        snapshot.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_postgres_does() {
        for text in ["1:1:", "748:751:749", "10:20:10,14,15", "18446744073709551614:18446744073709551615:"] {
            assert_eq!(text.parse::<Snapshot>().expect(text).to_string(), text);
        }
        for wrong in
            ["", "1:1", "1:1::", "2:1:", "0:1:", "1:5:5", "5:9:4", "1:9:3,2", "1:9:3,3", "a:b:", "1:2:x", "-1:1:", "1:9:3,"]
        {
            assert!(wrong.parse::<Snapshot>().is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_read_as_it_is_written(text in "[0-9:,x -]{0,24}") {
            if let Ok(snapshot) = text.parse::<Snapshot>() {
                proptest::prop_assert_eq!(snapshot.to_string().parse::<Snapshot>().expect("what is written is legal"), snapshot);
            }
        }
    }

    #[test]
    fn what_is_over_is_seen() {
        let snapshot: Snapshot = "10:20:12,15".parse().expect("legal");
        for xid in [1, 9, 10, 11, 13, 19] {
            assert!(snapshot.sees(xid), "{xid}");
        }
        for xid in [12, 15, 20, 21, u64::MAX] {
            assert!(!snapshot.sees(xid), "{xid}");
        }
        assert!(!Snapshot::nothing().sees(3));
        let later: Snapshot = "12:20:12".parse().expect("legal");
        assert!(later.rank() > snapshot.rank());
    }

    #[test]
    fn one_snapshot_sees_all_that_another_sees_or_not() {
        let snapshot = |text: &str| text.parse::<Snapshot>().expect("legal");
        let other = snapshot("10:20:12,15");
        for wide in ["10:20:12,15", "20:20:", "12:20:12", "12:25:15,22", "30:40:31"] {
            assert!(snapshot(wide).sees_all_of(&other), "{wide}");
        }
        for narrow in ["1:1:", "10:19:12,15", "10:20:12,14,15", "13:14:13", "10:20:10,12", "15:20:15,16"] {
            assert!(!snapshot(narrow).sees_all_of(&other), "{narrow}");
        }
        assert!(snapshot("17:17:").sees_all_of(&snapshot("10:20:17,18,19")), "beyond our end it sees nothing either");
        assert!(
            !snapshot("17:17:").sees_all_of(&snapshot("10:20:17,18")) && !snapshot("17:17:").sees_all_of(&snapshot("20:20:"))
        );
        assert!(snapshot("1:1:").sees_all_of(&Snapshot::nothing()) && other.sees_all_of(&Snapshot::nothing()));
    }
}
