//! The sink: resolves an event's topic, checks what the broker would refuse, and hands the record to the client.

use crate::config::Plan;
use crate::error::classify;
use crate::health::Health;
use crate::lookup::Ask;
use crate::native::{Parcel, TopicHandle};
use crate::producer::{Current, Producer};
use crate::room::Room;
use crate::topics::{Gate, Role, State, Topic};
use crate::transactions::Surrender;
use crate::transactions::control::begin;
use crate::transactions::life::{Life, Phase};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use relay_core::sink::{PurgeScope, Waiting};
use relay_core::window::{Failure, FailureKind};
use relay_core::{Enqueue, Event, Poison, PoisonReason, Sink, Ticket};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// Publishes events to Kafka. Used by one thread; reports come from another.
#[derive(Debug)]
pub struct KafkaSink {
    plan: Arc<Plan>,
    current: Arc<Current>,
    producer: Arc<Producer>,
    health: Arc<Health>,
    asks: Sender<Ask>,
    gate: Gate,
    /// Of a transactional client.
    surrender: Option<Surrender>,
    routes: Vec<Route>,
    by_name: HashMap<Box<str>, usize>,
    /// The route of the last event: the next one mostly has the same.
    last: usize,
    /// Events accepted by the present client.
    accepted: usize,
    /// batch.size of the present client.
    batch_bytes: usize,
    /// How much the present client may hold.
    room: Room,
}

/// A topic as the sink uses it.
#[derive(Debug)]
struct Route {
    topic: Arc<Topic>,
    handle: Option<TopicHandle>,
    /// Whether the events of this topic name their partition. Mixing both breaks order: librdkafka holds records for the
    /// partitioner in another queue until it knows the partitions.
    is_explicit: Option<bool>,
}

// === impl KafkaSink ===

impl KafkaSink {
    pub(crate) fn new(
        plan: Arc<Plan>,
        current: Arc<Current>,
        health: Arc<Health>,
        asks: Sender<Ask>,
        own: &[Arc<Topic>],
        gate: Gate,
        surrender: Option<Surrender>,
    ) -> Self {
        let batch_bytes = plan.batch_bytes;
        let mut sink = Self {
            plan,
            producer: current.get(),
            current,
            health,
            asks,
            gate,
            surrender,
            routes: Vec::new(),
            by_name: HashMap::new(),
            last: 0,
            accepted: 0,
            batch_bytes,
            room: Room::new(batch_bytes),
        };
        for topic in own {
            let _ = sink.asks.send(Ask::Topic(Arc::clone(topic)));
        }
        if let Some(dlq) = own.iter().find(|topic| topic.role == Role::Dlq) {
            // Kept out of `by_name`: an event finds it only through `park`.
            sink.routes.push(Route { topic: Arc::clone(dlq), handle: None, is_explicit: None });
        }
        for name in sink.plan.configured_topics.clone() {
            if let Err(poison) = sink.admit(&name) {
                tracing::warn!(
                    event = "topic.unusable",
                    topic = name,
                    message = poison.message,
                    "a configured topic cannot be used"
                );
            }
        }
        sink
    }

    /// Reads the limits of every topic again, soon and elsewhere.
    pub fn refresh_topics(&self) {
        let _ = self.asks.send(Ask::Refresh);
    }

