//! The rule of the flat format: what a deletion becomes, and which metadata goes beside the columns (event-format.md, section 12).

use super::format::Format;
use super::metadata::Metadata;
use super::settings::FlatSettings;
use crate::error::RouteError;
use crate::headers::check_name;

/// `[capture.flat]`, checked.
#[derive(Debug)]
pub(super) struct FlatRule {
    pub(super) delete: FlatDelete,
    /// Name and source of each added field.
    pub(super) fields: Vec<(String, Metadata)>,
    pub(super) headers: Vec<(String, Metadata)>,
}

/// What a deletion becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlatDelete {
    Drop,
    Tombstone,
    Rewrite,
    RewriteWithTombstone,
    DeleteToTombstone,
}

// === impl FlatRule ===

impl FlatRule {
    pub(super) fn new(settings: &FlatSettings, format: &Format) -> Result<Self, RouteError> {
        let delete = match settings.delete.as_str() {
            "drop" => FlatDelete::Drop,
            "tombstone" => FlatDelete::Tombstone,
            "rewrite" => FlatDelete::Rewrite,
            "rewrite-with-tombstone" => FlatDelete::RewriteWithTombstone,
            "delete-to-tombstone" => FlatDelete::DeleteToTombstone,
            other => {
                let hint = "known: drop, tombstone, rewrite, rewrite-with-tombstone, delete-to-tombstone";
                return Err(RouteError::value("flat.delete", format!("`{other}` is not known")).hint(hint));
            }
        };
        // D18: without a word about it Debezium adds nothing.
        let default = || if format.is_debezium { Vec::new() } else { ["op", "lsn", "ts_ms"].map(str::to_owned).to_vec() };
        let fields = settings.add_fields.clone().unwrap_or_else(default);
        let named = |texts: &[String]| texts.iter().filter_map(|text| Metadata::parse(text, &settings.prefix)).collect();
        let headers: Vec<(String, Metadata)> = named(&settings.add_headers);
        for (name, _) in &headers {
            check_name(name).map_err(|message| RouteError::value("flat.add_headers", format!("`{name}`: {message}")))?;
        }
        Ok(Self { delete, fields: named(&fields), headers })
    }

    /// Whether rows carry a field of that name that is no column.
    pub(super) fn adds(&self, name: &str) -> bool {
        (self.marks_deleted() && name == "__deleted") || self.fields.iter().any(|(added, _)| added == name)
    }

    /// Whether rows carry `__deleted`.
    pub(super) fn marks_deleted(&self) -> bool {
        matches!(self.delete, FlatDelete::Rewrite | FlatDelete::RewriteWithTombstone)
    }
}
