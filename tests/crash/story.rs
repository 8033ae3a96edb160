//! A pipeline under load: a server, a broker's topic, one or two relays, and an oracle that judges the end.

use relay_tests::consumer::{Isolation, Reader};
use relay_tests::kafka::Kafka;
use relay_tests::load::Load;
use relay_tests::oracle::Report;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::{Builder, Relay};
use relay_tests::wait::{secs, try_until, until};
use std::time::Duration;

/// How a pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Log,
    ExactlyOnce,
    Poll,
}

/// What every suite sets: quick checkpoints, so that a minute holds many crashes. The time-outs stay those of the defaults: a process that
/// does not get to run for some seconds is not dead, and a stream that is silent for so long is begun again, with duplicates.
pub(crate) const QUICK: &str = r#"
delivery.checkpoint_interval = "200ms"
delivery.idle_checkpoint_interval = "500ms"
shutdown.grace = "45s"
"#;

// === impl Mode ===

impl Mode {
    pub(crate) fn all() -> impl Iterator<Item = Mode> {
        [Mode::Log, Mode::ExactlyOnce, Mode::Poll].into_iter()
    }

    /// As part of a pipeline's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Log => "log",
            Mode::ExactlyOnce => "exactlyonce",
            Mode::Poll => "poll",
        }
    }

    /// The settings that make it.
    pub(crate) fn toml(self) -> &'static str {
        match self {
            Mode::Log => "",
            Mode::ExactlyOnce => "delivery.guarantee = \"exactly-once\"",
            Mode::Poll => "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"\nsource.poll.batch = 50",
        }
    }

    pub(crate) fn apply(self, builder: Builder) -> Builder {
        builder.toml(self.toml())
    }
}

/// How long a suite injects faults.
pub(crate) fn budget(seconds: u64) -> Duration {
    secs(std::env::var("RELAY_CRASH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(seconds))
}

/// A relay for that outbox, with the suites' settings.
pub(crate) fn relay(url: &str, brokers: &str, outbox: &Outbox) -> Builder {
    Builder::new(&outbox.pipeline).url(url).brokers(brokers).table(&outbox.table).toml(QUICK)
}

/// Ends the load, waits until the topic holds every committed row, and judges it.
#[track_caller]
pub(crate) fn judge(load: &mut Load, brokers: &str, topic: &str, relay: &mut Relay) -> Report {
    load.stop();
    let reader = Reader::new(brokers);
    let read = || load.oracle().check(&reader.read_all(&[topic], Isolation::Committed));
    let complete = try_until(secs(240), || {
        std::thread::sleep(Duration::from_millis(300));
        Some(read()).filter(Report::is_complete)
    });
    let report = complete.unwrap_or_else(read);
    if !report.is_clean() {
        let logs = relay.logs();
        let tail: Vec<&str> = logs.lines().rev().take(40).collect();
        println!("status: {:?}\nlast lines of relay's log, newest first:\n{}", relay.try_status(), tail.join("\n"));
    }
    report.assert_at_least_once();
    report
}

/// Ends every fault with one that each run has, whatever its seed: a cut of connections that are there.
pub(crate) fn cut(proxy: &Proxy) {
    proxy.heal();
    until("a connection to cut", secs(90), || (proxy.cut() > 0).then_some(()));
}

/// A topic of four partitions for a suite.
pub(crate) fn topic(kafka: &Kafka, name: &str) -> String {
    kafka.create_topic(name, 4, &[]);
    name.to_owned()
}

/// A load that writes to one topic through `url`.
pub(crate) fn load(db: &Postgres, outbox: &Outbox, topic: &str, seed: u64) -> Load {
    Load::on(&db.url("app"), outbox).topic(topic).rate(1_500.0).padding(100).seed(seed).start()
}
