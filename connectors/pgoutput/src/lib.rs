//! Turns the messages of PostgreSQL's `pgoutput` plugin, protocol 1 to 4, into borrowed Rust values.
//!
//! [`Decoder::decode`] takes one message (the payload of one XLogData frame) and gives a [`Message`] whose names, tuples and
//! contents are slices of that frame. Everything is checked on the way: each length and count, each kind and flag byte, that
//! names are UTF-8, that no byte is left over. What the protocol does not know is a typed [`Error`], never skipped.
//! The layout is that of the PostgreSQL manual, "Logical Replication Message Formats".
//!
//! ```
//! use relay_core::Value;
//! use relay_pgoutput::{Decoder, Message};
//!
//! let mut decoder = Decoder::new();
//! let frame = b"I\0\0\x40\x01N\0\x02t\0\0\0\x0242n";
//! let Message::Insert(insert) = decoder.decode(frame)? else { panic!("an Insert") };
//! assert_eq!(insert.new.row().get(0), Some(Value::Text(b"42")));
//! assert_eq!(insert.new.row().get(1), Some(Value::Null));
//! # Ok::<(), relay_pgoutput::Error>(())
//! ```

mod decoder;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod message;
mod peek;
mod prepared;
mod reader;
mod relation;
mod row;
mod tag;
mod timestamp;
mod transaction;
mod truncate;
mod tuple;

pub use decoder::Decoder;
pub use error::Error;
pub use message::Message;
pub use peek::{PEEK_BYTES, Peeked, peek};
pub use prepared::{BeginPrepare, CommitPrepared, Prepare, RollbackPrepared};
pub use relation::{ColumnMessage, Columns, RelationMessage, TypeMessage};
pub use row::{Delete, Insert, LogicalMessage, OldTuple, Update};
pub use tag::Tag;
pub use timestamp::Timestamp;
pub use transaction::{AbortPoint, Begin, Commit, Origin, StreamAbort, StreamCommit, StreamStart};
pub use truncate::{Oids, Truncate};
pub use tuple::TupleData;
