//! Turns arguments and environment into what is to be measured, and how long.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use relay_tests::Version;

/// What one run of the bench does.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Rows of the large backlog; the others are three tenths of it.
    pub(crate) rows: u64,
    /// How often each contender runs, in alternating order.
    pub(crate) rounds: u64,
    /// Seconds of paced load that count.
    pub(crate) seconds: u64,
    /// The server.
    pub(crate) version: Version,
    /// A release build of relay; `None` = built by the harness.
    pub(crate) binary: Option<PathBuf>,
    scenarios: Vec<Scenario>,
}

/// One question that the bench answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A backlog of ten rows a transaction over TCP into Kafka.
    Drain,
    /// The same, exactly-once beside at-least-once.
    Exactly,
    /// The same over the unix socket.
    Unix,
    /// The same over TCP into the stdout sink.
    Stdout,
    /// One row a transaction.
    Single,
    /// A thousand topics.
    Topics,
    /// Time from INSERT to consumer at 1,000 events/s.
    Latency,
    /// CPU while nothing happens.
    Idle,
    /// Everything about polling.
    Poll,
    /// Rows of eight columns in Debezium's envelope.
    Capture,
    /// The same with schemas.
    Schemas,
    /// A table that is snapshotted.
    Snapshot,
    /// Rows of 200 columns and values of 16 MiB.
    Wide,
}

// === impl Settings ===

impl Settings {
    /// Reads the names of scenarios (none = all) and `RELAY_BENCH_*`.
    pub(crate) fn read(args: &[String]) -> Result<Settings, String> {
        // Cargo adds `--bench` of its own.
        let names = args.iter().filter(|arg| !arg.starts_with("--"));
        let scenarios = names.map(|name| name.parse()).collect::<Result<Vec<Scenario>, String>>()?;
        let version = match std::env::var("RELAY_BENCH_POSTGRES").as_deref() {
            Err(_) | Ok("15") => Version::V15,
            Ok("18") => Version::V18,
            Ok(other) => return Err(format!("RELAY_BENCH_POSTGRES is 15 or 18, not {other:?}")),
        };
        let binary = std::env::var_os("RELAY_BENCH_BINARY").map(PathBuf::from);
        if let Some(path) = binary.as_ref().filter(|path| !path.is_file()) {
            return Err(format!("RELAY_BENCH_BINARY names no file: {}", path.display()));
        }
        Ok(Settings {
            rows: number("RELAY_BENCH_ROWS", 1_000_000)?.max(1_000),
            rounds: number("RELAY_BENCH_ROUNDS", 2)?.max(1),
            seconds: number("RELAY_BENCH_SECONDS", 20)?.max(1),
            version,
            binary,
            scenarios,
        })
    }

    /// Whether a scenario was asked for.
    pub(crate) fn wants(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    /// Whether one of several was.
    pub(crate) fn wants_any(&self, scenarios: &[Scenario]) -> bool {
        scenarios.iter().any(|scenario| self.wants(*scenario))
    }
}

// === impl Scenario ===

impl Scenario {
    const ALL: [Scenario; 13] = [
        Scenario::Drain,
        Scenario::Exactly,
        Scenario::Unix,
        Scenario::Stdout,
        Scenario::Single,
        Scenario::Topics,
        Scenario::Latency,
        Scenario::Idle,
        Scenario::Poll,
        Scenario::Capture,
        Scenario::Schemas,
        Scenario::Snapshot,
        Scenario::Wide,
    ];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Drain => "drain",
            Scenario::Exactly => "exactly",
            Scenario::Unix => "unix",
            Scenario::Stdout => "stdout",
            Scenario::Single => "single",
            Scenario::Topics => "topics",
            Scenario::Latency => "latency",
            Scenario::Idle => "idle",
            Scenario::Poll => "poll",
            Scenario::Capture => "capture",
            Scenario::Schemas => "schemas",
            Scenario::Snapshot => "snapshot",
            Scenario::Wide => "wide",
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Scenario, String> {
        let known = || Scenario::ALL.map(Scenario::name).join(", ");
        Scenario::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("no scenario {text:?}; there are {}", known()))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn number(name: &str, default: u64) -> Result<u64, String> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    text.replace('_', "").parse().map_err(|_| format!("{name} is not a number: {text:?}"))
}
