//! Turns settings into the servers and programs of a run, and topic names into fresh topics.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use relay_tests::{Kafka, Postgres, secs};

use crate::settings::Settings;
use crate::{producer, recvlogical};

/// What every contender needs. Gone on drop.
pub(crate) struct Servers {
    /// The source.
    pub(crate) db: Postgres,
    /// The destination.
    pub(crate) kafka: Kafka,
    /// The broker's process.
    pub(crate) broker_pid: u32,
    /// A release build of relay.
    pub(crate) relay: PathBuf,
    /// PostgreSQL's own client.
    pub(crate) recvlogical: PathBuf,
}

/// Records that let the broker's compiler do its work before anything is measured.
const WARM_UP: u64 = 200_000;

// === impl Servers ===

impl Servers {
    /// Finds the programs first, so that a missing one is told at once; then starts the servers and warms the broker up.
    pub(crate) fn start(settings: &Settings) -> Result<Servers, String> {
        let recvlogical = recvlogical::find()?;
        // The harness builds in the profile of this program, which is release under `cargo bench`.
        let relay = settings.binary.clone().unwrap_or_else(|| relay_tests::relay::binary(&[]));
        if relay_tests::relay::has_failpoints(&relay) {
            return Err(format!("{} has failpoints: a release has none, and they cost time", relay.display()));
        }
        let db = Postgres::builder(settings.version)
            .setting("autovacuum", "off")
            .setting("max_wal_size", "16GB")
            .setting("checkpoint_timeout", "1h")
            .setting("log_min_messages", "warning")
            .setting("log_replication_commands", "off")
            .start();
        db.prepare_roles();
        let mut kafka = Kafka::builder().for_load().start();
        let broker_pid = kafka.process().pid();
        let servers = Servers { db, kafka, broker_pid, relay, recvlogical };
        servers.fresh_topic("warm-up", 4);
        producer::run(&servers, None, "warm-up", WARM_UP.min(settings.rows))?;
        servers.kafka.delete_topic("warm-up");
        Ok(servers)
    }

    /// An empty topic of a name, whatever was there before.
    pub(crate) fn fresh_topic(&self, name: &str, partitions: i32) {
        if self.kafka.topics().iter().any(|topic| topic == name) {
            self.kafka.delete_topic(name);
            // The broker removes the files a second later; that must not fall into a measurement.
            std::thread::sleep(Duration::from_millis(1_500));
        }
        self.kafka.create_topic(name, partitions, &[]);
    }

    /// Those of some topics that are not there yet, with one partition each, in few requests.
    pub(crate) fn create_missing(&self, names: &[String]) -> Result<(), String> {
        let known = self.kafka.topics();
        let missing: Vec<&String> = names.iter().filter(|name| !known.contains(name)).collect();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.brokers()).set("log_level", "0");
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(|e| format!("create an admin client: {e}"))?;
        let options = AdminOptions::new().request_timeout(Some(secs(60))).operation_timeout(Some(secs(60)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| format!("make a runtime: {e}"))?;
        for part in missing.chunks(250) {
            let topics: Vec<NewTopic<'_>> = part.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))).collect();
            let made = runtime.block_on(admin.create_topics(&topics, &options)).map_err(|e| format!("create topics: {e}"))?;
            made.into_iter().try_for_each(|result| result.map(drop).map_err(|(name, e)| format!("create topic {name}: {e}")))?;
        }
        Ok(())
    }
}
