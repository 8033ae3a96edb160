//! Turns `[sink]` and everything under `[sink.kafka]` into where events go.

use super::field::{Commas, Entries};
use super::schema::{Initial::Empty, Initial::Nested, choice, flag, list, number, table, text, unset};
use super::secret::Secret;
use super::source_log::Create;

choice! {
    /// Where events go.
    enum SinkKind {
        /// Kafka.
        Kafka = "kafka",
        /// Standard output, one line an event.
        Stdout = "stdout",
    }
}

choice! {
    /// How a key chooses its partition, under librdkafka's names.
    enum Partitioner {
        /// Java's placement.
        Murmur2 = "murmur2_random",
        /// CRC32, as librdkafka's own default.
        Consistent = "consistent_random",
        /// FNV-1a.
        Fnv1a = "fnv1a_random",
    }
}

choice! {
    /// The listener's protocol, under Kafka's names.
    enum SecurityProtocol {
        /// Neither TLS nor SASL.
        Plaintext = "plaintext",
        /// TLS.
        Ssl = "ssl",
        /// SASL without TLS.
        SaslPlaintext = "sasl_plaintext",
        /// SASL over TLS.
        SaslSsl = "sasl_ssl",
    }
}

choice! {
    /// The SASL mechanism, under Kafka's names.
    enum Mechanism {
        /// No SASL.
        None = "",
        /// User and password in the clear.
        Plain = "PLAIN",
        /// Salted challenge, SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// Salted challenge, SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
        /// A token.
        Oauthbearer = "OAUTHBEARER",
    }
}

table! {
    /// Where events go.
    struct Sink {
        /// `stdout` prints one line an event and keeps no checkpoint, so that the slot's confirmed position is used:
        /// at-least-once, `on_poison` `stop` or `skip`.
        kind: SinkKind = text("kafka"),
        /// Kafka.
        kafka: Kafka = Nested,
    }
}

table! {
    /// The Kafka cluster and its topics.
    struct Kafka {
        /// Where to connect first: comma separated, or a list.
        brokers: Commas = text("localhost:9092"),
        /// Whether relay creates a topic that does not exist.
        create_topics: Create = text("if-missing"),
        /// For topics relay creates; -1 = broker default.
        partitions: i32 = number(-1),
        /// For topics relay creates; -1 = broker default.
        replication_factor: i32 = number(-1),
        /// `murmur2_random` is Java's placement.
        partitioner: Partitioner = text("murmur2_random"),
        /// Globs that a topic taken from row data must match; `[]` = any legal name.
        allowed_topics: Vec<String> = list(&[]),
        /// Distinct topics; beyond = poison policy.
        max_topics: u32 = number(2000),
        /// Lifts the refusal of properties, with a permanent warning.
        is_unsafe as "unsafe": bool = flag(false),
        /// TLS and SASL.
        security: Security = Nested,
        /// Any librdkafka property, quoted; those that would break a promise are refused by name.
        properties: Entries = Empty,
    }
}

table! {
    /// TLS and SASL of the Kafka connection.
    struct Security {
        /// The listener's protocol.
        protocol: SecurityProtocol = text("plaintext"),
        /// The SASL mechanism; `""` = none.
        mechanism: Mechanism = text(""),
        /// SASL user.
        username: String = text(""),
        /// SASL password.
        password: Option<Secret> = unset("none"),
        /// PEM file with the certificates of the authorities to trust.
        ca_file: Option<String> = unset("the system's"),
        /// PEM file with relay's own certificate.
        certificate_file: Option<String> = unset("none"),
        /// PEM file with the key of that certificate.
        key_file: Option<String> = unset("none"),
        /// For an encrypted `key_file`.
        key_password: Option<Secret> = unset("none"),
        /// OAUTHBEARER token (JWT), read again at each refresh before its `exp`.
        token: Option<Secret> = unset("none"),
        /// SASL PLAIN without TLS.
        allow_plaintext_password: bool = flag(false),
    }
}
