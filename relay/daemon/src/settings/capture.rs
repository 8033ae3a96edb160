//! Turns each `[[capture]]` into what a row-change capture publishes.

use super::field::Entries;
use super::schema::{Initial::Empty, Initial::Nested, choice, derived, list, table, text};

choice! {
    /// The shape of a change event.
    enum CaptureFormat {
        /// Debezium's envelope.
        Debezium = "debezium",
        /// The columns of the row.
        Flat = "flat",
        /// A CloudEvent.
        Cloudevents = "cloudevents",
    }
}

choice! {
    /// What a change of the key becomes.
    enum KeyChange {
        /// Delete, tombstone, create.
        Split = "split",
        /// One update with the old key in a header.
        Update = "update",
    }
}

choice! {
    /// What a deletion becomes in the flat format.
    enum FlatDelete {
        /// A null value.
        Tombstone = "tombstone",
        /// Nothing.
        Drop = "drop",
        /// The row with a mark.
        Rewrite = "rewrite",
        /// The row with a mark, then a null value.
        RewriteWithTombstone = "rewrite-with-tombstone",
        /// The null value in place of the deletion.
        DeleteToTombstone = "delete-to-tombstone",
    }
}

table! {
    /// A capture of row changes (log mode only).
    struct Capture {
        /// Globs over the raw text `schema.table`; `*` matches any character.
        tables: Vec<String> = list(&["public.*"]),
        /// Tables left out, by glob.
        exclude: Vec<String> = list(&[]),
        /// The shape of an event.
        format: CaptureFormat = text("debezium"),
        /// Template of the topic.
        topic: String = text("{prefix}.{schema}.{table}"),
        /// Columns of the record key; `[]` = primary key or replica identity.
        key: Vec<String> = list(&[]),
        /// `insert`, `update`, `delete`, `truncate`.
        operations: Vec<String> = list(&["insert", "update", "delete"]),
        /// Plain predicate; `""` = all rows.
        filter: String = text(""),
        /// Integer column that names the partition; `""` = partitioner.
        partition: String = text(""),
        /// `split` = delete, tombstone, create; `update` = one `u` with the old key in a header.
        key_change: KeyChange = text("split"),
        /// Columns left out or masked.
        columns: CaptureColumns = Nested,
        /// The flat format.
        flat: CaptureFlat = Nested,
    }
}

table! {
    /// Columns left out or masked.
    struct CaptureColumns {
        /// `schema.table.column` with globs.
        exclude: Vec<String> = list(&[]),
        /// `"public.users.email" = "sha256:salt"`, `"stars:10"`, `"truncate:20"` or `"null"`.
        mask: Entries = Empty,
    }
}

table! {
    /// The flat format.
    struct CaptureFlat {
        /// What a deletion becomes.
        delete: FlatDelete = text("tombstone"),
        /// Metadata fields after the columns.
        add_fields: Option<Vec<String>> = derived("`[\"op\", \"lsn\", \"ts_ms\"]`; `[]` with `compat = \"debezium\"`"),
        /// The same as headers.
        add_headers: Vec<String> = list(&[]),
        /// Prefix of both.
        prefix: String = text("__"),
    }
}
