//! The settings that Debezium was recorded with: one connector and one golden file each.

/// Which statements a set is recorded over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cases {
    /// `types.sql`: every type, by snapshot and by stream.
    Types,
    /// `changes.sql`: every shape of a change.
    Changes,
}

/// One mode set.
#[derive(Debug)]
pub(crate) struct Set {
    /// Names the connector, its slot and the golden file.
    pub(crate) name: &'static str,
    /// What it is recorded over.
    pub(crate) cases: Cases,
    /// The families of types that its modes change; empty means all tables.
    pub(crate) families: &'static [&'static str],
    /// Tables of these on which Debezium's connector ends in these modes: it has null for an old row's required column.
    pub(crate) fatal: &'static [&'static str],
    /// Debezium's options, over those of every set.
    pub(crate) options: &'static [(&'static str, &'static str)],
}

/// Schemas with every message; a payload's text does not depend on them.
const SCHEMAS: (&str, &str) = ("value.converter.schemas.enable", "true");
/// A truncate is skipped by default.
const ALL_OPERATIONS: (&str, &str) = ("skipped.operations", "none");
/// Metadata of the flat format, under each kind of name that its rule knows.
const ADDED: [(&str, &str); 2] = [
    ("transforms.unwrap.add.fields", "op,table,source.ts_ms,transaction.id,lsn:LSN,ts_ms,nothing"),
    ("transforms.unwrap.add.headers", "op,source.schema,db:base"),
];
const UNWRAP: (&str, &str) = ("transforms", "unwrap");
const UNWRAP_TYPE: (&str, &str) = ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState");
const DELETE: &str = "transforms.unwrap.delete.tombstone.handling.mode";

const TIMES: [&str; 8] = ["date", "midnight", "farday", "moment", "farmoment", "beyond", "made", "odd"];

/// Every set, in the order of the coverage table.
pub(crate) const SETS: &[Set] = &[
    Set { name: "types", cases: Cases::Types, families: &[], fatal: &[], options: &[SCHEMAS] },
    Set {
        name: "types-strings",
        cases: Cases::Types,
        families: &[
            "decimal",
            "special",
            "negative",
            "bytes",
            "date",
            "midnight",
            "farday",
            "moment",
            "farmoment",
            "beyond",
            "interval",
            "made",
            "hstore",
            "hstores",
            "toast",
            "odd",
        ],
        fatal: &[],
        options: &[
            SCHEMAS,
            ("decimal.handling.mode", "string"),
            ("time.precision.mode", "isostring"),
            ("interval.handling.mode", "string"),
            ("binary.handling.mode", "hex"),
            ("hstore.handling.mode", "map"),
        ],
    },
    Set {
        name: "types-doubles",
        cases: Cases::Types,
        families: &["decimal", "special", "negative", "bytes", "date", "midnight", "moment", "farmoment", "made", "toast", "odd"],
        fatal: &[],
        options: &[
            SCHEMAS,
            ("decimal.handling.mode", "double"),
            ("time.precision.mode", "adaptive_time_microseconds"),
            ("binary.handling.mode", "base64"),
        ],
    },
    Set {
        name: "types-nanoseconds",
        cases: Cases::Types,
        families: &["bytes", "date", "midnight", "farday", "moment", "farmoment", "beyond", "made", "toast"],
        fatal: &["moment_required", "made_required", "made_default"],
        options: &[SCHEMAS, ("time.precision.mode", "nanoseconds"), ("binary.handling.mode", "base64-url-safe")],
    },
    Set {
        name: "types-microseconds",
        cases: Cases::Types,
        families: &TIMES,
        fatal: &[],
        options: &[SCHEMAS, ("time.precision.mode", "microseconds")],
    },
    Set {
        name: "types-connect",
        cases: Cases::Types,
        families: &TIMES,
        fatal: &[],
        options: &[SCHEMAS, ("time.precision.mode", "connect")],
    },
    Set { name: "changes", cases: Cases::Changes, families: &[], fatal: &[], options: &[SCHEMAS, ALL_OPERATIONS] },
    Set {
        name: "changes-transactions",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[SCHEMAS, ALL_OPERATIONS, ("provide.transaction.metadata", "true"), ("binary.handling.mode", "hex")],
    },
    Set {
        name: "changes-root",
        cases: Cases::Changes,
        families: &["parts"],
        fatal: &[],
        options: &[("publication.name", "dbz_root"), ALL_OPERATIONS, ("tombstones.on.delete", "false")],
    },
    Set {
        name: "flat-tombstone",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[UNWRAP, UNWRAP_TYPE, (DELETE, "tombstone")],
    },
    Set {
        name: "flat-schemas",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[SCHEMAS, UNWRAP, UNWRAP_TYPE, (DELETE, "tombstone")],
    },
    Set {
        name: "flat-drop",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[UNWRAP, UNWRAP_TYPE, ADDED[0], ADDED[1], (DELETE, "drop")],
    },
    Set {
        name: "flat-rewrite",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[
            SCHEMAS,
            UNWRAP,
            UNWRAP_TYPE,
            ADDED[0],
            ADDED[1],
            (DELETE, "rewrite"),
            ("provide.transaction.metadata", "true"),
        ],
    },
    Set {
        name: "flat-rewrite-with-tombstone",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[UNWRAP, UNWRAP_TYPE, ADDED[0], ADDED[1], (DELETE, "rewrite-with-tombstone")],
    },
    Set {
        name: "flat-delete-to-tombstone",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[SCHEMAS, UNWRAP, UNWRAP_TYPE, ADDED[1], (DELETE, "delete-to-tombstone")],
    },
    Set {
        name: "cloudevents",
        cases: Cases::Changes,
        families: &[],
        fatal: &[],
        options: &[
            ("value.converter", "io.debezium.converters.CloudEventsConverter"),
            ("value.converter.serializer.type", "json"),
            ("value.converter.data.serializer.type", "json"),
            ("value.converter.json.schemas.enable", "false"),
            ("provide.transaction.metadata", "true"),
            ALL_OPERATIONS,
        ],
    },
];
