//! The admin thread: turns a topic's name into what is known of it, creates what is missing, and looks again from time to time.

use crate::error::Error;
use crate::health::Health;
use crate::native::{self, NewTopic, Refused};
use crate::producer::{Current, Producer};
use crate::topics::{Role, State, Topic};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use relay_core::window::FailureKind;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What the admin thread is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A topic that nobody has asked about yet.
    Topic(Arc<Topic>),
    /// A delivery failed in a way that puts in doubt what is known of the topic.
    Again { topic: String, kind: FailureKind, message: String },
    /// Read the limits of every topic again.
    Refresh,
    /// A client that is no longer used: ending it may take a moment.
    Retire(Box<dyn std::fmt::Debug + Send>),
    /// The sink is gone.
    Stop,
}

/// Settings of the topics that relay creates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creation {
    pub(crate) is_allowed: bool,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i32,
}

/// The state of the admin thread.
#[derive(Debug)]
pub(crate) struct Lookup {
    current: Arc<Current>,
    health: Arc<Health>,
    creation: Creation,
    topics: HashMap<Box<str>, Watched>,
    /// Until when DescribeConfigs is not tried: there was no answer.
    silent_until: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    topic: Arc<Topic>,
    due: Instant,
    /// Fruitless attempts in a row.
    attempts: u32,
    has_warned: bool,
    is_denied: bool,
}

/// How often what is known is looked up again.
const REFRESH: Duration = Duration::from_secs(300);
/// How long after no answer the next question waits.
const SILENCE: Duration = Duration::from_secs(60);
/// How many topics one administrative request is about.
const AT_ONCE: usize = 100;
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

// === impl Lookup ===

impl Lookup {
    pub(crate) fn new(current: Arc<Current>, health: Arc<Health>, creation: Creation) -> Self {
        Self { current, health, creation, topics: HashMap::new(), silent_until: None }
    }