    /// Why the client is dead; [`Sink::renew`] replaces it.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.producer.context().fatal.get().cloned()
    }

    #[cfg(test)]
    pub(crate) fn kill(&self) {
        crate::native::kill(&self.producer.client);
    }

    #[cfg(test)]
    pub(crate) fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer)
    }

    /// How many partitions a topic has, once it is known.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        let route = &self.routes[*self.by_name.get(topic)?];
        Some(route.topic.partitions()).filter(|&count| count > 0)
    }

    #[inline]
    fn find(&mut self, name: &str) -> Result<usize, Poison> {
        if let Some(route) = self.routes.get(self.last)
            && *route.topic.name == *name
            && route.topic.role == Role::Target
        {
            return Ok(self.last);
        }
        self.last = match self.by_name.get(name) {
            Some(&at) => at,
            None => self.admit(name)?,
        };
        Ok(self.last)
    }

    #[cold]
    fn admit(&mut self, name: &str) -> Result<usize, Poison> {
        self.gate.admit(name, self.plan.configured_topics.iter().any(|known| known == name))?;
        let topic = Arc::new(Topic::new(name, Role::Target));
        let _ = self.asks.send(Ask::Topic(Arc::clone(&topic)));
        let at = self.routes.len();
        self.routes.push(Route { topic, handle: None, is_explicit: None });
        self.by_name.insert(name.into(), at);
        Ok(at)
    }

    #[inline]
    fn offer(&mut self, at: usize, event: &Event, ticket: Ticket) -> Enqueue {
        let route = &mut self.routes[at];
        if route.topic.state() != State::Ready {
            return Enqueue::Waiting(route.topic.waiting());
        }
        if let Err(poison) = route.topic.limits.check(event, self.plan.message_max_bytes, self.health.now_ms()) {
            return Enqueue::Poison(poison);
        }
        if (event.partition.is_some() || route.is_explicit != Some(false))
            && let Err(poison) = route.check_partition(event)
        {
            return Enqueue::Poison(poison);
        }
        // A batch larger than the topic takes would be refused as a whole, although each record in it is small enough.
        if route.topic.limits.max_bytes() < self.batch_bytes {
            let max_bytes = route.topic.limits.max_bytes();
            if let Some(answer) = self.shrink_batches(max_bytes, ticket) {
                return answer;
            }
        }
        let route = &mut self.routes[at];
        if route.handle.is_none() {
            match TopicHandle::new(&self.producer.client, &route.topic.name) {
                Ok(handle) => {
                    route.handle = Some(handle);
                    self.room.add(route.topic.partitions());
                }
                Err(code) => {
                    return Enqueue::Poison(Poison::new(PoisonReason::Route, format!("topic {}: {code}", route.topic.name)));
                }
            }
        }
        if let Some(answer) = self.open_transaction(ticket) {
            return answer;
        }
        let Some(handle) = &self.routes[at].handle else { return Enqueue::Waiting(Waiting::Lookup) };
        let parcel = Parcel {
            key: event.key(),
            value: event.value(),
            timestamp_ms: event.timestamp_ms,
            partition: event.partition,
            opaque: ticket.0,
        };
        if !self.room.is_free(&self.producer.context().reported_bytes) {
            return Enqueue::Full;
        }
        // Counted before, because the report may be faster than this thread.
        self.accepted = self.accepted.wrapping_add(1);
        match handle.produce(&parcel, event.headers()) {
            Ok(()) => {
                self.room.take(parcel.bytes());
                Enqueue::Accepted
            }
            Err(code) => self.refused(at, code, ticket),
        }
    }

    /// Sees to it that a transaction is open where there are transactions; else the answer to the event.
    #[inline]
    fn open_transaction(&mut self, ticket: Ticket) -> Option<Enqueue> {
        match self.producer.life() {
            None => None,
            Some(life) if life.phase() == Phase::Open => None,
            Some(_) => self.begin_transaction(ticket),
        }
    }

    fn begin_transaction(&mut self, ticket: Ticket) -> Option<Enqueue> {
        let life = self.producer.life()?;
        match life.phase() {
            Phase::Ready => {}
            // Its turn comes after the fence, the commit, the abort or the new client.
            _ => return Some(Enqueue::Waiting(Waiting::Lookup)),
        }
        match begin(&self.producer, life) {
            Ok(()) => {
                life.turn(Phase::Ready, Phase::Open);
                None
            }
            Err(Failure { kind: FailureKind::Fenced, .. }) => Some(Enqueue::Fenced),
            Err(failure) => Some(self.give_up(ticket, failure)),
        }
    }

    /// Takes the event and fails it at once: so the caller learns of it where it learns of every failure.
    #[cold]
    fn give_up(&mut self, ticket: Ticket, failure: Failure) -> Enqueue {
        self.accepted = self.accepted.wrapping_add(1);
        self.producer.context().refuse(ticket, failure);
        Enqueue::Accepted
    }

    #[cold]
    fn refused(&mut self, at: usize, code: Code, ticket: Ticket) -> Enqueue {
        let topic = &self.routes[at].topic;
        if let Some((cause, reason)) = self.producer.client.client().fatal_error() {
            self.accepted = self.accepted.wrapping_sub(1);
            return self.dead(cause, &reason, ticket);
        }
        let answer = match code {
            Code::QueueFull => Enqueue::Full,
            Code::MessageSizeTooLarge => {
                let text = format!("the record is larger than the client takes ({} bytes)", self.plan.message_max_bytes);
                Enqueue::Poison(Poison::new(PoisonReason::TooLarge, text))
            }
            // Something in the transaction has failed already, so that it takes nothing more.
            Code::InvalidTransactionalState | Code::State if self.producer.life().is_some() => {
                self.accepted = self.accepted.wrapping_sub(1);
                let message = format!("the transaction can only be aborted: {code}");
                return self.give_up(ticket, Failure { kind: FailureKind::Aborted, message });
            }
            // The client's metadata is behind or ahead of ours.
            _ => {
                let again =
                    Ask::Again { topic: topic.name.to_string(), kind: FailureKind::UnknownTopic, message: code.to_string() };
                let _ = self.asks.send(again);
                Enqueue::Waiting(Waiting::Lookup)
            }
        };
        self.accepted = self.accepted.wrapping_sub(1);
        answer
    }

    /// The client has failed for good. The event is taken and failed at once: so the caller learns of it where it learns of
    /// every failure, and renews the client.
    fn dead(&mut self, cause: Code, reason: &str, ticket: Ticket) -> Enqueue {
        if classify(cause) == FailureKind::Fenced {
            if !self.producer.life().is_some_and(Life::is_expired) {
                return Enqueue::Fenced;
            }
            let message = format!("the transaction has timed out at the broker: {reason}");
            return self.give_up(ticket, Failure { kind: FailureKind::Indefinite, message });
        }
        self.accepted = self.accepted.wrapping_add(1);
        self.producer.context().fail_at_once(ticket, reason);
        Enqueue::Accepted
    }

    /// Goes on with a client whose batches fit the topic, once nothing is outstanding; the answer until then.
    #[cold]
    fn shrink_batches(&mut self, max_bytes: usize, ticket: Ticket) -> Option<Enqueue> {
        if self.producer.life().is_some() {
            // A new client must be fenced in, and what is open goes with the old one: the caller's turn.
            self.batch_bytes = max_bytes.max(1);
            let message = "a new client is needed, whose batches fit a topic's max.message.bytes".to_owned();
            return Some(self.give_up(ticket, Failure { kind: FailureKind::Indefinite, message }));
        }
        if self.outstanding() > 0 {
            self.producer.nudge.ask(self.accepted);
            return Some(Enqueue::Waiting(Waiting::Lookup));
        }
        tracing::info!(
            event = "sink.batches_smaller",
            max_bytes,
            before = self.batch_bytes,
            "batches are made smaller, to fit a topic's max.message.bytes"
        );
        match self.replace_producer(max_bytes.max(1)) {
            Ok(()) => None,
            Err(message) => {
                tracing::warn!(event = "sink.not_replaced", message, "the Kafka client cannot be replaced");
                Some(Enqueue::Waiting(Waiting::Lookup))
            }
        }
    }

    fn replace_producer(&mut self, batch_bytes: usize) -> Result<(), String> {
        let context = self.plan.context(&self.producer.context().acks, &self.producer.context().stores, &self.health, &self.asks);
        let producer = Arc::new(self.plan.start(context, batch_bytes).map_err(|error| error.to_string())?);
        self.routes.iter_mut().for_each(|route| route.handle = None);
        let old = std::mem::replace(&mut self.producer, Arc::clone(&producer));
        old.context().is_replaced.store(true, Ordering::Relaxed);
        self.accepted = 0;
        self.batch_bytes = batch_bytes;
        self.room = Room::new(batch_bytes);
        drop(self.current.replace(producer));
        // Ending a client waits for its threads; not on this one.
        let _ = self.asks.send(Ask::Retire(Box::new(old)));
        Ok(())
    }
}

