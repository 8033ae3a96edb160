//! Which librdkafka properties may be passed through, and why the others may not.

use crate::config::Finding;

/// Properties that relay refuses, each with the reason that the finding prints.
const DENIED: &[(&str, &str, &str)] = &[
    ("acks", "an event counts as delivered only when every in-sync replica has it", "leave it out: relay sets acks=all"),
    (
        "request.required.acks",
        "an event counts as delivered only when every in-sync replica has it",
        "leave it out: relay sets acks=all",
    ),
    (
        "enable.idempotence",
        "without it a retry can write a record twice or in another order",
        "leave it out: relay sets it to true",
    ),
    ("enable.gapless.guarantee", "it is experimental, and does not cover what its name promises", "leave it out"),
    ("transactional.id", "it fences other relays and follows from the pipeline's name", "set delivery.guarantee instead"),
    ("queuing.strategy", "any other than fifo can write later events before earlier ones", "leave it out"),
    (
        "message.timeout.ms",
        "a record that times out leaves a hole that later records close",
        "leave it out: relay waits for ever",
    ),
    (
        "delivery.timeout.ms",
        "a record that times out leaves a hole that later records close",
        "leave it out: relay waits for ever",
    ),
    ("delivery.report.only.error", "relay counts an event as delivered by its report", "leave it out"),
    ("partitioner", "it decides where the keys of a pipeline live", "use sink.kafka.partitioner"),
    (
        "allow.auto.create.topics",
        "a mistyped topic would come into being with the broker's defaults",
        "use sink.kafka.create_topics",
    ),
    ("bootstrap.servers", "it has a key of its own", "use sink.kafka.brokers"),
    ("metadata.broker.list", "it has a key of its own", "use sink.kafka.brokers"),
    ("security.protocol", "it has a key of its own", "use sink.kafka.security.protocol"),
    ("sasl.mechanism", "it has a key of its own", "use sink.kafka.security.mechanism"),
    ("sasl.mechanisms", "it has a key of its own", "use sink.kafka.security.mechanism"),
    ("sasl.username", "it has a key of its own", "use sink.kafka.security.username"),
    ("sasl.password", "a secret must not stand among the properties", "use sink.kafka.security.password_file"),
    ("ssl.ca.location", "it has a key of its own", "use sink.kafka.security.ca_file"),
    ("ssl.certificate.location", "it has a key of its own", "use sink.kafka.security.certificate_file"),
    ("ssl.key.location", "it has a key of its own", "use sink.kafka.security.key_file"),
    ("ssl.key.password", "a secret must not stand among the properties", "use sink.kafka.security.key_password_file"),
    ("ssl.key.pem", "a secret must not stand among the properties", "use sink.kafka.security.key_file"),
    ("log.queue", "relay reads the client's log itself", "leave it out"),
];

/// Prefixes of what a consumer or a doctor's client shares with the producer; the rest would only make it warn.
const SHARED: &[&str] = &[
    "socket.",
    "broker.",
    "ssl.",
    "sasl.",
    "security.",
    "reconnect.",
    "retry.",
    "api.",
    "metadata.",
    "connections.",
    "client.",
    "log",
    "debug",
    "receive.",
    "enable.ssl.",
    "enable.sasl.",
    "resolve.",
    "topic.metadata.",
];

/// Findings about the properties that would break a promise.
pub(crate) fn check<'a>(properties: impl IntoIterator<Item = (&'a String, &'a String)>, findings: &mut Vec<Finding>) {
    for (name, value) in properties {
        if let Some((_, reason, hint)) = denied(name, value) {
            findings.push(Finding::new(format!("sink.kafka.properties.\"{name}\""), format!("refused, because {reason}"), *hint));
        }
    }
}

fn denied(name: &str, value: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    // Saying what relay says anyway is no fault.
    let harmless = (name == "enable.idempotence" && value == "true") || (name.ends_with("acks") && matches!(value, "all" | "-1"));
    DENIED.iter().find(|(denied, ..)| *denied == name && !harmless)
}

/// Whether other clients than the producer should get this property too.
pub(crate) fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_property_names_itself_the_reason_and_the_cure() {
        let mut findings = Vec::new();
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = [
            property("acks", "1"),
            property("acks", "all"),
            property("enable.idempotence", "false"),
            property("partitioner", "random"),
            property("linger.ms", "50"),
            property("compression.type", "zstd"),
        ];
        check(properties.iter().map(|(name, value)| (name, value)), &mut findings);
        let keys: Vec<_> = findings.iter().map(|finding| finding.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "sink.kafka.properties.\"acks\"",
                "sink.kafka.properties.\"enable.idempotence\"",
                "sink.kafka.properties.\"partitioner\""
            ]
        );
        assert_eq!(findings[2].hint, "use sink.kafka.partitioner");
    }
}
