//! The world of snapshots: tables with rows in places, commits that become visible late, and a process that reads both ways.

pub(crate) mod heap;
pub(crate) mod process;
pub(crate) mod topic;
pub(crate) mod world;
