//! Nouns, contracts and decisions of relay: no I/O, no clock, no threads.
//!
//! Everything that decides whether an event may be called delivered lives in [`session`]; the crates around this one only carry
//! out its orders. A value travels [`change`] -> [`event`] -> [`sink`], its acknowledgement comes back through [`window`].

pub mod catalog;
pub mod change;
pub mod checkpoint;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod decimal;
pub mod error;
pub mod event;
pub mod lsn;
pub mod position;
pub mod schema;
pub mod session;
pub mod sink;
pub mod snapshot;
pub mod value;
pub mod window;

pub use catalog::{Catalog, CatalogColumn, CatalogType, TypeForm};
pub use change::{Change, Transaction};
pub use error::{Directive, Kind};
pub use event::Event;
pub use lsn::{Lsn, Oid, Xid};
pub use position::{Position, RelayPos};
pub use schema::{Column, Relation, ReplicaIdentity};
pub use sink::{Enqueue, Poison, PoisonReason, Sink};
pub use snapshot::Snapshot;
pub use value::{Cell, Row, Value};
pub use window::{Acks, Failure, Ticket};