impl Sink for KafkaSink {
    #[inline]
    fn enqueue(&mut self, event: &Event, ticket: Ticket) -> Enqueue {
        match self.find(event.topic()) {
            Ok(at) => self.offer(at, event, ticket),
            Err(poison) => Enqueue::Poison(poison),
        }
    }

    fn expect(&mut self, topic: &str) {
        // One that cannot be is found so again with its first event, which is then at fault.
        if !self.by_name.contains_key(topic) {
            let _ = self.admit(topic);
        }
    }

    /// The dlq topic is one that no event can choose; the record's own topic is ignored.
    fn park(&mut self, event: &Event, ticket: Ticket) -> Enqueue {
        match self.routes.first() {
            Some(route) if route.topic.role == Role::Dlq => self.offer(0, event, ticket),
            _ => Enqueue::Poison(Poison::new(PoisonReason::Route, "no dlq topic is configured")),
        }
    }

    #[inline]
    fn nudge(&mut self) {
        if self.outstanding() > 0 {
            self.producer.nudge.ask(self.accepted);
        }
    }

    /// An open transaction is aborted, which keeps count of what it gives up. After a purge of ours librdkafka (2.12.1) would find a gap
    /// in the next transaction's sequence, fail it, and purge its events.
    fn purge(&mut self, scope: PurgeScope) {
        match (self.producer.life(), &self.surrender) {
            (Some(life), Some(surrender)) if life.phase() != Phase::Finished => surrender.give_up(&self.producer),
            _ => self.producer.purge(scope == PurgeScope::QueuedAndInFlight),
        }
    }

    #[inline]
    fn outstanding(&self) -> usize {
        self.accepted.wrapping_sub(self.producer.context().reported.load(Ordering::Acquire))
    }

    fn renew(&mut self) -> Result<(), String> {
        self.replace_producer(self.batch_bytes)
    }

    fn is_alive(&self) -> bool {
        self.health.is_turning()
    }

    fn is_reachable(&self) -> bool {
        self.health.is_reachable()
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

// === impl Route ===

impl Route {
    fn check_partition(&mut self, event: &Event) -> Result<(), Poison> {
        let poison = |text: String| Err(Poison::new(PoisonReason::Route, text));
        let name = &self.topic.name;
        let is_explicit = *self.is_explicit.get_or_insert(event.partition.is_some());
        match (is_explicit, event.partition) {
            (true, None) => poison(format!("topic {name} gets its partitions from rows, and this event names none")),
            (false, Some(_)) => poison(format!("topic {name} has its events placed by key, and this one names a partition")),
            (_, Some(partition)) if !(0..self.topic.partitions()).contains(&partition) => {
                poison(format!("topic {name} has {} partitions; there is no partition {partition}", self.topic.partitions()))
            }
            _ => Ok(()),
        }
    }
}
