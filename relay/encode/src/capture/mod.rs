//! Row changes become events of `[[capture]]`: rules, the plan of one relation version, and the bytes.

mod settings;

pub use settings::{CaptureSettings, FlatSettings};
