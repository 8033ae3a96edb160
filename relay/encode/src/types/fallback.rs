//! What Debezium invents for a NOT NULL column that the old tuple does not carry and that has no default (D1, D2).

use super::ColumnType;
use super::form::{DateUnit, Form, Shape, TimeUnit};

/// An empty GEOMETRYCOLLECTION: what PostGIS columns are invented as.
const EMPTY_GEOMETRY: &[u8] = b"010700000000000000";

// === impl ColumnType ===

impl ColumnType {
    /// Appends the invented value.
    pub(crate) fn write_fallback(&self, out: &mut Vec<u8>) {
        let fixed: &[u8] = match &self.form {
            Form::Bool | Form::Bit => b"false",
            Form::Int16 | Form::Int32 | Form::Int64 | Form::Interval => b"0",
            Form::Date(DateUnit::Days | DateUnit::Connect) => b"0",
            Form::Date(DateUnit::Iso) => b"\"1970-01-01Z\"",
            Form::Time(TimeUnit::Iso) | Form::TimeTz => b"\"00:00:00Z\"",
            Form::Timestamp(TimeUnit::Iso) | Form::TimestampTz(_) => b"\"1970-01-01T00:00:00Z\"",
            Form::Time(_) | Form::Timestamp(_) => b"0",
            Form::IntervalText => b"\"P0Y0M0DT0H0M0S\"",
            Form::Float32 | Form::Float64 | Form::NumericDouble(_) | Form::MoneyDouble(_) => b"0.0",
            Form::Hstore => b"\"{}\"",
            Form::HstoreMap => b"{}",
            Form::Array(_) | Form::Vector | Form::HalfVector | Form::NumberVector { .. } => b"[]",
            Form::SparseVector => b"{\"dimensions\":0,\"vector\":[]}",
            Form::Text(_) | Form::Char | Form::Enum(_) => b"\"\"",
            _ => return self.write_fallback_of(self.fallback_text(), out),
        };
        out.extend_from_slice(fixed);
    }

    fn write_fallback_of(&self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        if self.write_form(text, out).is_err() {
            out.truncate(start);
            out.extend_from_slice(b"null");
        }
        if matches!(self.form, Form::Shape(Shape::Path)) {
            drop_closed(start, out);
        }
    }

    /// The text whose value is the fallback.
    fn fallback_text(&self) -> &'static [u8] {
        match &self.form {
            Form::Money(_) | Form::MoneyText(_) => b"$0",
            Form::Bits(_) => b"",
            Form::Bytes | Form::BytesBase64 | Form::BytesBase64Url | Form::BytesHex => b"\\x",
            Form::Point => b"(0,0)",
            Form::Circle => b"<(0,0),0>",
            Form::Line => b"{0,1,0}",
            Form::Shape(Shape::Box) => b"(0,0),(1,1)",
            Form::Shape(Shape::Polygon) => b"((0,0),(1,0),(0,1))",
            Form::Shape(Shape::Segment | Shape::Path) => b"[(0,0),(1,0)]",
            Form::Geometry | Form::Geography => EMPTY_GEOMETRY,
            _ => b"0",
        }
    }
}

/// An invented path does not say whether it is closed.
fn drop_closed(start: usize, out: &mut Vec<u8>) {
    const CLOSED: &[u8] = br#","closed":"false""#;
    if let Some(at) = out.get(start..).and_then(|text| memchr::memmem::find(text, CLOSED)) {
        out.drain(start + at..start + at + CLOSED.len());
    }
}
