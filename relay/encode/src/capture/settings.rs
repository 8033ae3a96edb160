//! What a person writes about one `[[capture]]`, and about its flat format.

/// One `[[capture]]` table. Globs are over the raw text `schema.table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Tables taken.
    pub tables: Vec<String>,
    /// Tables left out of them.
    pub exclude: Vec<String>,
    /// `debezium`, `flat`, `cloudevents`.
    pub format: String,
    /// Template of the topic.
    pub topic: String,
    /// Columns of the record key; empty = primary key or replica identity.
    pub key: Vec<String>,
    /// `insert`, `update`, `delete`, `truncate`.
    pub operations: Vec<String>,
    /// Condition in the language of `match`; empty = all rows.
    pub filter: String,
    /// Integer column that names the partition; empty = the partitioner's choice.
    pub partition: String,
    /// `split`, `update`.
    pub key_change: String,
    /// Globs over `schema.table.column`: columns left out of values.
    pub columns_exclude: Vec<String>,
    /// Glob over `schema.table.column`, and `sha256:salt`, `stars:N`, `truncate:N` or `null`; the first that matches counts.
    pub mask: Vec<(String, String)>,
    /// The flat format.
    pub flat: FlatSettings,
}

/// `[capture.flat]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatSettings {
    /// `drop`, `tombstone`, `rewrite`, `rewrite-with-tombstone`, `delete-to-tombstone`.
    pub delete: String,
    /// Metadata behind the columns; `None` = the default of `format.compat`.
    pub add_fields: Option<Vec<String>>,
    /// Metadata as headers.
    pub add_headers: Vec<String>,
    /// Prefix of the names of both.
    pub prefix: String,
}

// === impl CaptureSettings ===

impl CaptureSettings {
    /// The template of `topic` when nothing is set.
    pub const DEFAULT_TOPIC: &'static str = "{prefix}.{schema}.{table}";
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self {
            tables: vec!["public.*".to_owned()],
            exclude: Vec::new(),
            format: "debezium".to_owned(),
            topic: Self::DEFAULT_TOPIC.to_owned(),
            key: Vec::new(),
            operations: ["insert", "update", "delete"].map(str::to_owned).to_vec(),
            filter: String::new(),
            partition: String::new(),
            key_change: "split".to_owned(),
            columns_exclude: Vec::new(),
            mask: Vec::new(),
            flat: FlatSettings::default(),
        }
    }
}

impl Default for FlatSettings {
    fn default() -> Self {
        Self { delete: "tombstone".to_owned(), add_fields: None, add_headers: Vec::new(), prefix: "__".to_owned() }
    }
}
