//! Looks at a cluster before or beside a running pipeline, and says what would not work and how to cure it.

use crate::config::Config;
use crate::error::Error;
use crate::limits::is_compacted;
use crate::native::{self, Described};
use crate::reader::{Listener, TopicReader};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use relay_core::checkpoint::ReadError;
use std::collections::HashMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `KF001` to `KF012`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub observed: String,
    /// Why it is so; empty when all is well.
    pub cause: String,
    /// What it leads to; empty when all is well.
    pub effect: String,
    /// The cure, to paste where possible; empty when all is well.
    pub fix: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Skip,
    /// Works, with a risk.
    Warn,
    /// Does not work.
    Fail,
}

/// A cluster as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Host and port that each broker gives out, by broker id.
    pub listeners: Vec<(i32, String)>,
}

/// What is known of one topic.
struct Seen {
    code: Code,
    partitions: usize,
    replicas: usize,
}

struct Examination<'a> {
    config: &'a Config,
    consumer: BaseConsumer<Listener>,
    metadata: Metadata,
    findings: Vec<Finding>,
}

/// Where brokers keep the states of transactions.
const TRANSACTION_LOG: &str = "__transaction_state";
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a broker for the cluster's members: the quick question whether anyone is there.
///
/// # Errors
/// Why nobody answered within `timeout`.
pub fn probe(config: &Config, timeout: Duration) -> Result<Cluster, Error> {
    let (_, metadata) = connect(config, timeout)?;
    Ok(Cluster { listeners: listeners(&metadata) })
}

/// Runs KF001, KF002, KF003, KF009 and KF012 for the topics that the configuration names, and for relay's own.
#[must_use]
pub fn examine(config: &Config, topics: &[String]) -> Vec<Finding> {
    let (consumer, metadata) = match connect(config, METADATA_TIMEOUT) {
        Ok(connected) => connected,
        Err(error) => return unreachable(config, &error),
    };
    let mut examination = Examination { config, consumer, metadata, findings: Vec::new() };
    examination.listeners();
    examination.targets(topics);
    examination.brokers();
    examination.own(&config.checkpoint_topic, true);
    if let Some(dlq) = &config.dlq_topic {
        examination.own(dlq, false);
    }
    examination.transactions();
    examination.findings
}

fn connect(config: &Config, timeout: Duration) -> Result<(BaseConsumer<Listener>, Metadata), Error> {
    let mut client = config.base()?;
    client.set("group.id", format!("relay-{}", config.name));
    let consumer = BaseConsumer::from_config_and_context(&client, Listener::new(&config.security))?;
    let deadline = Instant::now() + timeout;
    loop {
        // Errors, log lines and token requests are served by polling.
        let _ = consumer.poll(Duration::ZERO);
        let slice = Duration::from_millis(500).min(timeout);
        match consumer.fetch_metadata(Some(&config.checkpoint_topic), slice) {
            Ok(metadata) => return Ok((consumer, metadata)),
            Err(error) => {
                let _ = consumer.poll(Duration::ZERO);
                match consumer.context().last_error() {
                    Some(cause @ (Error::Auth(_) | Error::Denied(_))) => return Err(cause),
                    Some(cause) if Instant::now() >= deadline => return Err(cause),
                    None if Instant::now() >= deadline => return Err(Error::Unreachable(format!("no broker answers: {error}"))),
                    _ => {}
                }
            }
        }
    }
}

fn listeners(metadata: &Metadata) -> Vec<(i32, String)> {
    metadata.brokers().iter().map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port()))).collect()
}

fn unreachable(config: &Config, error: &Error) -> Vec<Finding> {
    let skip = |id| Finding::skip(id, "not looked at: no broker lets relay in");
    let brokers = config.brokers.join(", ");
    if matches!(error, Error::Auth(_) | Error::Denied(_)) {
        let fail = Finding {
            id: "KF002",
            severity: Severity::Fail,
            observed: error.to_string(),
            cause: "the broker refuses relay's credentials or certificate, or relay refuses the broker's".to_owned(),
            effect: "nothing can be published".to_owned(),
            fix: "compare [sink.kafka.security] with the broker's listener: protocol, mechanism, user, ca_file".to_owned(),
        };
        let reached = Finding::ok("KF001", format!("{brokers} can be reached"));
        return vec![reached, fail, skip("KF003"), skip("KF009"), skip("KF012")];
    }
    let fail = Finding {
        id: "KF001",
        severity: Severity::Fail,
        observed: format!("{brokers}: {error}"),
        cause: "name resolution, firewall, a broker that is down, or TLS on one side only".to_owned(),
        effect: "nothing can be published".to_owned(),
        fix: "set sink.kafka.brokers to a listener that this host can reach, and security.protocol to what it speaks".to_owned(),
    };
    vec![fail, skip("KF002"), skip("KF003"), skip("KF009"), skip("KF012")]
}

