//! A Kafka of librdkafka's own inside this process, for `relay demo` and for tests; it keeps nothing and checks little.

use crate::error::Error;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

/// A mock cluster on loopback; gone when dropped. It does not create topics by itself: make them here, before anyone asks.
pub struct Mock {
    /// The cluster lives inside this client, which is used for nothing else.
    host: BaseProducer<Silent>,
    brokers: i32,
}

struct Silent;

// === impl Mock ===

impl Mock {
    /// Starts a cluster of that many brokers.
    ///
    /// # Errors
    /// When librdkafka cannot open its sockets.
    pub fn start(brokers: u8) -> Result<Self, Error> {
        let brokers = i32::from(brokers.max(1));
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", brokers.to_string()).set_log_level(RDKafkaLogLevel::Error);
        Ok(Self { host: BaseProducer::from_config_and_context(&config, Silent)?, brokers })
    }

    /// What goes into `sink.kafka.brokers`.
    ///
    /// # Errors
    /// When the cluster has gone.
    pub fn bootstrap_servers(&self) -> Result<String, Error> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When the cluster refuses, for instance because it exists.
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<(), Error> {
        Ok(self.cluster()?.create_topic(name, i32::from(partitions), self.brokers.min(3))?)
    }

    /// The cluster itself, for injected errors.
    pub(crate) fn cluster(&self) -> Result<MockCluster<'_, impl ClientContext>, Error> {
        self.host.client().mock_cluster().ok_or_else(|| Error::Client("the mock cluster is gone".to_owned()))
    }
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mock").field("brokers", &self.brokers).finish()
    }
}

// === impl Silent ===

impl ClientContext for Silent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::trace!(target: "librdkafka", ?level, facility, "mock cluster: {message}");
    }
}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
