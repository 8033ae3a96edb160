//! Everything that can go wrong between relay and a PostgreSQL server, and the kind each case belongs to.

use std::fmt;
use std::io;
use std::time::Duration;

use relay_core::Kind;

use crate::config::TargetSessionAttrs;
use crate::message::tag_text;
use crate::server_error::ServerError;

/// Why a connection could not be made, or broke. No text of it ever holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL, or a file that it names.
    #[error("{parameter}: {reason}")]
    Config {
        /// The part or parameter of the URL.
        parameter: String,
        /// What is wrong with it; without the value where that may hold a secret.
        reason: String,
    },
    /// A host name has no address.
    #[error("resolve host `{host}`: {source}")]
    Resolve {
        /// The name as configured.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody answers at an address.
    #[error("connect to {address}: {source}")]
    Unreachable {
        /// Host, port and address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server took the connection but did not finish the start-up in time.
    #[error("{address} did not finish the start-up within {seconds} s")]
    StartupTimeout {
        /// Host, port and address.
        address: String,
        /// The limit.
        seconds: u64,
    },
    /// A statement was not answered within the query timeout; the connection is unusable since.
    #[error("no answer to a statement within {0:?}")]
    QueryTimeout(Duration),
    /// TLS failed, or the server's certificate is not as `sslmode` asks.
    #[error("TLS with `{host}`: {reason}")]
    Tls {
        /// The host as configured.
        host: String,
        /// What failed.
        reason: String,
    },
    /// Authentication was not possible the way the configuration demands, or the server failed its own part.
    #[error("{0}")]
    Auth(String),
    /// A connection pooler refused the start-up.
    #[error(
        "a connection pooler answered in the server's place and refused the start-up ({0}); a replication connection must go \
         to the PostgreSQL server itself"
    )]
    Pooler(String),
    /// The server's own words.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The server is not in the state that `target_session_attrs` asks for.
    #[error("{address} is not {wanted} (target_session_attrs)")]
    WrongSession {
        /// Host, port and address.
        address: String,
        /// What was asked for.
        wanted: TargetSessionAttrs,
    },
    /// Several addresses, and none of them would do.
    #[error("no host of {} addresses can be used: {}", .0.len(), listed(.0))]
    NoHost(Vec<Attempt>),
    /// A message that has no place here.
    #[error("unexpected message {} from the server while {during}", tag_text(*.tag))]
    UnexpectedMessage {
        /// Its tag.
        tag: u8,
        /// The phase of the conversation.
        during: &'static str,
    },
    /// A message longer than the limit, where it cannot be skipped.
    #[error("message {} of {length} bytes is longer than {limit}", tag_text(*.tag))]
    MessageTooLong {
        /// Its tag.
        tag: u8,
        /// Announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes that are not the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
    /// A column's text is not UTF-8 (possible only in a SQL_ASCII database).
    #[error("column `{column}` of a query is not UTF-8")]
    NotUtf8 {
        /// The column's name.
        column: String,
    },
    /// The caller asked for something that cannot be sent.
    #[error("{0}")]
    Unsendable(&'static str),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The server closed the connection without a word.
    #[error("the server closed the connection")]
    Closed,
}

/// One address that was tried, and why it would not do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Host, port and address.
    pub address: String,
    /// What went wrong there.
    pub error: Error,
}

// === impl Error ===

impl Error {
    /// The kind, for the policy table.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Config { .. } => Kind::ConfigValue,
            Error::Resolve { .. } | Error::Unreachable { .. } | Error::StartupTimeout { .. } => Kind::SourceUnreachable,
            Error::QueryTimeout(_) => Kind::SourceSilent,
            Error::Tls { .. } => Kind::SourceTls,
            Error::Auth(_) => Kind::SourceAuth,
            Error::Pooler(_) => Kind::SourcePooler,
            Error::Server(error) => error.kind(),
            Error::WrongSession { .. } => Kind::SourceUnavailable,
            // The address that answered says more than the one that did not.
            Error::NoHost(attempts) => attempts
                .iter()
                .map(|attempt| attempt.error.kind())
                .find(|kind| *kind != Kind::SourceUnreachable)
                .unwrap_or(Kind::SourceUnreachable),
            Error::UnexpectedMessage { .. } | Error::MessageTooLong { .. } | Error::Protocol(_) => Kind::SourceProtocol,
            Error::NotUtf8 { .. } => Kind::SourceProtocol,
            Error::Unsendable(_) => Kind::Internal,
            Error::Lost(_) | Error::Closed => Kind::SourceLost,
        }
    }

    /// The server's error, if it is one.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Error::Server(error) => Some(error),
            Error::NoHost(attempts) => attempts.iter().find_map(|attempt| attempt.error.server()),
            _ => None,
        }
    }

    /// SQLSTATE of the server's error, if it is one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    pub(crate) fn config(parameter: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Config { parameter: parameter.into(), reason: reason.into() }
    }

    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Error::Protocol(text.into())
    }

    /// An ErrorResponse body; a pooler's refusal is told from a server's error here.
    pub(crate) fn from_response(body: &[u8]) -> Self {
        let error = ServerError::parse(body);
        match error.kind() {
            Kind::SourcePooler => Error::Pooler(error.message),
            _ => Error::Server(Box::new(error)),
        }
    }
}

fn listed(attempts: &[Attempt]) -> String {
    let texts: Vec<String> = attempts.iter().map(Attempt::to_string).collect();
    texts.join("; ")
}

// === impl Attempt ===

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            // These name the address themselves.
            Error::Unreachable { .. } | Error::StartupTimeout { .. } | Error::WrongSession { .. } | Error::Resolve { .. } => {
                self.error.fmt(f)
            }
            error => write!(f, "{}: {error}", self.address),
        }
    }
}