    /// The life of the thread.
    pub(crate) fn serve(mut self, asks: &Receiver<Ask>) {
        loop {
            let due = self.topics.values().map(|watched| watched.due).min();
            let wait = due.map_or(REFRESH, |due| due.saturating_duration_since(Instant::now()));
            match asks.recv_timeout(wait) {
                Ok(ask) => {
                    // Everything that was asked meanwhile is answered in one round.
                    let mut next = Some(ask);
                    while let Some(ask) = next {
                        if matches!(ask, Ask::Stop) {
                            return;
                        }
                        self.take(ask);
                        next = asks.try_recv().ok();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.round();
        }
    }

    fn take(&mut self, ask: Ask) {
        let now = Instant::now();
        match ask {
            Ask::Topic(topic) => {
                let watched = Watched { topic: Arc::clone(&topic), due: now, attempts: 0, has_warned: false, is_denied: false };
                self.topics.entry(topic.name.clone()).or_insert(watched);
            }
            Ask::Again { topic, kind, message } => {
                let Some(watched) = self.topics.get_mut(topic.as_str()) else { return };
                if kind == FailureKind::Denied {
                    // Metadata may be allowed where writing is not: only time can tell whether an ACL was added.
                    if watched.topic.set_state(State::Denied, &message) {
                        tracing::warn!(event = "topic.denied", topic, message, "Kafka refuses records for a topic");
                        watched.attempts += 1;
                        watched.due = now + backoff(watched.attempts.max(3));
                    }
                } else if watched.topic.state() == State::Ready {
                    watched.topic.set_state(State::Lookup, &message);
                    watched.due = now;
                    self.silent_until = None;
                }
            }
            Ask::Refresh => {
                self.silent_until = None;
                self.topics.values_mut().for_each(|watched| watched.due = now);
            }
            Ask::Retire(client) => drop(client),
            Ask::Stop => {}
        }
    }

    /// Looks up whatever is due.
    fn round(&mut self) {
        let now = Instant::now();
        let mut due: Vec<_> =
            self.topics.iter().filter(|(_, watched)| watched.due <= now).map(|(name, _)| name.clone()).collect();
        if due.is_empty() {
            return;
        }
        due.sort_unstable();
        let producer = self.current.get();
        let (mut describe, mut absent) = (Vec::new(), Vec::new());
        let mut has_controller = true;
        for (at, name) in due.iter().enumerate() {
            let Some(watched) = self.topics.get_mut(name) else { continue };
            match find(&producer, &self.creation, watched) {
                Found::Exists { has_controller: has } => {
                    self.health.seen();
                    has_controller = has;
                    describe.push(name.clone());
                }
                Found::Absent { has_controller: has } => {
                    self.health.seen();
                    has_controller = has;
                    absent.push(name.clone());
                }
                Found::Wait => self.health.seen(),
                Found::NoAnswer(message) => {
                    self.health.note(Error::Unreachable(message));
                    // The next topics would only wait for the same brokers.
                    for name in &due[at..] {
                        if let Some(watched) = self.topics.get_mut(name) {
                            watched.attempts += 1;
                            watched.due = Instant::now() + backoff(watched.attempts.min(3));
                        }
                    }
                    break;
                }
            }
        }
        for names in absent.chunks(AT_ONCE) {
            self.create(&producer, names, has_controller);
        }
        for names in describe.chunks(AT_ONCE) {
            self.describe(&producer, names, has_controller);
        }
    }

    /// Creates topics that do not exist, by one request.
    fn create(&mut self, producer: &Producer, names: &[Box<str>], has_controller: bool) {
        let topics: Vec<Arc<Topic>> = names.iter().filter_map(|name| Some(Arc::clone(&self.topics.get(name)?.topic))).collect();
        let wanted: Vec<NewTopic<'_>> = topics.iter().map(|topic| new_topic(topic, &self.creation)).collect();
        let mut answers = if has_controller {
            native::create_topics(producer.client.client(), &wanted, ADMIN_TIMEOUT)
        } else {
            Err(native::no_controller())
        };
        for topic in &topics {
            let Some(watched) = self.topics.get_mut(&topic.name) else { continue };
            let answer = match &mut answers {
                // One that the broker said nothing of is looked up again.
                Ok(answers) => answers.remove(&*topic.name).unwrap_or(Ok(())),
                Err(refused) => Err(refused.clone()),
            };
            created(watched, answer);
        }
    }

    /// Reads the limits of topics that exist and opens them for events.
    fn describe(&mut self, producer: &Producer, names: &[Box<str>], has_controller: bool) {
        let plain: Vec<&str> = names.iter().map(|name| &**name).collect();
        let silence =
            || Refused { code: Code::OperationTimedOut, message: "the broker gave no answer to DescribeConfigs".to_owned() };
        let mut answers = if self.silent_until.is_some_and(|until| Instant::now() < until) {
            Err(silence())
        } else if !has_controller {
            Err(native::no_controller())
        } else {
            native::describe_topics(producer.client.client(), &plain, DESCRIBE_TIMEOUT)
        };
        if answers.is_err() {
            self.silent_until.get_or_insert(Instant::now() + SILENCE);
        } else {
            self.silent_until = None;
        }
        for name in names {
            let Some(watched) = self.topics.get_mut(name) else { continue };
            let answer = match &mut answers {
                Ok(answers) => answers.remove(&**name).unwrap_or_else(|| Err(silence())),
                Err(refused) => Err(refused.clone()),
            };
            match answer {
                Ok(settings) => watched.topic.limits.update(&settings),
                Err(Refused { message, .. }) if !watched.has_warned => {
                    watched.has_warned = true;
                    tracing::warn!(
                        event = "topic.limits_unknown",
                        topic = &**name,
                        message,
                        "the limits of a topic are unknown; Kafka's defaults are assumed"
                    );
                }
                Err(_) => {}
            }
            watched.due = Instant::now() + if answers.is_ok() { REFRESH } else { SILENCE };
            if !watched.is_denied {
                watched.attempts = 0;
            }
            if watched.topic.set_state(State::Ready, "") {
                tracing::debug!(topic = &**name, partitions = watched.topic.partitions(), "a topic is ready");
            }
        }
    }
}

/// What a look at one topic came to.
enum Found {
    Exists {
        has_controller: bool,
    },
    /// It is to be created.
    Absent {
        has_controller: bool,
    },
    /// Not usable yet; `due` says when to look again.
    Wait,
    NoAnswer(String),
}

fn find(producer: &Producer, creation: &Creation, watched: &mut Watched) -> Found {
    let name = &*watched.topic.name;
    let metadata = match producer.client.client().fetch_metadata(Some(name), METADATA_TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => return Found::NoAnswer(format!("ask for topic {name}: {error}")),
    };
    let has_controller = native::has_controller(producer.client.client(), &metadata);
    let (code, partitions) = metadata.topics().first().map_or((Code::UnknownTopicOrPartition, 0), |topic| {
        (topic.error().map_or(Code::NoError, Code::from), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX))
    });
    match code {
        Code::NoError if partitions > 0 => {
            let before = watched.topic.set_partitions(partitions);
            if before != 0 && before != partitions {
                tracing::warn!(
                    event = "topic.partitions_changed",
                    topic = name,
                    before,
                    partitions,
                    "a topic's partition count changed: keys may live elsewhere from now on"
                );
            }
            return Found::Exists { has_controller };
        }
        Code::UnknownTopicOrPartition => {
            if watched.topic.state() == State::Ready {
                tracing::warn!(event = "topic.gone", topic = name, "a topic is gone");
            }
            if creation.is_allowed {
                return Found::Absent { has_controller };
            }
            turn(watched, State::Missing, "it does not exist, and sink.kafka.create_topics is \"never\"");
        }
        Code::TopicAuthorizationFailed => turn(watched, State::Denied, &code.to_string()),
        Code::InvalidTopic => turn(watched, State::Missing, &code.to_string()),
        // Just created, or between two leaders.
        _ => again_soon(watched),
    }
    Found::Wait
}

/// What became of the creation of a topic that did not exist.
fn created(watched: &mut Watched, answer: Result<(), Refused>) {
    match answer {
        Ok(()) => {
            tracing::info!(event = "topic.created", topic = &*watched.topic.name, "created a topic");
            again_soon(watched);
        }
        Err(Refused { code: Code::TopicAlreadyExists | Code::OperationTimedOut, .. }) => again_soon(watched),
        Err(Refused { code: Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed, message }) => {
            turn(watched, State::Denied, &format!("create it: {message}"));
        }
        Err(Refused { message, .. }) => turn(watched, State::Missing, &format!("it could not be created: {message}")),
    }
}

pub(crate) fn new_topic<'a>(topic: &'a Topic, creation: &Creation) -> NewTopic<'a> {
    let replication_factor = creation.replication_factor;
    match topic.role {
        Role::Target => NewTopic { name: &topic.name, partitions: creation.partitions, replication_factor, config: &[] },
        Role::Checkpoint => NewTopic {
            name: &topic.name,
            partitions: 1,
            replication_factor,
            config: &[("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")],
        },
        Role::Dlq => NewTopic { name: &topic.name, partitions: 1, replication_factor, config: &[("cleanup.policy", "compact")] },
    }
}

/// Tells those who wait why they do, and looks again with growing patience.
fn turn(watched: &mut Watched, state: State, message: &str) {
    watched.is_denied = state == State::Denied;
    watched.attempts += 1;
    watched.due = Instant::now() + backoff(watched.attempts);
    if watched.topic.set_state(state, message) {
        tracing::warn!(event = "topic.unusable", topic = &*watched.topic.name, message, "a topic cannot be used");
    }
}

/// A new topic is known to all brokers after a moment.
fn again_soon(watched: &mut Watched) {
    watched.attempts += 1;
    watched.due = Instant::now() + Duration::from_millis(20 * u64::from(watched.attempts.min(25)));
}

/// 0.5 s, doubled up to 30 s.
fn backoff(attempts: u32) -> Duration {
    Duration::from_millis(500 << attempts.saturating_sub(1).min(6)).min(Duration::from_secs(30))
}
