//! From oid, modifier, name and catalog to the form of a column: once a plan.

use super::ColumnType;
use super::form::{ArrayForm, DateUnit, Form, Shape, TimeUnit};
use super::modes::{BinaryMode, DecimalMode, HstoreMode, IntervalMode, Modes, TimeMode};
use super::{oids, placeholder};
use relay_core::Oid;
use relay_core::catalog::{Catalog, TypeForm};
use std::cell::RefCell;

/// First oid that is not built in.
const FIRST_NOT_BUILT_IN: u32 = 10_000;
/// Domains over arrays of domains over arrays end somewhere, whatever a catalog says.
const MOST_LEVELS: u8 = 8;

/// What is looked up.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    oid: u32,
    modifier: i32,
    name: Option<&'a str>,
    levels: u8,
}

/// What was found beside the form.
#[derive(Debug)]
struct Found {
    form: Form,
    is_unknown: bool,
    is_omitted: bool,
    /// The built-in type at the bottom, 0 for others.
    base: u32,
    is_domain: bool,
    is_isbn: bool,
}

/// Looks types up for one plan.
#[derive(Clone, Copy, Debug)]
struct Resolver<'a> {
    catalog: &'a Catalog,
    modes: &'a Modes,
}

// === impl ColumnType ===

impl ColumnType {
    /// Never fails: a type that nobody knows is its text. `type_name` is `Column::type_name`.
    pub(crate) fn new(type_oid: Oid, modifier: i32, type_name: Option<&str>, catalog: &Catalog, modes: &Modes) -> Self {
        let found = Resolver { catalog, modes }.find(Wanted { oid: type_oid.0, modifier, name: type_name, levels: MOST_LEVELS });
        let mut column = Self::of(found, modes);
        column.unavailable = placeholder::of(&column, &modes.unavailable);
        column
    }

    fn of(found: Found, modes: &Modes) -> Self {
        let Found { form, is_unknown, is_omitted, base, is_domain, .. } = found;
        let is_omitted = modes.is_debezium && (is_omitted || is_unknown);
        Self { form, is_unknown, is_omitted, base, is_domain, utf8: modes.invalid_utf8, unavailable: None }
    }
}

// === impl Resolver ===

