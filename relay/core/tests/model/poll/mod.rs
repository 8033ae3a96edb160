//! The session where it polls, and on its way between polling and the log: server, process, world and run.

pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod world;
