//! The Connect schema of a column, properties in the order of section 4.

use super::ColumnType;
use super::form::{DateUnit, Form, TimeUnit};
use super::number::write_integer;
use crate::json;

/// What a schema object has beside its type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchemaField<'a> {
    /// The property `field`; an item of an array has none.
    pub(crate) name: Option<&'a str>,
    pub(crate) is_optional: bool,
    /// The default as JSON.
    pub(crate) default: Option<&'a [u8]>,
    /// A parameter more: `masked` or `truncateLength` and its value.
    pub(crate) mask: Option<(&'a str, &'a str)>,
}

/// The fixed part of a schema.
struct Parts {
    kind: &'static str,
    /// `fields`, `items`, or `keys` and `values`, as they are written.
    inside: &'static str,
    name: &'static str,
    version: i64,
    doc: &'static str,
}

const POINT_FIELDS: &str = concat!(
    r#","fields":[{"type":"double","optional":false,"field":"x"},{"type":"double","optional":false,"field":"y"},"#,
    r#"{"type":"bytes","optional":true,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}]"#
);
const CIRCLE_FIELDS: &str = concat!(
    r#","fields":[{"type":"struct","fields":[{"type":"double","optional":false,"field":"x"},"#,
    r#"{"type":"double","optional":false,"field":"y"},{"type":"bytes","optional":true,"field":"wkb"},"#,
    r#"{"type":"int32","optional":true,"field":"srid"}],"optional":false,"name":"io.debezium.data.geometry.Point","version":1,"#,
    r#""doc":"Geometry (POINT)","field":"center"},{"type":"double","optional":false,"field":"radius"}]"#
);
const LINE_FIELDS: &str = concat!(
    r#","fields":[{"type":"double","optional":false,"field":"a"},{"type":"double","optional":false,"field":"b"},"#,
    r#"{"type":"double","optional":false,"field":"c"}]"#
);
const GEOMETRY_FIELDS: &str = concat!(
    r#","fields":[{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"},"#,
    r#"{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"string","optional":false},"#,
    r#""optional":true,"field":"extensions"}]"#
);
const GEOGRAPHY_FIELDS: &str =
    r#","fields":[{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}]"#;
const SPARSE_FIELDS: &str = concat!(
    r#","fields":[{"type":"int16","optional":false,"field":"dimensions"},"#,
    r#"{"type":"map","keys":{"type":"int16","optional":false},"values":{"type":"double","optional":false},"#,
    r#""optional":false,"field":"vector"}]"#
);
const VARIABLE_FIELDS: &str =
    r#","fields":[{"type":"int32","optional":false,"field":"scale"},{"type":"bytes","optional":false,"field":"value"}]"#;
const TEXT_MAP: &str = r#","keys":{"type":"string","optional":false},"values":{"type":"string","optional":true}"#;

// === impl ColumnType ===

