//! The world that a session lives in, small enough to be searched: server, brokers, processes, an operator and an oracle.

pub(crate) mod chance;
pub(crate) mod copy;
pub(crate) mod journal;
pub(crate) mod kafka;
pub(crate) mod oracle;
pub(crate) mod poll;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod world;
