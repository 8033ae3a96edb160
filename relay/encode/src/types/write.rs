//! The hot path: one match a value.

use super::array::Refused;
use super::form::Form;
use super::{
    ColumnType, Written, array, bits, float, geometry, hstore, interval, number, numeric, text as words, time, timestamp, vector,
};

// === impl ColumnType ===

impl ColumnType {
    /// Appends the JSON of a value; after a refusal a part of it may stand in `out`.
    #[inline]
    pub(super) fn write_form(&self, text: &[u8], out: &mut Vec<u8>) -> Written {
        match &self.form {
            Form::Text(_) | Form::Char | Form::Enum(_) => words::write(text, self.utf8, out),
            Form::Int16 | Form::Int32 | Form::Int64 => number::copy_integer(text, out),
            Form::Bool => match text {
                b"t" => {
                    out.extend_from_slice(b"true");
                    Ok(())
                }
                b"f" => {
                    out.extend_from_slice(b"false");
                    Ok(())
                }
                _ => Err("is not a boolean"),
            },
            Form::Timestamp(unit) => timestamp::write_timestamp(text, *unit, out),
            Form::TimestampTz(places) => timestamp::write_timestamptz(text, *places, out),
            Form::Decimal { scale, .. } => numeric::write_decimal(text, *scale, out),
            Form::Variable => numeric::write_variable(text, out),
            Form::NumericText(scale) => numeric::write_text(text, *scale, out),
            Form::NumericDouble(_) => numeric::write_double(text, out),
            Form::Float32 => float::write_f32(text, out),
            Form::Float64 => float::write_f64(text, out),
            Form::Bytes => bits::write_bytea(text, out),
            Form::Date(unit) => time::write_date(text, *unit, out),
            Form::Array(form) => array::write(text, form, Refused::Array, out),
            _ => self.write_rare(text, out),
        }
    }

    /// Appends an array that was refused for the range of its elements, with NULL in place of each; `None` where it cannot be.
    #[cold]
    pub(crate) fn write_without_refused(&self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let Form::Array(form) = &self.form else { return None };
        let start = out.len();
        let written = array::write(text, form, Refused::Element, out);
        written.map_err(|_| out.truncate(start)).ok()
    }

    fn write_rare(&self, text: &[u8], out: &mut Vec<u8>) -> Written {
        match &self.form {
            Form::Bit => bits::write_bit(text, out),
            Form::Bits(_) => bits::write_bits(text, out),
            Form::Money(_) => numeric::write_money(text, out),
            Form::MoneyText(scale) => {
                out.push(b'"');
                numeric::write_money_plain(text, *scale, out)?;
                out.push(b'"');
                Ok(())
            }
            Form::MoneyDouble(scale) => numeric::write_money_double(text, *scale, out),
            Form::BytesBase64 => bits::write_bytea(text, out),
            Form::BytesBase64Url => bits::write_bytea_url(text, out),
            Form::BytesHex => bits::write_bytea_hex(text, out),
            Form::Time(unit) => time::write_time(text, *unit, out),
            Form::TimeTz => time::write_timetz(text, out),
            Form::Interval => interval::write_micros(text, out),
            Form::IntervalText => interval::write_iso(text, out),
            Form::Hstore => hstore::write_json(text, self.utf8, out),
            Form::HstoreMap => hstore::write_map(text, self.utf8, out),
            Form::Point => geometry::write_point(text, out),
            Form::Shape(shape) => geometry::write_shape(text, *shape, out),
            Form::Circle => geometry::write_circle(text, out),
            Form::Line => geometry::write_line(text, out),
            Form::Geometry => geometry::write_postgis(text, true, out),
            Form::Geography => geometry::write_postgis(text, false, out),
            Form::Vector => vector::write(text, false, out),
            Form::HalfVector => vector::write(text, true, out),
            Form::SparseVector => vector::write_sparse(text, out),
            Form::NumberVector { .. } => vector::write_numbers(text, out),
            _ => words::write(text, self.utf8, out),
        }
    }
}
