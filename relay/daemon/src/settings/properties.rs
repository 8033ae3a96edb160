//! Turns `[sink.kafka.properties]` into findings for those that would break a promise.

/// A librdkafka property that is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    pub(crate) name: &'static str,
    /// What it would break.
    pub(crate) reason: &'static str,
    /// What to do in its place.
    pub(crate) hint: &'static str,
    /// The values that say what relay says anyway.
    pub(crate) harmless: &'static [&'static str],
}

const fn denied(name: &'static str, reason: &'static str, hint: &'static str) -> Denied {
    Denied { name, reason, hint, harmless: &[] }
}

const ACKS: &str = "an event counts as delivered only when every in-sync replica has it";
const TIMEOUT: &str = "a record that times out leaves a hole that later records close";
const OWN_KEY: &str = "it has a key of its own";
const SECRET: &str = "a secret must not stand among the properties";

/// The refused properties, under all their names.
pub(crate) const DENIED: &[Denied] = &[
    Denied { harmless: &["all", "-1"], ..denied("acks", ACKS, "leave it out: relay sets `acks=all`") },
    Denied { harmless: &["all", "-1"], ..denied("request.required.acks", ACKS, "leave it out: relay sets `acks=all`") },
    Denied {
        harmless: &["true"],
        ..denied(
            "enable.idempotence",
            "without it a retry can write a record twice or in another order",
            "leave it out: relay sets it to true",
        )
    },
    denied("enable.gapless.guarantee", "it is experimental, and does not cover what its name promises", "leave it out"),
    denied("transactional.id", "it fences other relays and follows from the pipeline's name", "set `delivery.guarantee` instead"),
    Denied {
        harmless: &["fifo"],
        ..denied("queuing.strategy", "any other than fifo can write later events before earlier ones", "leave it out")
    },
    Denied { harmless: &["0"], ..denied("message.timeout.ms", TIMEOUT, "leave it out: relay waits for ever") },
    Denied { harmless: &["0"], ..denied("delivery.timeout.ms", TIMEOUT, "leave it out: relay waits for ever") },
    denied("delivery.report.only.error", "relay counts an event as delivered by its report", "leave it out"),
    denied("partitioner", "it decides where the keys of a pipeline live", "use `sink.kafka.partitioner`"),
    denied(
        "allow.auto.create.topics",
        "a mistyped topic would come into being with the broker's defaults",
        "use `sink.kafka.create_topics`",
    ),
    denied("bootstrap.servers", OWN_KEY, "use `sink.kafka.brokers`"),
    denied("metadata.broker.list", OWN_KEY, "use `sink.kafka.brokers`"),
    denied("security.protocol", OWN_KEY, "use `sink.kafka.security.protocol`"),
    denied("sasl.mechanism", OWN_KEY, "use `sink.kafka.security.mechanism`"),
    denied("sasl.mechanisms", OWN_KEY, "use `sink.kafka.security.mechanism`"),
    denied("sasl.username", OWN_KEY, "use `sink.kafka.security.username`"),
    denied("sasl.password", SECRET, "use `sink.kafka.security.password_file`"),
    denied("ssl.ca.location", OWN_KEY, "use `sink.kafka.security.ca_file`"),
    denied("ssl.certificate.location", OWN_KEY, "use `sink.kafka.security.certificate_file`"),
    denied("ssl.key.location", OWN_KEY, "use `sink.kafka.security.key_file`"),
    denied("ssl.key.password", SECRET, "use `sink.kafka.security.key_password_file`"),
    denied("ssl.key.pem", SECRET, "use `sink.kafka.security.key_file`"),
    denied("log.queue", "relay reads the client's log itself", "leave it out"),
];

/// Why a property is refused; `None` when it may pass.
pub(crate) fn refusal(name: &str, value: &str) -> Option<&'static Denied> {
    let name = name.trim().to_lowercase();
    DENIED.iter().find(|denied| denied.name == name && !denied.harmless.contains(&value.trim()))
}