// === impl Examination ===

impl Examination<'_> {
    /// KF001: whoever answers first also tells clients where to go next; those addresses must work from here.
    fn listeners(&mut self) {
        let listeners = listeners(&self.metadata);
        let mut all_good = true;
        for (id, listener) in &listeners {
            if let Err(message) = dial(listener) {
                all_good = false;
                self.findings.push(Finding {
                    id: "KF001",
                    severity: Severity::Fail,
                    observed: format!("broker {id} gives out {listener}: {message}"),
                    cause: "advertised.listeners names an address that this host cannot resolve or reach".to_owned(),
                    effect: "partitions that this broker leads cannot be written".to_owned(),
                    fix: format!("make {listener} reachable from here, or correct advertised.listeners of broker {id}"),
                });
            }
        }
        if all_good {
            let list: Vec<_> = listeners.into_iter().map(|(_, listener)| listener).collect();
            self.findings.push(Finding::ok("KF001", format!("{} brokers can be reached: {}", list.len(), list.join(", "))));
        }
    }

    /// KF002 and KF003 for the topics that events go to.
    fn targets(&mut self, topics: &[String]) {
        let seen: Vec<_> = topics.iter().map(|topic| (topic.as_str(), self.see(topic))).collect();
        let existing: Vec<&str> = seen.iter().filter(|(_, seen)| seen.code == Code::NoError).map(|(topic, _)| *topic).collect();
        let described = self.describe(&existing);
        let mut is_allowed = true;
        for (topic, seen) in &seen {
            match seen.code {
                Code::NoError => {
                    let settings = described.get(*topic);
                    if let Some(Err(refused)) = settings {
                        self.findings.push(Finding {
                            id: "KF002",
                            severity: Severity::Warn,
                            observed: format!("the settings of topic {topic} cannot be read: {}", refused.message),
                            cause: "DESCRIBE_CONFIGS is missing".to_owned(),
                            effect: "Kafka's defaults are assumed; a record past the topic's own limits fails its whole batch"
                                .to_owned(),
                            fix: acl(self.config, "DescribeConfigs", topic),
                        });
                    }
                    self.findings.push(safety(topic, seen, settings));
                }
                Code::TopicAuthorizationFailed => {
                    is_allowed = false;
                    self.findings.push(Finding {
                        id: "KF002",
                        severity: Severity::Fail,
                        observed: format!("topic {topic}: {}", seen.code),
                        cause: "DESCRIBE or WRITE is missing".to_owned(),
                        effect: "events for this topic wait, and everything behind them".to_owned(),
                        fix: acl(self.config, "Write", topic),
                    });
                }
                _ => self.findings.push(self.missing(topic, seen.code)),
            }
        }
        if is_allowed {
            let observed = "relay is let in; whether it may write shows only with the first record".to_owned();
            self.findings.push(Finding::ok("KF002", observed));
        }
    }

    fn missing(&self, topic: &str, code: Code) -> Finding {
        if self.config.creation().is_allowed && code == Code::UnknownTopicOrPartition {
            return Finding::ok("KF003", format!("topic {topic} does not exist; relay will create it"));
        }
        Finding {
            id: "KF003",
            severity: Severity::Fail,
            observed: format!("topic {topic}: {code}"),
            cause: "it does not exist, and sink.kafka.create_topics is \"never\"".to_owned(),
            effect: "its first event waits, and everything behind it".to_owned(),
            fix: format!("kafka-topics.sh --create --topic {topic} --replication-factor 3 --config min.insync.replicas=2"),
        }
    }

    /// KF003: how many losses the cluster survives.
    fn brokers(&mut self) {
        let count = self.metadata.brokers().len();
        self.findings.push(if count >= 3 {
            Finding::ok("KF003", format!("{count} brokers"))
        } else {
            Finding {
                id: "KF003",
                severity: Severity::Warn,
                observed: format!("{count} brokers"),
                cause: "fewer than 3 brokers cannot keep 3 replicas".to_owned(),
                effect: "one lost disk can lose events that were acknowledged, and the checkpoint".to_owned(),
                fix: "use a cluster of 3 brokers or more in production".to_owned(),
            }
        });
    }

    /// KF009: a topic of relay's own.
    fn own(&mut self, topic: &str, is_checkpoint: bool) {
        let seen = self.see(topic);
        if seen.code == Code::UnknownTopicOrPartition {
            let finding = Finding { id: "KF009", ..self.missing(topic, seen.code) };
            self.findings.push(finding);
            return;
        }
        let fail = |observed: String, cause: &str, fix: String| Finding {
            id: "KF009",
            severity: Severity::Fail,
            observed,
            cause: cause.to_owned(),
            effect: "relay would not know where to go on after a restart".to_owned(),
            fix,
        };
        if seen.code != Code::NoError {
            let fix = acl(self.config, "Read", topic);
            self.findings.push(fail(format!("topic {topic}: {}", seen.code), "READ, WRITE or DESCRIBE is missing", fix));
            return;
        }
        let described = self.describe(&[topic]);
        let policy = described
            .get(topic)
            .and_then(|described| described.as_ref().ok())
            .and_then(|settings| settings.get("cleanup.policy"));
        if let Some(policy) = policy.filter(|policy| !is_compacted(policy)) {
            let fix = format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact");
            self.findings.push(fail(format!("topic {topic}: cleanup.policy = {policy}"), "records are deleted by age", fix));
            return;
        }
        if seen.partitions != 1 {
            let fix = format!("delete topic {topic} while relay is stopped and has nothing to resume, or name another one");
            self.findings.push(fail(
                format!("topic {topic} has {} partitions", seen.partitions),
                "order holds in one partition only",
                fix,
            ));
            return;
        }
        match TopicReader::new(self.config.clone(), topic).read() {
            Err(error) => {
                let cause = if matches!(error, ReadError::Denied(_)) { "READ is missing" } else { "the topic cannot be read" };
                self.findings.push(fail(error.to_string(), cause, acl(self.config, "Read", topic)));
            }
            Ok(stored) => {
                let name = self.config.name.as_bytes();
                let foreign = stored.iter().find(|stored| stored.key.split(|&byte| byte == b'/').next() != Some(name));
                if let Some(foreign) = foreign.filter(|_| is_checkpoint) {
                    let observed = format!("topic {topic} also holds `{}`", String::from_utf8_lossy(&foreign.key).escape_debug());
                    let fix = "give each pipeline a delivery.checkpoint_topic of its own".to_owned();
                    self.findings.push(fail(observed, "another pipeline writes its checkpoint here", fix));
                    return;
                }
                let policy = if policy.is_some() { "compacted" } else { "whether it is compacted cannot be seen" };
                let observed =
                    format!("topic {topic}: 1 partition, {} replicas, {policy}, {} records", seen.replicas, stored.len());
                self.findings.push(Finding::ok("KF009", observed));
                if seen.replicas < 3 && self.metadata.brokers().len() >= 3 {
                    self.findings.push(Finding { id: "KF009", ..few_replicas(topic, &format!("{} replicas", seen.replicas)) });
                }
            }
        }
    }

    /// KF012: what Kafka's transactions rest on.
    fn transactions(&mut self) {
        if !self.config.is_exactly_once {
            self.findings.push(Finding::skip("KF012", "delivery.guarantee is at-least-once, which needs no transactions"));
            return;
        }
        let wanted = match self.config.bounds() {
            Ok(bounds) => bounds.transaction,
            Err(error) => {
                self.findings.push(Finding::skip("KF012", &error.to_string()));
                return;
            }
        };
        let warn = |observed: String, cause: &str, effect: &str, fix: String| Finding {
            id: "KF012",
            severity: Severity::Warn,
            observed,
            cause: cause.to_owned(),
            effect: effect.to_owned(),
            fix,
        };
        let log = self.see(TRANSACTION_LOG);
        let before = self.findings.len();
        // It comes with the first transaction of a cluster.
        if log.code == Code::NoError && log.replicas < 3 {
            self.findings.push(warn(
                format!("{TRANSACTION_LOG} has {} replicas", log.replicas),
                "the log of transactions is lost with one broker",
                "commits wait for that broker, and what was committed may come to be unknown",
                "transaction.state.log.replication.factor=3 before the first transaction, or kafka-reassign-partitions.sh"
                    .to_owned(),
            ));
        }
        let broker = self.metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id);
        let settings = match broker {
            Some(id) if native::has_controller(self.consumer.client(), &self.metadata) => {
                native::describe_broker(self.consumer.client(), id, DESCRIBE_TIMEOUT)
            }
            _ => Err(native::no_controller()),
        };
        let longest = settings.map(|settings| {
            settings.get("transaction.max.timeout.ms").and_then(|value| value.parse().ok()).map(Duration::from_millis)
        });
        match longest {
            Ok(Some(longest)) if longest < wanted => self.findings.push(Finding {
                severity: Severity::Fail,
                ..warn(
                    format!("transaction.max.timeout.ms is {} ms", longest.as_millis()),
                    "the brokers refuse a longer transaction.timeout.ms than this",
                    "relay cannot begin a transaction",
                    format!("raise it to {} ms or more on every broker", wanted.as_millis()),
                )
            }),
            Err(refused) => {
                let observed = format!("the brokers' settings cannot be read: {}", refused.message);
                self.findings.push(Finding::skip("KF012", &observed));
            }
            Ok(_) => {}
        }
        if self.findings.len() == before {
            let log = match log.code {
                Code::NoError => format!("their log has {} replicas", log.replicas),
                _ => "their log comes with the first one".to_owned(),
            };
            self.findings.push(Finding::ok("KF012", format!("transactions of up to {} s, and {log}", wanted.as_secs())));
        }
    }

    fn see(&self, topic: &str) -> Seen {
        let unknown = |code| Seen { code, partitions: 0, replicas: 0 };
        match self.consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT) {
            Err(error) => unknown(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
            Ok(metadata) => metadata.topics().first().map_or_else(
                || unknown(Code::UnknownTopicOrPartition),
                |topic| Seen {
                    code: topic.error().map_or(Code::NoError, Code::from),
                    partitions: topic.partitions().len(),
                    replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
                },
            ),
        }
    }

    fn describe(&self, topics: &[&str]) -> HashMap<String, Described> {
        if topics.is_empty() {
            return HashMap::new();
        }
        let answers = if native::has_controller(self.consumer.client(), &self.metadata) {
            native::describe_topics(self.consumer.client(), topics, DESCRIBE_TIMEOUT)
        } else {
            Err(native::no_controller())
        };
        answers.unwrap_or_else(|refused| topics.iter().map(|topic| ((*topic).to_owned(), Err(refused.clone()))).collect())
    }
}

