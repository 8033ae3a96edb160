//! Why a route cannot be built or a plan not compiled, with the cure.

use relay_core::Kind;

/// A field of an `[[outbox]]` table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RouteError {
    /// The key in the `[[outbox]]` table; a router option is named `router."…"`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// [`Kind::ConfigValue`], [`Kind::ConfigConflict`] or [`Kind::ConfigNotImplemented`].
    pub kind: Kind,
}

/// A table does not have what its route needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table}: {message}")]
pub struct PlanError {
    /// `schema.table`, or the message prefix.
    pub table: String,
    /// The route's field that needs it.
    pub field: &'static str,
    /// The column as the route names it.
    pub column: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// [`Kind::ColumnMissing`], or [`Kind::ConfigValue`] for a column of the wrong type.
    pub kind: Kind,
}

// === impl RouteError ===

impl RouteError {
    pub(crate) fn value(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), hint: String::new(), kind: Kind::ConfigValue }
    }

    pub(crate) fn conflict(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: Kind::ConfigConflict, ..Self::value(field, message) }
    }

    pub(crate) fn not_implemented(field: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let message = format!("{what} is not implemented in this version");
        Self { kind: Kind::ConfigNotImplemented, ..Self::value(field, message) }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}
