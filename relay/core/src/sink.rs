//! The contract of a destination: what accepted and durable mean, and who may advance progress.

use crate::event::Event;
use crate::window::Ticket;
use std::fmt;

/// Takes events in source order and makes them durable.
///
/// * `Accepted` means that the sink owns a copy and will report it exactly once, from any thread, through the
///   [`Acks`](crate::window::Acks) it was built with: `done(ticket)` after the destination has made the event durable, or
///   `failed(ticket, …)` when it never will. Nothing less may advance the frontier. Enqueueing is not delivery.
/// * Every other answer means that nothing was taken: no report will follow, and the caller may offer the same event again.
/// * Events of one key and topic become durable in the order accepted. A sink never drops, reorders or merges events.
/// * No call blocks for longer than a few milliseconds; waiting is done by answering `Full` or `Waiting`.
///
/// The conformance suite in [`crate::conformance`] holds every implementation to this.
pub trait Sink {
    /// Offers one event.
    fn enqueue(&mut self, event: &Event, ticket: Ticket) -> Enqueue;

    /// Events for that topic are coming: what it takes to get it ready may begin.
    fn expect(&mut self, _topic: &str) {}

    /// Offers the dlq record of an event that cannot be published. A sink whose dlq topic no event may choose overrides this.
    fn park(&mut self, record: &Event, ticket: Ticket) -> Enqueue {
        self.enqueue(record, ticket)
    }

    /// Nothing more is coming for now: what was accepted should leave at once instead of waiting for a fuller batch.
    fn nudge(&mut self);

    /// Gives up what was accepted: each purged event is reported as `failed` with [`FailureKind::Purged`].
    ///
    /// [`FailureKind::Purged`]: crate::window::FailureKind::Purged
    fn purge(&mut self, scope: PurgeScope);

    /// Events accepted and not yet reported. The tickets of a dropped window may be used again only when this is 0.
    fn outstanding(&self) -> usize;

    /// Replaces a client that has failed for good (a fatal producer error) or whose credentials changed. Called only while nothing is
    /// outstanding.
    ///
    /// # Errors
    /// A text that names the cause; the caller tries again with back-off.
    fn renew(&mut self) -> Result<(), String>;

    /// Whether the thread that serves reports still turns, whatever the destination does.
    fn is_alive(&self) -> bool {
        true
    }

    /// Whether the destination answered lately.
    fn is_reachable(&self) -> bool;
}

/// What a sink says to an offered event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueue {
    /// Taken; a report will follow.
    Accepted,
    /// No room: stop reading, go on reporting status, offer the same event again.
    Full,
    /// The destination is not ready for this event (its topic is not known yet): as `Full`, with a reason for people.
    Waiting(Waiting),
    /// This event can never be accepted as it is, and nothing behind it has been sent: the poison policy decides.
    Poison(Poison),
    /// Another instance owns the destination. Final.
    Fenced,
}

/// Why a sink is not ready for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The topic is being looked up or created.
    Lookup,
    /// The topic does not exist and may not be, or could not be, created.
    TopicMissing {
        /// The topic's name.
        topic: String,
        /// What the destination answered.
        message: String,
    },
    /// The destination refuses us this topic.
    Denied {
        /// The topic's name.
        topic: String,
        /// What the destination answered.
        message: String,
    },
}

/// What [`Sink::purge`] gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeScope {
    /// Events that have not left yet; those on the wire are waited for.
    Queued,
    /// Those on the wire too; the destination may still make them durable later.
    QueuedAndInFlight,
}

/// A fault of one event alone, never of a connection or a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Its class, as metrics and dlq records print it.
    pub reason: PoisonReason,
    /// What is wrong, in words, with names and sizes but no text from the row's payload.
    pub message: String,
}

/// The classes of poison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonReason {
    /// A value cannot be converted.
    Encode,
    /// Topic, partition or id cannot be derived from the row.
    Route,
    /// A header's name or source is not allowed.
    Header,
    /// Larger than the topic, the client or `source.log.max_message` allows.
    TooLarge,
    /// Timestamp outside the topic's limits.
    Timestamp,
    /// No key on a compacted topic.
    NullKey,
    /// Text that is not UTF-8.
    Utf8,
    /// A row that is due in the future.
    Scheduled,
    /// The broker refused it, alone in its batch.
    Rejected,
}

// === impl Poison ===

impl Poison {
    /// A poison of that class.
    pub fn new(reason: PoisonReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)
    }
}

// === impl PoisonReason ===

impl PoisonReason {
    /// Every class, for metrics that exist at 0 from the start.
    pub const ALL: [PoisonReason; 9] = [
        PoisonReason::Encode,
        PoisonReason::Route,
        PoisonReason::Header,
        PoisonReason::TooLarge,
        PoisonReason::Timestamp,
        PoisonReason::NullKey,
        PoisonReason::Utf8,
        PoisonReason::Scheduled,
        PoisonReason::Rejected,
    ];

    /// The label value of `relay_dlq_events_total`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PoisonReason::Encode => "encode",
            PoisonReason::Route => "route",
            PoisonReason::Header => "header",
            PoisonReason::TooLarge => "too_large",
            PoisonReason::Timestamp => "timestamp",
            PoisonReason::NullKey => "null_key",
            PoisonReason::Utf8 => "utf8",
            PoisonReason::Scheduled => "scheduled",
            PoisonReason::Rejected => "rejected",
        }
    }

    /// The stage that found it, for the dlq header `relay-error-stage`.
    #[must_use]
    pub fn stage(self) -> &'static str {
        match self {
            PoisonReason::Route | PoisonReason::Scheduled => "route",
            PoisonReason::Encode | PoisonReason::Header | PoisonReason::Utf8 => "encode",
            PoisonReason::TooLarge | PoisonReason::Timestamp | PoisonReason::NullKey | PoisonReason::Rejected => "produce",
        }
    }
}
