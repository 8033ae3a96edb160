//! What can go wrong between the wire and a change.

use relay_core::session::Fault;
use relay_core::{Kind, Oid};
use relay_pgoutput::Tag;

/// An error of the PostgreSQL source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, or what the server said on it.
    #[error(transparent)]
    Wire(#[from] relay_pgwire::Error),
    /// A message that cannot be decoded.
    #[error(transparent)]
    Decode(#[from] relay_pgoutput::Error),
    /// A row of a table whose Relation message never came.
    #[error("a row of relation {0} came before its Relation message")]
    UnknownRelation(Oid),
    /// A message of a feature that was not asked for.
    #[error("the server sent a {0} message, which relay did not ask for")]
    NotAskedFor(Tag),
    /// A frame above `source.log.max_message` that is no row.
    #[error("a message other than a row is larger than source.log.max_message")]
    OversizeMessage,
    /// The server is not fit to be a source.
    #[error("{0}")]
    Unfit(String),
    /// Queries do not see yet what a new slot's snapshot sees.
    #[error("{0}")]
    Invisible(String),
    /// A table that a snapshot cannot read: a right that is missing, rows that row security would hide, a condition that does not fit.
    #[error("{0}")]
    Refused(String),
    /// A table changed its shape while a chunk of it was read.
    #[error("table {0} changed its columns while it was read; it is read again")]
    Altered(String),
    /// A polled table lacks a column that polling needs.
    #[error("{0}")]
    Column(String),
    /// An answer of the server that relay cannot read.
    #[error("the server's answer to {query} cannot be read")]
    Answer {
        /// What was asked.
        query: &'static str,
    },
    /// The role may not create the publication.
    #[error("{message}; its owner creates the publication, before the slot, with: {sql};")]
    PublicationRight {
        /// What the server said.
        message: String,
        /// The statement.
        sql: String,
    },
    /// The password cannot be read.
    #[error("{0}")]
    Password(String),
    /// The publication does not exist and cannot be created with the tables at hand.
    #[error("{0}")]
    Publication(String),
}

// === impl Error ===

impl Error {
    /// Its row in the policy table.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Wire(error) => error.kind(),
            Error::Decode(error) => error.kind(),
            Error::UnknownRelation(_) | Error::NotAskedFor(_) | Error::OversizeMessage | Error::Answer { .. } => {
                Kind::SourceProtocol
            }
            Error::Unfit(_) => Kind::SourceUnfit,
            Error::Invisible(_) => Kind::SourceUnavailable,
            Error::Refused(_) => Kind::SnapshotRefused,
            Error::Altered(_) => Kind::SourceUnavailable,
            Error::Column(_) => Kind::ColumnMissing,
            Error::PublicationRight { .. } => Kind::SourcePermission,
            Error::Password(_) => Kind::SourceAuth,
            Error::Publication(_) => Kind::PublicationMissing,
        }
    }

    /// As the session takes it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault { kind: self.kind(), message: self.to_string() }
    }
}
