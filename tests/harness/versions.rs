//! Pins, in one place, every server that the tests fetch: Maven coordinates and nothing else.

/// Apache Kafka, as published: `org.apache.kafka:kafka_2.13` and `kafka-tools`.
pub const KAFKA: &str = "4.3.0";

/// The logger that lets a broker say why it does not start.
pub const SLF4J_SIMPLE: &str = "1.7.36";

/// The Maven plugin that copies and unpacks artifacts.
pub const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// A PostgreSQL major version that the tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The oldest version supported.
    V15,
    /// The newest one.
    V18,
}

// === impl Version ===

impl Version {
    /// Every version of a full run.
    pub const ALL: [Version; 2] = [Version::V15, Version::V18];

    /// The exact release, as the artifact is numbered.
    pub fn release(self) -> &'static str {
        match self {
            Version::V15 => "15.15.0",
            Version::V18 => "18.1.0",
        }
    }

    /// The major version as PostgreSQL counts it.
    pub fn major(self) -> u32 {
        match self {
            Version::V15 => 15,
            Version::V18 => 18,
        }
    }

    /// `group:artifact:version` of the binaries for this machine.
    pub fn coordinates(self) -> String {
        let arch = if cfg!(target_arch = "aarch64") { "linux-arm64v8" } else { "linux-amd64" };
        format!("io.zonky.test.postgres:embedded-postgres-binaries-{arch}:{}", self.release())
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {}", self.release())
    }
}

/// `(group, artifact, version)` of all that a Kafka class path is resolved from.
pub fn kafka_coordinates() -> [(&'static str, &'static str, &'static str); 3] {
    [
        ("org.apache.kafka", "kafka_2.13", KAFKA),
        ("org.apache.kafka", "kafka-tools", KAFKA),
        ("org.slf4j", "slf4j-simple", SLF4J_SIMPLE),
    ]
}
