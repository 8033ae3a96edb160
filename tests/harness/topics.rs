//! Turns a topic's name and settings into a topic of a test's own, and changes or removes it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::Kafka;
use crate::wait::{secs, until};

/// How long the broker may take for one administrative request.
const LIMIT: Duration = Duration::from_secs(60);

/// A name that no other test of this process uses.
pub fn unique_topic(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

// === impl Kafka ===

impl Kafka {
    /// Creates a topic and waits until every partition has a leader. `config` holds pairs such as
    /// `("cleanup.policy", "compact")`.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        self.create_replicated_topic(name, partitions, 1, config);
    }

    /// The same with so many replicas.
    #[track_caller]
    pub fn create_replicated_topic(&self, name: &str, partitions: i32, replicas: i32, config: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topic = config.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        self.create(&[topic]);
        self.until_topic(name, |count| count == usize::try_from(partitions).unwrap_or(1));
    }

    /// Creates many topics of one partition in one request.
    #[track_caller]
    pub fn create_topics(&self, names: &[String]) {
        let topics: Vec<NewTopic<'_>> = names.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))).collect();
        self.create(&topics);
        names.last().into_iter().for_each(|name| self.until_topic(name, |count| count == 1));
    }

    /// Deletes a topic and waits until the broker denies it.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let gone = block(self.admin().delete_topics(&[name], &options())).expect("ask the broker to delete a topic");
        gone.into_iter().for_each(|r| drop(r.unwrap_or_else(|(name, e)| panic!("delete topic {name}: {e}"))));
        self.until_topic(name, |count| count == 0);
    }

    /// Raises the number of partitions.
    #[track_caller]
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let more = NewPartitions::new(name, partitions);
        let made = block(self.admin().create_partitions([&more], &options())).expect("ask the broker for more partitions");
        made.into_iter().for_each(|r| drop(r.unwrap_or_else(|(name, e)| panic!("grow topic {name}: {e}"))));
        self.until_topic(name, |count| count == partitions);
    }

    /// Replaces a topic's settings: those not named fall back to the broker's.
    #[track_caller]
    pub fn alter_topic(&self, name: &str, config: &[(&str, &str)]) {
        self.alter(ResourceSpecifier::Topic(name), config);
    }

    /// Replaces the broker's dynamic settings, such as `message.max.bytes`.
    #[track_caller]
    pub fn alter_broker(&self, config: &[(&str, &str)]) {
        self.alter(ResourceSpecifier::Broker(1), config);
    }

    /// The names of all topics, Kafka's own left out.
    #[track_caller]
    pub fn topics(&self) -> Vec<String> {
        let metadata = self.client().fetch_metadata(None, LIMIT).expect("read the broker's metadata");
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| !name.starts_with("__")).collect()
    }

    /// The topics whose names begin so, each with the end offset of its first partition.
    #[track_caller]
    pub fn end_offsets(&self, prefix: &str) -> Vec<(String, i64)> {
        let client = self.client();
        let metadata = client.fetch_metadata(None, LIMIT).expect("read the broker's metadata");
        let names = metadata.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with(prefix));
        let end = |name: &str| client.fetch_watermarks(name, 0, LIMIT).unwrap_or_else(|e| panic!("look at {name}: {e}")).1;
        names.map(|name| (name.to_owned(), end(name))).collect()
    }

    /// Where a partition ends.
    #[track_caller]
    pub fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        self.client().fetch_watermarks(topic, partition, LIMIT).unwrap_or_else(|e| panic!("look at {topic}: {e}")).1
    }

    /// Waits until a topic that another makes is there, and answers its number of partitions.
    #[track_caller]
    pub fn until_topic_exists(&self, name: &str, limit: Duration) -> usize {
        until(&format!("topic {name}"), limit, || Some(self.partitions_with_leader(name)).filter(|n| *n > 0))
    }

    /// A broker whose heartbeat came late is no place for a replica until the next one has come.
    #[track_caller]
    fn create(&self, topics: &[NewTopic<'_>]) {
        let mut left: Vec<&NewTopic<'_>> = topics.iter().collect();
        until("a broker that takes topics", LIMIT, || {
            let made =
                block(self.admin().create_topics(left.iter().copied(), &options())).expect("ask the broker to create topics");
            let refused = made.into_iter().filter_map(|made| match made {
                Ok(_) => None,
                Err((name, RDKafkaErrorCode::InvalidReplicationFactor)) => Some(name),
                Err((name, e)) => panic!("create topic {name}: {e}"),
            });
            let refused: Vec<String> = refused.collect();
            left.retain(|topic| refused.iter().any(|name| name == topic.name));
            left.is_empty().then_some(())
        });
    }

    #[track_caller]
    fn alter(&self, resource: ResourceSpecifier<'_>, config: &[(&str, &str)]) {
        let change = config.iter().fold(AlterConfig::new(resource), |change, (key, value)| change.set(key, value));
        let done = block(self.admin().alter_configs([&change], &options())).expect("ask the broker to change settings");
        done.into_iter().for_each(|r| drop(r.unwrap_or_else(|(what, e)| panic!("change settings of {what:?}: {e}"))));
        // The controller has them then; the broker follows its log, and judges records by the old ones until it has caught up.
        until(&format!("{config:?} to be in force"), LIMIT, || {
            let told = block(self.admin().describe_configs([&resource], &options())).expect("ask the broker for settings");
            let told = told.into_iter().next()?.ok()?;
            let is_told = |name: &str, value: &str| told.get(name).is_some_and(|entry| entry.value.as_deref() == Some(value));
            config.iter().all(|(name, value)| is_told(name, value)).then_some(())
        });
    }

    #[track_caller]
    fn until_topic(&self, name: &str, is_so: impl Fn(usize) -> bool) {
        until(&format!("topic {name} to be as ordered"), LIMIT, || is_so(self.partitions_with_leader(name)).then_some(()));
    }

    fn partitions_with_leader(&self, name: &str) -> usize {
        let Ok(metadata) = self.client().fetch_metadata(Some(name), secs(5)) else { return 0 };
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
        topic.map_or(0, |topic| topic.partitions().iter().filter(|p| p.leader() >= 0 && p.error().is_none()).count())
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("log_level", "0");
        config.create().expect("create a Kafka admin client")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

/// Runs one request to its end; the client's own thread does the work.
fn block<F: Future>(request: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread").block_on(request)
}