impl ColumnType {
    /// Appends the schema object of the column.
    pub(crate) fn write_schema(&self, field: &SchemaField<'_>, out: &mut Vec<u8>) {
        let parts = self.form.parts();
        text(&[r#"{"type":""#, parts.kind, "\"", parts.inside], out);
        if let Form::Array(array) = &self.form {
            text(&[r#","items":"#], out);
            array.item.write_schema(&SchemaField { is_optional: !array.has_required_items, ..SchemaField::default() }, out);
        }
        // Debezium's schemas of these are optional from the start, and nothing makes them otherwise.
        let is_always_optional = matches!(self.form, Form::Geometry | Form::Shape(_) | Form::Circle | Form::Line);
        text(&[r#","optional":"#, if field.is_optional || is_always_optional { "true" } else { "false" }], out);
        if !parts.name.is_empty() {
            text(&[r#","name":""#, parts.name, r#"","version":"#], out);
            write_integer(parts.version, out);
        }
        if !parts.doc.is_empty() {
            text(&[r#","doc":""#, parts.doc, "\""], out);
        }
        self.write_parameters(field.mask, out);
        if let Some(default) = field.default {
            text(&[r#","default":"#], out);
            out.extend_from_slice(default);
        }
        if let Some(name) = field.name {
            text(&[r#","field":"#], out);
            json::write_string(name, out);
        }
        out.push(b'}');
    }

    fn write_parameters(&self, mask: Option<(&str, &str)>, out: &mut Vec<u8>) {
        let mut is_first = true;
        let mut write = |name: &str, value: &str, out: &mut Vec<u8>| {
            text(&[if is_first { r#","parameters":{"# } else { "," }], out);
            is_first = false;
            json::write_string(name, out);
            out.push(b':');
            json::write_string(value, out);
        };
        match &self.form {
            Form::Bits(length) => write("length", &length.to_string(), out),
            Form::Decimal { precision, scale } => {
                write("scale", &scale.to_string(), out);
                write("connect.decimal.precision", &precision.to_string(), out);
            }
            Form::Money(scale) => write("scale", &scale.to_string(), out),
            Form::Enum(labels) => write("allowed", labels, out),
            _ => {}
        }
        if let Some((name, value)) = mask {
            write(name, value, out);
        }
        if !is_first {
            out.push(b'}');
        }
    }
}

fn text(pieces: &[&str], out: &mut Vec<u8>) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

// === impl Form ===

impl Form {
    fn parts(&self) -> Parts {
        let plain = |kind| Parts { kind, inside: "", name: "", version: 1, doc: "" };
        let named = |kind, name| Parts { name, ..plain(kind) };
        let structure = |inside, name, doc| Parts { kind: "struct", inside, name, version: 1, doc };
        match self {
            Form::Bool | Form::Bit => plain("boolean"),
            Form::Int16 => plain("int16"),
            Form::Int32 => plain("int32"),
            Form::Int64 => plain("int64"),
            Form::Float32 => plain("float"),
            Form::Float64 | Form::NumericDouble(_) | Form::MoneyDouble(_) => plain("double"),
            Form::Bytes => plain("bytes"),
            Form::Text(None) | Form::Char | Form::NumericText(_) | Form::MoneyText(_) => plain("string"),
            Form::BytesBase64 | Form::BytesBase64Url | Form::BytesHex => plain("string"),
            Form::Text(Some(name)) => named("string", semantic(name)),
            Form::Enum(_) => named("string", "io.debezium.data.Enum"),
            Form::Hstore => named("string", "io.debezium.data.Json"),
            Form::HstoreMap => Parts { inside: TEXT_MAP, ..plain("map") },
            Form::Bits(_) => named("bytes", "io.debezium.data.Bits"),
            Form::Decimal { .. } | Form::Money(_) => named("bytes", "org.apache.kafka.connect.data.Decimal"),
            Form::Variable => structure(VARIABLE_FIELDS, "io.debezium.data.VariableScaleDecimal", "Variable scaled decimal"),
            Form::Date(DateUnit::Days) => named("int32", "io.debezium.time.Date"),
            Form::Date(DateUnit::Connect) => named("int32", "org.apache.kafka.connect.data.Date"),
            Form::Date(DateUnit::Iso) => named("string", "io.debezium.time.IsoDate"),
            Form::Time(TimeUnit::Millis) => named("int32", "io.debezium.time.Time"),
            Form::Time(TimeUnit::Micros) => named("int64", "io.debezium.time.MicroTime"),
            Form::Time(TimeUnit::Nanos) => named("int64", "io.debezium.time.NanoTime"),
            Form::Time(TimeUnit::Connect) => named("int32", "org.apache.kafka.connect.data.Time"),
            Form::Time(TimeUnit::Iso) => named("string", "io.debezium.time.IsoTime"),
            Form::TimeTz => named("string", "io.debezium.time.ZonedTime"),
            Form::Timestamp(TimeUnit::Millis) => named("int64", "io.debezium.time.Timestamp"),
            Form::Timestamp(TimeUnit::Micros) => named("int64", "io.debezium.time.MicroTimestamp"),
            Form::Timestamp(TimeUnit::Nanos) => named("int64", "io.debezium.time.NanoTimestamp"),
            Form::Timestamp(TimeUnit::Connect) => named("int64", "org.apache.kafka.connect.data.Timestamp"),
            Form::Timestamp(TimeUnit::Iso) => named("string", "io.debezium.time.IsoTimestamp"),
            Form::TimestampTz(_) => named("string", "io.debezium.time.ZonedTimestamp"),
            Form::Interval => named("int64", "io.debezium.time.MicroDuration"),
            Form::IntervalText => named("string", "io.debezium.time.Interval"),
            Form::Point => structure(POINT_FIELDS, "io.debezium.data.geometry.Point", "Geometry (POINT)"),
            Form::Circle => structure(CIRCLE_FIELDS, "io.debezium.data.geometry.Circle", "Geometry (CIRCLE)"),
            Form::Line => structure(LINE_FIELDS, "io.debezium.data.geometry.Line", "Geometry (LINE)"),
            Form::Shape(_) | Form::Geometry => {
                Parts { version: 2, ..structure(GEOMETRY_FIELDS, "io.debezium.data.geometry.Geometry", "Geometry") }
            }
            Form::Geography => structure(GEOGRAPHY_FIELDS, "io.debezium.data.geometry.Geography", "Geography"),
            Form::Vector => Parts {
                inside: r#","items":{"type":"double","optional":false}"#,
                ..named("array", "io.debezium.data.DoubleVector")
            },
            Form::HalfVector => Parts {
                inside: r#","items":{"type":"float","optional":false}"#,
                ..named("array", "io.debezium.data.FloatVector")
            },
            Form::SparseVector => structure(SPARSE_FIELDS, "io.debezium.data.SparseDoubleVector", "Sparse double vector"),
            Form::NumberVector { is_wide: false } => {
                Parts { inside: r#","items":{"type":"int16","optional":false}"#, ..plain("array") }
            }
            Form::NumberVector { is_wide: true } => {
                Parts { inside: r#","items":{"type":"int64","optional":false}"#, ..plain("array") }
            }
            Form::Array(_) => plain("array"),
        }
    }
}

fn semantic(name: &str) -> &'static str {
    match name {
        "Json" => "io.debezium.data.Json",
        "Xml" => "io.debezium.data.Xml",
        "Uuid" => "io.debezium.data.Uuid",
        "Ltree" => "io.debezium.data.Ltree",
        _ => "io.debezium.data.Tsvector",
    }
}
