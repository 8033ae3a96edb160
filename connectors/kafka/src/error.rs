//! What can go wrong when the sink is built or asked, with the kind that the policy table knows.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use relay_core::Kind;
use relay_core::window::FailureKind;
use std::path::PathBuf;

/// An error of this crate. No text of it holds a secret or row data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting that cannot work.
    #[error("{key}: {text}")]
    Config {
        /// The setting, as it stands in the file.
        key: String,
        /// What is wrong with it.
        text: String,
    },
    /// A file that a setting names cannot be read.
    #[error("read {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// librdkafka or the system refused to start the client.
    #[error("start the Kafka client: {0}")]
    Client(String),
    /// No broker answers.
    #[error("{0}")]
    Unreachable(String),
    /// User, password, token or certificate are refused.
    #[error("{0}")]
    Auth(String),
    /// An ACL is missing.
    #[error("{0}")]
    Denied(String),
    /// The producer failed for good.
    #[error("{0}")]
    Fatal(String),
    /// Another instance owns the destination.
    #[error("{0}")]
    Fenced(String),
}

// === impl Error ===

impl Error {
    /// The row of the policy table.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Config { .. } => Kind::ConfigValue,
            Error::File { .. } => Kind::ConfigFile,
            Error::Client(_) | Error::Fatal(_) => Kind::SinkFatal,
            Error::Unreachable(_) => Kind::SinkUnreachable,
            Error::Auth(_) => Kind::SinkAuth,
            Error::Denied(_) => Kind::SinkPermission,
            Error::Fenced(_) => Kind::Fenced,
        }
    }

    /// Whether this error says more about the cause than `other`: a refused login ends in broken connections too.
    pub(crate) fn explains(&self, other: &Error) -> bool {
        matches!(self, Error::Auth(_) | Error::Denied(_)) && matches!(other, Error::Unreachable(_))
    }

    /// An error that the client reported without being asked.
    pub(crate) fn global(code: Option<RDKafkaErrorCode>, reason: &str) -> Self {
        use RDKafkaErrorCode as Code;
        // librdkafka ends its texts with how long it took, which would make each of them news.
        let text = reason.split(" (after ").next().unwrap_or(reason).to_owned();
        match code {
            Some(Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
                Error::Auth(text)
            }
            Some(
                Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::TransactionalIdAuthorizationFailed,
            ) => Error::Denied(text),
            Some(Code::Fatal) => Error::Fatal(text),
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => Error::Fenced(text),
            _ => Error::Unreachable(text),
        }
    }
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        match error {
            // The value is left out: it may be a secret.
            KafkaError::ClientConfig(_, message, key, _) => {
                Error::Config { key: format!("sink.kafka.properties.\"{key}\""), text: message }
            }
            KafkaError::ClientCreation(message) => Error::Client(message),
            other => match other.rdkafka_error_code() {
                Some(code) => Error::global(Some(code), &other.to_string()),
                None => Error::Client(other.to_string()),
            },
        }
    }
}

/// Whether a code means that an ACL is missing or a login refused.
pub(crate) fn is_denied(code: RDKafkaErrorCode) -> bool {
    classify(code) == FailureKind::Denied
}

/// The class of a failed delivery (kafka.md, section 7). Anything unknown is transient: a second try can do no harm.
pub(crate) fn classify(code: RDKafkaErrorCode) -> FailureKind {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidMessage
        | Code::UnsupportedForMessageFormat
        | Code::PolicyViolation => FailureKind::Rejected,
        Code::PurgeQueue | Code::PurgeInflight => FailureKind::Purged,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            FailureKind::UnknownTopic
        }
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => FailureKind::Denied,
        Code::Fatal | Code::OutOfOrderSequenceNumber | Code::UnknownProducerId | Code::InvalidProducerIdMapping => {
            FailureKind::Fatal
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => FailureKind::Fenced,
        _ => FailureKind::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_errors_fall_into_the_classes_of_section_7() {
        use RDKafkaErrorCode as Code;
        let cases = [
            (Code::MessageSizeTooLarge, FailureKind::Rejected),
            (Code::InvalidTimestamp, FailureKind::Rejected),
            (Code::InvalidRecord, FailureKind::Rejected),
            (Code::PurgeQueue, FailureKind::Purged),
            (Code::PurgeInflight, FailureKind::Purged),
            (Code::UnknownTopic, FailureKind::UnknownTopic),
            (Code::MessageTimedOut, FailureKind::Transient),
            (Code::KafkaStorageError, FailureKind::Transient),
            (Code::TopicAuthorizationFailed, FailureKind::Denied),
            (Code::UnknownProducerId, FailureKind::Fatal),
            (Code::Fenced, FailureKind::Fenced),
        ];
        for (code, kind) in cases {
            assert_eq!(classify(code), kind, "{code:?}");
        }
    }

    #[test]
    fn a_refused_property_never_shows_its_value() {
        let error = rdkafka::ClientConfig::new()
            .set("sasl.passwordx", "hunter2")
            .create_native_config()
            .map(|_| ())
            .expect_err("unknown");
        let error = Error::from(error);
        assert_eq!(error.kind(), Kind::ConfigValue);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