/// KF003: replicas of one topic against what acks=all means there.
fn safety(topic: &str, seen: &Seen, settings: Option<&Described>) -> Finding {
    let setting = |name: &str| settings.and_then(|settings| settings.as_ref().ok()).and_then(|settings| settings.get(name));
    let min_insync: Option<usize> = setting("min.insync.replicas").and_then(|value| value.parse().ok());
    let shown = min_insync.map_or("unknown".to_owned(), |count| count.to_string());
    let observed = format!("{} partitions, {} replicas, min.insync.replicas {shown}", seen.partitions, seen.replicas);
    if seen.replicas < 3 || min_insync.is_some_and(|count| count < 2) {
        return few_replicas(topic, &observed);
    }
    if setting("unclean.leader.election.enable").is_some_and(|value| value == "true") {
        return Finding {
            id: "KF003",
            severity: Severity::Warn,
            observed: format!("topic {topic}: unclean.leader.election.enable = true"),
            cause: "a replica that lags may become leader".to_owned(),
            effect: "events that were acknowledged can be lost".to_owned(),
            fix: format!("kafka-configs.sh --alter --topic {topic} --add-config unclean.leader.election.enable=false"),
        };
    }
    Finding::ok("KF003", format!("topic {topic}: {observed}"))
}

fn few_replicas(topic: &str, observed: &str) -> Finding {
    Finding {
        id: "KF003",
        severity: Severity::Warn,
        observed: format!("topic {topic}: {observed}"),
        cause: "acks=all waits for the in-sync replicas, however few those are".to_owned(),
        effect: "an acknowledged event can be lost together with one broker".to_owned(),
        fix: format!("3 replicas, and kafka-configs.sh --alter --topic {topic} --add-config min.insync.replicas=2"),
    }
}

fn acl(config: &Config, operation: &str, topic: &str) -> String {
    let user = if config.security.username.is_empty() { "relay" } else { &config.security.username };
    format!("kafka-acls.sh --add --allow-principal User:{user} --operation {operation} --operation Describe --topic {topic}")
}

fn dial(listener: &str) -> Result<(), String> {
    let addresses: Vec<_> = listener.to_socket_addrs().map_err(|error| format!("does not resolve: {error}"))?.collect();
    let mut last = "does not resolve to any address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("connect to {address}: {error}"),
        }
    }
    Err(last)
}

// === impl Finding ===

impl Finding {
    fn ok(id: &'static str, observed: String) -> Self {
        Self { id, severity: Severity::Ok, observed, cause: String::new(), effect: String::new(), fix: String::new() }
    }

    fn skip(id: &'static str, observed: &str) -> Self {
        Self { severity: Severity::Skip, ..Self::ok(id, observed.to_owned()) }
    }
}

// === impl Severity ===

impl Severity {
    /// As `doctor --json` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Skip => "skip",
            Severity::Warn => "warn",
            Severity::Fail => "fail",
        }
    }
}
