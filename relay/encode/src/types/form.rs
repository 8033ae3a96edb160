//! What a column's writer must do: its type and the modes, resolved into one of these.

use super::ColumnType;
use std::cell::RefCell;

/// One way to write a value.
#[derive(Debug)]
pub(super) enum Form {
    /// `t` or `f`.
    Bool,
    /// bit(1) and varbit(1).
    Bit,
    /// Other bit strings, with the parameter `length`.
    Bits(u32),
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    /// numeric(p, s), precise.
    Decimal {
        precision: u32,
        scale: i32,
    },
    /// numeric without modifier, precise.
    Variable,
    /// numeric as text; whether it has a modifier, and its scale.
    NumericText(Option<i32>),
    /// The nearest float8, with the scale for defaults.
    NumericDouble(Option<i32>),
    /// money with its scale.
    Money(u32),
    MoneyText(u32),
    MoneyDouble(u32),
    /// Text, with the semantic name behind `io.debezium.data.`.
    Text(Option<&'static str>),
    /// char(n): like text, but its default is not padded.
    Char,
    /// The labels, joined by commas.
    Enum(Box<str>),
    Bytes,
    BytesBase64,
    BytesBase64Url,
    BytesHex,
    Date(DateUnit),
    Time(TimeUnit),
    TimeTz,
    Timestamp(TimeUnit),
    /// Digits of the fraction.
    TimestampTz(u8),
    Interval,
    IntervalText,
    Hstore,
    HstoreMap,
    Point,
    Shape(Shape),
    Circle,
    Line,
    Geometry,
    Geography,
    Vector,
    HalfVector,
    SparseVector,
    /// int2vector, oidvector: whether items are int64.
    NumberVector {
        is_wide: bool,
    },
    Array(Box<ArrayForm>),
}

/// What a `date` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateUnit {
    Days,
    /// Connect's own Date: days, too.
    Connect,
    Iso,
}

/// What a `time` or `timestamp` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Millis,
    Micros,
    Nanos,
    /// Connect's own Time or Timestamp: milliseconds.
    Connect,
    Iso,
}

/// Geometric types that become a Geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Box,
    Segment,
    Path,
    Polygon,
}

/// An array type.
#[derive(Debug)]
pub(super) struct ArrayForm {
    pub(super) item: ColumnType,
    /// What stands between elements: `,` but for box.
    pub(super) delimiter: u8,
    /// With schemas an array has one dimension (D24).
    pub(super) is_flat: bool,
    /// Debezium's schema of the items allows no NULL, and so a NULL among them cannot be written.
    pub(super) has_required_items: bool,
    /// An element that had to be unescaped.
    pub(super) scratch: RefCell<Vec<u8>>,
}

// === impl Form ===

impl Form {
    /// Whether Debezium's schema calls the elements of an array of these required (recorded).
    pub(super) fn is_required_in_arrays(&self) -> bool {
        matches!(
            self,
            Form::Enum(_)
                | Form::Text(Some("Tsvector"))
                | Form::Vector
                | Form::HalfVector
                | Form::SparseVector
                | Form::NumberVector { .. }
        )
    }
}
