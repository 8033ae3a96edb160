//! Turns a Kafka connection that cannot work, or is not safe, into findings.

use relay_core::Kind;
use relay_kafka::{SOCKET_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS};

use super::properties::refusal;
use super::rules::Rules;
use super::source_text::printable;
use super::{Guarantee, Mechanism, SecurityProtocol, SinkKind};

/// Whether Kafka takes the name.
pub(crate) fn is_legal_topic(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(is_legal)
}

/// Whether a broker refuses the second of two names: its metrics write `.` as `_`.
pub(crate) fn collide(left: &str, right: &str) -> bool {
    left.replace('.', "_") == right.replace('.', "_")
}

/// The rules of `[sink.kafka]`.
pub(crate) fn kafka(rules: &mut Rules<'_>) {
    if rules.settings.sink.kind == SinkKind::Kafka {
        brokers(rules);
        security(rules);
        properties(rules);
        transactions(rules);
    }
}

fn brokers(rules: &mut Rules<'_>) {
    let key = "sink.kafka.brokers";
    let brokers = &rules.settings.sink.kafka.brokers.0;
    if brokers.is_empty() {
        rules.error(Kind::ConfigValue, key, "`sink.kafka.brokers` names no broker", "write `\"host:9092\"`");
    }
    for broker in brokers {
        let port = broker.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')).map(|(_, port)| port);
        let has_space =
            broker.contains(char::is_whitespace) || broker.contains("://") && !broker.contains("://[") && port.is_none();
        if has_space || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            let message = format!("`{}` is not a broker's address", printable(broker));
            rules.error(Kind::ConfigValue, key, message, "write `host:port`, several with commas");
        }
    }
}

fn security(rules: &mut Rules<'_>) {
    let security = &rules.settings.sink.kafka.security;
    let key = |name: &str| format!("sink.kafka.security.{name}");
    let has_tls = matches!(security.protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl);
    let has_sasl = matches!(security.protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl);
    let protocol = security.protocol;
    if has_sasl && security.mechanism == Mechanism::None {
        let hint = "add `mechanism = \"SCRAM-SHA-512\"`, or what the broker has";
        rules.error(Kind::ConfigConflict, &key("mechanism"), format!("protocol `{protocol}` needs a mechanism"), hint);
    }
    if !has_sasl && security.mechanism != Mechanism::None {
        let message = format!("a mechanism is set, but protocol `{protocol}` has no authentication");
        let wanted = if has_tls { "sasl_ssl" } else { "sasl_ssl\"` or `\"sasl_plaintext" };
        rules.error(Kind::ConfigConflict, &key("mechanism"), message, format!("set `protocol` to `\"{wanted}\"`"));
    }
    if has_sasl {
        credentials(rules, has_tls);
    }
    for (name, is_given) in [
        ("ca_file", security.ca_file.is_some()),
        ("certificate_file", security.certificate_file.is_some()),
        ("key_file", security.key_file.is_some()),
    ] {
        if is_given && !has_tls {
            let message = format!("`{name}` is set, but protocol `{protocol}` has no TLS");
            rules.error(Kind::ConfigConflict, &key(name), message, "set `protocol` to `\"ssl\"` or `\"sasl_ssl\"`");
        }
    }
    if security.certificate_file.is_some() != security.key_file.is_some() {
        let (given, missing) =
            if security.key_file.is_some() { ("key_file", "certificate_file") } else { ("certificate_file", "key_file") };
        rules.error(Kind::ConfigConflict, &key(given), format!("`{given}` needs `{missing}`"), format!("add `{missing}`"));
    }
}

fn credentials(rules: &mut Rules<'_>, has_tls: bool) {
    let security = &rules.settings.sink.kafka.security;
    let key = |name: &str| format!("sink.kafka.security.{name}");
    let mechanism = security.mechanism;
    match mechanism {
        Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            if security.username.is_empty() {
                rules.error(Kind::ConfigConflict, &key("username"), format!("{mechanism} needs a `username`"), "add `username`");
            }
            if security.password.is_none() {
                rules.error(
                    Kind::ConfigConflict,
                    &key("password"),
                    format!("{mechanism} needs a `password`"),
                    "add `password_file`",
                );
            }
        }
        Mechanism::Oauthbearer if security.token.is_none() => {
            rules.error(Kind::ConfigConflict, &key("token"), "OAUTHBEARER needs a `token`", "add `token_file`");
        }
        Mechanism::Oauthbearer | Mechanism::None => {}
    }
    if mechanism == Mechanism::Plain && !has_tls && !security.allow_plaintext_password {
        let message = "SASL PLAIN without TLS sends the password in the clear";
        let hint = "use `protocol = \"sasl_ssl\"`, or set `allow_plaintext_password = true` on a network that you trust";
        rules.error(Kind::ConfigConflict, &key("protocol"), message, hint);
    }
}

fn properties(rules: &mut Rules<'_>) {
    let kafka = &rules.settings.sink.kafka;
    for (name, value) in &kafka.properties.0 {
        let Some(denied) = refusal(name, value) else { continue };
        let key = format!("sink.kafka.properties.{name}");
        if kafka.is_unsafe {
            rules.warn(Kind::ConfigConflict, &key, format!("property `{name}` breaks a promise: {}", denied.reason), denied.hint);
        } else {
            rules.error(Kind::ConfigConflict, &key, format!("property `{name}` is refused: {}", denied.reason), denied.hint);
        }
    }
    if kafka.is_unsafe {
        let message = "`sink.kafka.unsafe` lifts the refusal of properties that relay's promises rest on";
        rules.warn(Kind::ConfigConflict, "sink.kafka.unsafe", message, "leave it out as soon as you can");
    }
}

/// Exactly-once: a transaction must end before the brokers abort it.
fn transactions(rules: &mut Rules<'_>) {
    let settings = rules.settings;
    if settings.delivery.guarantee != Guarantee::ExactlyOnce {
        return;
    }
    let properties = &settings.sink.kafka.properties.0;
    let time_ms = |name: &str, default: u64| properties.get(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let socket_ms = time_ms("socket.timeout.ms", SOCKET_TIMEOUT_MS);
    let transaction_ms = time_ms("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    if socket_ms >= transaction_ms {
        let name = if properties.contains_key("socket.timeout.ms") { "socket.timeout.ms" } else { "transaction.timeout.ms" };
        let message = format!(
            "`socket.timeout.ms` ({socket_ms}) must be below `transaction.timeout.ms` ({transaction_ms}): a request that is given up later \
             may outlive its transaction"
        );
        let key = format!("sink.kafka.properties.{name}");
        let hint = format!("leave both out: relay sets {SOCKET_TIMEOUT_MS} and {TRANSACTION_TIMEOUT_MS}");
        rules.error(Kind::ConfigConflict, &key, message, hint);
    } else if settings.delivery.commit_interval.as_millis() >= u128::from(transaction_ms - socket_ms) {
        let message = format!(
            "`delivery.commit_interval` and the commit itself (up to `socket.timeout.ms`, {socket_ms}) must end within \
             `transaction.timeout.ms` ({transaction_ms}), after which the brokers abort the transaction"
        );
        rules.error(
            Kind::ConfigConflict,
            "delivery.commit_interval",
            message,
            "shorten it: consumers wait that long for every event",
        );
    }
}
