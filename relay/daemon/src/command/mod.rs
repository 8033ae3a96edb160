//! One file a subcommand.

pub(crate) mod check;
pub(crate) mod checkpoint;
mod confirm;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod outbox;
pub(crate) mod preset;
pub(crate) mod refusal;
pub(crate) mod run;
pub(crate) mod slot;
pub(crate) mod snapshot;
pub(crate) mod version;
