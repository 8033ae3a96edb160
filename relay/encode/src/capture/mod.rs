//! Row changes become events of `[[capture]]`: rules, the plan of one relation version, and the bytes.

mod cloudevents;
mod column;
mod context;
mod doubt;
mod encode;
mod fingerprint;
mod flat;
mod format;
mod headers;
mod image;
mod key;
mod mask;
mod message;
mod metadata;
mod number;
mod plan;
mod rule;
mod schema;
mod settings;
mod source;
mod step;
mod topic;
mod transaction;

pub use context::{Context, Marker, RecordOrder, SnapshotMarker};
pub use doubt::KeyDoubt;
pub use encode::Encoded;
pub use message::LogicalMessages;
pub use plan::CapturePlan;
pub use rule::{Capture, Captures};
pub use settings::{CaptureSettings, FlatSettings};
