//! One column of each kind in each mode: what fuzzing runs over.

use super::{ColumnType, Modes};
use crate::settings::FormatSettings;
use relay_core::Oid;
use relay_core::catalog::Catalog;

/// Built-in types with a modifier, in which all forms appear.
const BUILT_IN: [(u32, i32); 43] = [
    (16, -1),
    (17, -1),
    (20, -1),
    (21, -1),
    (22, -1),
    (23, -1),
    (25, -1),
    (30, -1),
    (600, -1),
    (601, -1),
    (602, -1),
    (603, -1),
    (604, -1),
    (628, -1),
    (700, -1),
    (701, -1),
    (718, -1),
    (790, -1),
    (1042, 8),
    (1082, -1),
    (1083, 3),
    (1083, -1),
    (1114, 3),
    (1114, -1),
    (1184, -1),
    (1184, 0),
    (1186, -1),
    (1266, -1),
    (1560, 1),
    (1560, 9),
    (1700, -1),
    (1700, (9 << 16 | 2) + 4),
    (1700, (9 << 16 | 0x7FE) + 4),
    (1001, -1),
    (1007, -1),
    (1009, -1),
    (1020, -1),
    (1115, -1),
    (1185, -1),
    (1231, -1),
    (1022, -1),
    (1000, -1),
    (1187, -1),
];
const NAMED: [&str; 7] = ["hstore", "_hstore", "geometry", "geography", "vector", "halfvec", "sparsevec"];

/// All columns.
pub(crate) fn columns() -> Vec<ColumnType> {
    let mut columns = Vec::new();
    for (decimal, time, interval, binary, hstore, utf8) in [
        ("precise", "adaptive", "numeric", "bytes", "json", "poison"),
        ("string", "isostring", "string", "base64-url-safe", "map", "replace"),
        ("double", "connect", "numeric", "hex", "json", "base64"),
        ("double", "nanoseconds", "string", "base64", "map", "poison"),
    ] {
        let settings = FormatSettings {
            decimal: decimal.into(),
            time: time.into(),
            interval: interval.into(),
            binary: binary.into(),
            hstore: hstore.into(),
            invalid_utf8: utf8.into(),
            ..FormatSettings::default()
        };
        let Ok(modes) = Modes::new(&settings) else { continue };
        let of = |oid, modifier, name| ColumnType::new(Oid(oid), modifier, name, &Catalog::default(), &modes);
        columns.extend(BUILT_IN.map(|(oid, modifier)| of(oid, modifier, None)));
        columns.extend(NAMED.map(|name| of(20_000, -1, Some(name))));
    }
    columns
}
