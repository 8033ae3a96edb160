//! Outbox rows, row changes and logical messages become events: pure, no I/O, nothing allocated per row in the steady state.
//!
//! [`OutboxSettings`] laid over a [`Preset`] give a [`Route`]; a route and a relation give a [`Plan`]; a plan and a row give an
//! event. [`CaptureSettings`] give a [`Capture`]; a capture, a relation and its catalog give a [`CapturePlan`]; a plan and a change
//! give one event or several.
//!
//! ```
//! use relay_core::{Cell, Column, Event, Lsn, Oid, Position, Relation, ReplicaIdentity, Row, Transaction};
//! use relay_encode::{FormatSettings, Outcome, OutboxSettings, Plan, Route, Routes};
//!
//! let settings = OutboxSettings {
//!     table: Some("public.outboxevent".into()),
//!     preset: Some("debezium".into()),
//!     ..OutboxSettings::default()
//! };
//! let routes = Routes::new([Route::new(settings, &FormatSettings::default()).unwrap()]);
//!
//! let names = ["id", "aggregatetype", "aggregateid", "type", "payload"];
//! let column = |name: &str| Column { name: name.into(), type_oid: Oid(25), type_modifier: -1, type_name: None, is_key: name == "id" };
//! let relation = Relation {
//!     oid: Oid(16_400),
//!     schema: "public".into(),
//!     name: "outboxevent".into(),
//!     identity: ReplicaIdentity::Default,
//!     columns: names.into_iter().map(column).collect(),
//! };
//! let plan = Plan::compile(routes.table(&relation).unwrap(), &relation).unwrap();
//!
//! let cell = |start, len| Cell::Text { start, len };
//! let cells = [cell(0, 1), cell(1, 5), cell(6, 2), cell(8, 6), cell(14, 2)];
//! let row = Row::new(b"7ordero1Placed{}", &cells);
//! let mut event = Event::default();
//! let position = Position { commit_lsn: Lsn(0x16_B374_D848), seq: 3 };
//! assert_eq!(plan.encode(&Transaction::default(), position.into(), &row, 0, &mut event), Ok(Outcome::Event));
//! assert_eq!((event.topic(), event.key(), event.value()), ("outbox.event.order", Some(&b"o1"[..]), Some(&b"{}"[..])));
//! ```

mod array;
mod binary;
mod capture;
mod cloud_route;
mod cloudevents;
mod contract;
pub mod detect;
pub mod dlq;
mod encode;
mod envelope;
mod error;
mod field;
pub mod fingerprint;
#[doc(hidden)]
pub mod fuzz_body;
mod glob;
mod headers;
mod json;
mod merge;
mod message;
pub mod murmur2;
mod payload;
mod plan;
mod pointer;
mod poll;
mod predicate;
mod preset;
mod properties;
mod readable;
mod route;
mod router;
mod settings;
pub mod sql;
mod template;
mod timestamp;
mod topic;
mod types;
mod wrap;

pub use capture::{
    Capture, CapturePlan, CaptureSettings, Captures, Context, Encoded, FlatSettings, KeyDoubt, LogicalMessages, Marker,
    RecordOrder, SnapshotMarker,
};
pub use encode::{FilterReason, Outcome};
pub use error::{PlanError, RouteError};
pub use message::MessagePlans;
pub use plan::Plan;
pub use poll::{AfterPublish, Literal, Order};
pub use preset::{PRESETS, Preset};
pub use route::{Route, Routes};
pub use settings::{FormatSettings, Mode, OutboxSettings, RecordTimestamp, RouterValue};
