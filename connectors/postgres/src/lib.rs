//! What a source needs beyond the wire: who the server is, slot and publication, and messages put together into changes.

mod assemble;
mod catalog;
pub mod detect;
pub mod doctor;
mod error;
mod inspect;
mod outbox;
pub mod poll;
pub mod prune;
mod publication;
pub mod snapshot;
mod source;

pub use assemble::{Assembler, Step, TableId, Truncated};
pub use catalog::read_catalog;
pub use error::Error;
pub use inspect::{is_synchronous_standby, server_version};
pub use outbox::{OutboxFacts, Pending, Wanting};
pub use publication::{Published, refuse_unidentified};
pub use source::{Config, Password, Publish, Source, Wanted, Watched};
