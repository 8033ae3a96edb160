//! `relay version`: what exactly is running.

use crate::cli::Flags;

/// The commit it was built from, where the build knew it.
pub(crate) const COMMIT: &str = match option_env!("RELAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Prints version, commit, librdkafka's version and what this build can do.
pub(crate) fn version(flags: &Flags) -> u8 {
    let librdkafka = relay_kafka::librdkafka_version();
    let features = ["log", "poll", "outbox", "capture", "snapshot", "at-least-once", "exactly-once", "kafka", "stdout"];
    if flags.is_json() {
        let object = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "commit": COMMIT, "librdkafka": librdkafka, "features": features,
        });
        println!("{object}");
    } else {
        println!("relay {} (commit {COMMIT}, librdkafka {librdkafka}; {})", env!("CARGO_PKG_VERSION"), features.join(", "));
    }
    0
}