impl Resolver<'_> {
    fn find(self, wanted: Wanted<'_>) -> Found {
        if wanted.levels == 0 {
            return Found::unknown();
        }
        if wanted.oid < FIRST_NOT_BUILT_IN {
            return self.built_in(wanted);
        }
        let levels = wanted.levels - 1;
        match self.catalog.find_type(Oid(wanted.oid)) {
            Some(found) => match &found.form {
                // A type of one's own may be called as a built-in one is.
                TypeForm::Plain if oids::by_name(&found.name).is_some() => Found::unknown(),
                TypeForm::Plain => self.named(&found.name, wanted),
                TypeForm::Enum(labels) => Found::of(Form::Enum(labels.join(",").into())),
                TypeForm::Domain(Oid(oid), modifier) => {
                    // The name that the stream gave is that of the base type.
                    let found = self.find(Wanted { oid: *oid, modifier: *modifier, name: None, levels });
                    Found { is_domain: true, ..found }
                }
                TypeForm::Array(Oid(oid), delimiter) => {
                    let item = self.find(Wanted { oid: *oid, modifier: wanted.modifier, name: None, levels });
                    self.array(item, *delimiter)
                }
                TypeForm::Composite | TypeForm::Range => Found::unknown(),
            },
            None => wanted.name.map_or_else(Found::unknown, |name| self.named(name, wanted)),
        }
    }

    /// A type of an extension, or what a table that is gone left of its types: names.
    fn named(self, name: &str, wanted: Wanted<'_>) -> Found {
        if let Some(element) = name.strip_prefix('_') {
            let delimiter = if element == "box" { b';' } else { b',' };
            return self.array(self.named(element, wanted), delimiter);
        }
        Found::of(match name {
            "citext" => Form::Text(None),
            "isbn" => return Found { is_isbn: true, ..Found::of(Form::Text(None)) },
            "ean13" | "isbn13" | "ismn" | "issn" | "upc" => return Found { is_omitted: true, ..Found::of(Form::Text(None)) },
            "ltree" => Form::Text(Some("Ltree")),
            "hstore" if self.modes.hstore == HstoreMode::Map => Form::HstoreMap,
            "hstore" => Form::Hstore,
            "geometry" => Form::Geometry,
            "geography" => Form::Geography,
            "vector" => Form::Vector,
            "halfvec" => Form::HalfVector,
            "sparsevec" => Form::SparseVector,
            _ => match oids::by_name(name) {
                Some(oid) => return self.built_in(Wanted { oid, ..wanted }),
                None => return Found::unknown(),
            },
        })
    }

    fn array(self, item: Found, delimiter: u8) -> Found {
        let is_omitted = item.is_omitted || item.is_domain || !oids::has_debezium_array(item.base);
        // Debezium's schema of these elements is not optional, so that it has no array with a NULL among them (8.3).
        let is_required = self.modes.is_debezium && (item.is_isbn || item.form.is_required_in_arrays());
        let is_unknown = item.is_unknown;
        let item = ColumnType { is_omitted: false, ..ColumnType::of(item, self.modes) };
        let form = ArrayForm {
            item,
            delimiter,
            is_flat: self.modes.schemas,
            has_required_items: is_required,
            scratch: RefCell::default(),
        };
        Found { is_unknown, is_omitted, ..Found::of(Form::Array(Box::new(form))) }
    }

    fn built_in(self, wanted: Wanted<'_>) -> Found {
        let Wanted { oid, modifier, levels, .. } = wanted;
        if let Some(element) = oids::element(oid) {
            let delimiter = if element == 603 { b';' } else { b',' };
            let item = self.find(Wanted { oid: element, modifier, name: None, levels: levels - 1 });
            return self.array(item, delimiter);
        }
        let form = match oid {
            16 => Form::Bool,
            17 => match self.modes.binary {
                BinaryMode::Bytes => Form::Bytes,
                BinaryMode::Base64 => Form::BytesBase64,
                BinaryMode::Base64Url => Form::BytesBase64Url,
                BinaryMode::Hex => Form::BytesHex,
            },
            // "char", name, text, varchar; inet, cidr, macaddr, macaddr8; the built-in ranges; refcursor is text by its nature.
            18 | 19 | 25 | 1043 | 869 | 650 | 829 | 774 | 3904 | 3906 | 3908 | 3910 | 3912 | 3926 => Form::Text(None),
            1042 => Form::Char,
            20 | 26 => Form::Int64,
            21 => Form::Int16,
            23 => Form::Int32,
            22 => Form::NumberVector { is_wide: false },
            30 => Form::NumberVector { is_wide: true },
            114 | 3802 => Form::Text(Some("Json")),
            142 => Form::Text(Some("Xml")),
            2950 => Form::Text(Some("Uuid")),
            3614 => Form::Text(Some("Tsvector")),
            600 => Form::Point,
            601 => Form::Shape(Shape::Segment),
            602 => Form::Shape(Shape::Path),
            603 => Form::Shape(Shape::Box),
            604 => Form::Shape(Shape::Polygon),
            628 => Form::Line,
            718 => Form::Circle,
            700 => Form::Float32,
            701 => Form::Float64,
            790 => self.money(),
            1082 => Form::Date(match self.modes.time {
                TimeMode::Connect => DateUnit::Connect,
                TimeMode::Iso => DateUnit::Iso,
                _ => DateUnit::Days,
            }),
            1083 => Form::Time(match self.modes.time {
                TimeMode::AdaptiveMicros => TimeUnit::Micros,
                _ => self.time_unit(modifier),
            }),
            1114 => Form::Timestamp(self.time_unit(modifier)),
            1184 => Form::TimestampTz(u8::try_from(modifier).map_or(6, |places| places.min(6))),
            1266 => Form::TimeTz,
            1186 if self.modes.interval == IntervalMode::Text => Form::IntervalText,
            1186 => Form::Interval,
            1560 | 1562 if modifier == 1 => Form::Bit,
            1560 | 1562 => Form::Bits(u32::try_from(modifier).unwrap_or(i32::MAX as u32)),
            1700 => self.numeric(modifier),
            _ => return Found::unknown(),
        };
        Found { base: oid, ..Found::of(form) }
    }

    /// The unit of the time mode, where the precision decides in the adaptive ones.
    fn time_unit(self, modifier: i32) -> TimeUnit {
        match self.modes.time {
            TimeMode::Adaptive | TimeMode::AdaptiveMicros if (0..=3).contains(&modifier) => TimeUnit::Millis,
            TimeMode::Adaptive | TimeMode::AdaptiveMicros | TimeMode::Micros => TimeUnit::Micros,
            TimeMode::Connect => TimeUnit::Connect,
            TimeMode::Iso => TimeUnit::Iso,
            TimeMode::Nanos => TimeUnit::Nanos,
        }
    }

    fn money(self) -> Form {
        let scale = self.modes.money_scale.min(100);
        match self.modes.decimal {
            DecimalMode::Precise => Form::Money(scale),
            DecimalMode::Text => Form::MoneyText(scale),
            DecimalMode::Double => Form::MoneyDouble(scale),
        }
    }

    /// A modifier is `(precision << 16 | scale) + 4`, the scale a signed number of 11 bits.
    fn numeric(self, modifier: i32) -> Form {
        let parts = (modifier >= 4).then(|| {
            let packed = modifier - 4;
            ((packed >> 16 & 0xFFFF) as u32, ((packed & 0x7FF) ^ 0x400) - 0x400)
        });
        match (self.modes.decimal, parts) {
            (DecimalMode::Precise, Some((precision, scale))) => Form::Decimal { precision, scale },
            (DecimalMode::Precise, None) => Form::Variable,
            (DecimalMode::Text, parts) => Form::NumericText(parts.map(|(_, scale)| scale)),
            (DecimalMode::Double, parts) => Form::NumericDouble(parts.map(|(_, scale)| scale)),
        }
    }
}

// === impl Found ===

impl Found {
    fn of(form: Form) -> Self {
        Self { form, is_unknown: false, is_omitted: false, base: 0, is_domain: false, is_isbn: false }
    }

    fn unknown() -> Self {
        Self { is_unknown: true, is_omitted: true, ..Self::of(Form::Text(None)) }
    }
}
