//! Turns a configuration into a running relay, the real binary, that tests may watch, freeze, stop and kill.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use toml::{Table, Value};

use crate::fetch::target_dir;
use crate::http;
use crate::kafka::Kafka;
use crate::outbox::Outbox;
use crate::ports::free_port;
use crate::postgres::Postgres;
use crate::process::{Exit, Process, run};
use crate::scratch::Scratch;
use crate::wait::{secs, try_until};

/// What test builds have besides: failpoints do nothing until a test plans something. Optimised builds, which measure, have none.
const TEST_FEATURES: &[&str] = &["failpoints"];
/// How the end of a process by a failpoint begins in its log.
const FAILPOINT: &str = "failpoint ";
/// The signal that a failpoint's `abort` ends a process with.
const SIGABRT: i32 = 6;

/// What a relay is to be before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    config: Table,
    args: Vec<String>,
    env: Vec<(String, String)>,
    features: Vec<String>,
    binary: Option<PathBuf>,
}

/// A failpoint that did what was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The line that it left in the log, from the point's name on.
    pub line: String,
    /// How often each point had been passed by then.
    pub passes: HashMap<String, u64>,
}

/// A relay with a configuration file, an admin port and a log of its own. Gone on drop.
#[derive(Debug)]
pub struct Relay {
    builder: Builder,
    binary: PathBuf,
    config: PathBuf,
    port: u16,
    process: Process,
    scratch: Scratch,
}

// === impl Builder ===

impl Builder {
    /// A relay by name, with nothing but an admin port.
    pub fn new(name: &str) -> Self {
        let builder = Self { config: Table::new(), args: Vec::new(), env: Vec::new(), features: Vec::new(), binary: None };
        builder.toml(&format!("name = {name:?}"))
    }

    /// `source.url`.
    pub fn url(self, url: &str) -> Self {
        self.toml(&format!("source.url = {url:?}"))
    }

    /// `sink.kafka.brokers`.
    pub fn brokers(self, brokers: &str) -> Self {
        self.toml(&format!("sink.kafka.brokers = {brokers:?}"))
    }

    /// One more `[[outbox]]`; each call adds one.
    pub fn table(mut self, table: &str) -> Self {
        let list = self.config.entry("outbox").or_insert_with(|| Value::Array(Vec::new()));
        let entry = Table::from_iter([("table".to_owned(), Value::from(table))]);
        list.as_array_mut().expect("outbox is a list").push(Value::Table(entry));
        self
    }

    /// Settings as they would stand in relay.toml, merged over those so far; a list replaces a list.
    #[track_caller]
    pub fn toml(mut self, text: &str) -> Self {
        let over: Table = text.parse().unwrap_or_else(|e| panic!("the test's settings are no TOML: {e}\n{text}"));
        merge(&mut self.config, over);
        self
    }

    /// One more argument of `relay run`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A cargo feature of the binary, such as one with failpoints.
    pub fn feature(mut self, feature: &str) -> Self {
        self.features.push(feature.to_owned());
        self
    }

    /// Another program in place of the workspace's relay.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// The file that [`Builder::spawn`] would write, for an admin port.
    pub fn file(&self, port: u16) -> String {
        let mut config = self.config.clone();
        let admin = Table::from_iter([("listen".to_owned(), Value::from(format!("127.0.0.1:{port}")))]);
        let mut defaults = Table::from_iter([("admin".to_owned(), Value::Table(admin))]);
        merge(&mut defaults, std::mem::take(&mut config));
        toml::to_string(&defaults).expect("the settings can be written as TOML")
    }

    /// Builds the binary if need be, writes the file and starts `relay run`.
    pub fn spawn(self) -> Relay {
        let features: Vec<&str> = self.features.iter().map(String::as_str).collect();
        let binary = self.binary.clone().unwrap_or_else(|| binary(&features));
        let scratch = Scratch::new("run");
        let port = free_port();
        let config = scratch.write("relay.toml", &self.file(port));
        let process = launch(&self, &binary, &config, &scratch);
        println!("relay pid {} on admin port {port}", process.pid());
        Relay { builder: self, binary, config, port, process, scratch }
    }

    /// Runs a one-shot command such as `["check", "--json"]` on the same file, to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        let features: Vec<&str> = self.features.iter().map(String::as_str).collect();
        let binary = self.binary.clone().unwrap_or_else(|| binary(&features));
        let scratch = Scratch::new("run");
        let config = scratch.write("relay.toml", &self.file(free_port()));
        one_shot(self, &binary, &config, args)
    }
}

// === impl Relay ===

impl Relay {
    /// A relay for one outbox table: role `relay`, the direct listener, the pipeline's own name.
    pub fn on(db: &Postgres, kafka: &Kafka, outbox: &Outbox) -> Builder {
        Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table)
    }

    /// The admin port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The process, for signals, CPU time and memory.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for a `state` of /status, such as `streaming`, `standby` or `failed`; panics with status and log.
    #[track_caller]
    pub fn until_state(&mut self, state: &str, limit: Duration) -> &mut Self {
        let start = Instant::now();
        let reached = try_until(limit, || {
            let is_there = self.try_status().is_some_and(|status| status["state"] == state);
            (is_there || !self.process.is_running()).then_some(is_there)
        });
        if reached != Some(true) {
            let (status, log) = (self.try_status(), self.process.log_tail());
            panic!("relay was not {state} within {limit:?}; running: {}\n{status:?}\n{log}", self.process.is_running());
        }
        println!("relay pid {} is {state} after {:.2?}", self.process.pid(), start.elapsed());
        self
    }

    /// Waits until /readyz answers 200; panics with its answer and the log.
    #[track_caller]
    pub fn until_ready(&mut self, limit: Duration) -> &mut Self {
        let is_ready = |port| http::get(port, "/readyz").is_ok_and(|answer| answer.status == 200);
        if try_until(limit, || is_ready(self.port).then_some(())).is_none() {
            let answer = http::get(self.port, "/readyz?verbose");
            panic!("relay was not ready within {limit:?}: {answer:?}\n{}", self.process.log_tail());
        }
        self
    }

    /// GET of an admin path.
    #[track_caller]
    pub fn get(&self, path: &str) -> http::Answer {
        http::get(self.port, path).unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.process.log_tail()))
    }

    /// /status as JSON.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let body = self.get("/status").body;
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("/status is no JSON: {e}\n{body}"))
    }

    /// /status, or `None` while nobody answers.
    pub fn try_status(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&http::get(self.port, "/status").ok()?.body).ok()
    }

    /// /metrics as text.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.get("/metrics").body
    }

    /// The sum of a metric over its labels; `series` may name some: `x_total` or `x_total{kind="a"}`.
    #[track_caller]
    pub fn metric(&self, series: &str) -> Option<f64> {
        sum_of(&self.metrics(), series)
    }

    /// All that it has logged since its first start.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    /// SIGKILL.
    pub fn kill_9(&mut self) -> Exit {
        self.process.kill_9()
    }

    /// SIGTERM, and the exit code with the time it took; panics after a minute.
    #[track_caller]
    pub fn terminate(&mut self) -> Exit {
        self.process.end_by(Signal::TERM, secs(60))
    }

    /// Waits for it to leave by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Exit {
        self.process.wait(limit)
    }

    /// SIGSTOP: the connections stay, nobody is home.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// User and system CPU time of this start.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// The most memory resident in this start.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.process.peak_rss_bytes()
    }

    /// Starts it again, on the same file and port, after it has ended; kills it first when it has not.
    pub fn start_again(&mut self) -> &mut Self {
        if self.process.is_running() {
            self.process.kill_9();
        }
        self.process = launch(&self.builder, &self.binary, &self.config, &self.scratch);
        println!("relay again, pid {} on admin port {}", self.process.pid(), self.port);
        self
    }

    /// Changes the file for the next start or reload.
    #[track_caller]
    pub fn reconfigure(&mut self, toml: &str) -> &mut Self {
        self.builder = self.builder.clone().toml(toml);
        self.scratch.write("relay.toml", &self.builder.file(self.port));
        self
    }

    /// What its failpoints do from the next start on, as `RELAY_FAILPOINTS` has it; nothing when empty. See docs/failpoints.md.
    pub fn plan(&mut self, failpoints: &str) -> &mut Self {
        self.builder.env.retain(|(name, _)| name != "RELAY_FAILPOINTS");
        self.builder.env.push(("RELAY_FAILPOINTS".to_owned(), failpoints.to_owned()));
        self
    }

    /// Waits until a failpoint has ended it, and answers what that left in the log; `None` when it was still running then.
    #[track_caller]
    pub fn until_aborted(&mut self, limit: Duration) -> Option<Fired> {
        try_until(limit, || (!self.process.is_running()).then_some(()))?;
        let exit = self.process.wait(limit);
        let fired = self.fired().pop();
        assert!(exit.signal == Some(SIGABRT) && fired.is_some(), "no failpoint ended it: {exit:?}\n{}", self.process.log_tail());
        fired
    }

    /// What its failpoints have done since its first start.
    pub fn fired(&self) -> Vec<Fired> {
        self.process.log().lines().filter_map(|line| Fired::parse(line.strip_prefix(FAILPOINT)?)).collect()
    }

    /// Runs a one-shot command beside it, on its file.
    pub fn run(&self, args: &[&str]) -> Output {
        one_shot(&self.builder, &self.binary, &self.config, args)
    }
}

// === impl Fired ===

impl Fired {
    fn parse(line: &str) -> Option<Self> {
        let counts = line.split_once("passed: ").map_or("", |(_, counts)| counts);
        let count = |text: &str| {
            let (name, n) = text.split_once(' ')?;
            Some((name.to_owned(), n.parse().ok()?))
        };
        line.contains(" at pass ").then(|| Self { line: line.to_owned(), passes: counts.split(", ").filter_map(count).collect() })
    }
}

/// The workspace's binary, built once per test process and set of features, in the profile of the tests.
///
/// `RELAY_TEST_BIN` names a finished one instead, when no features are asked for.
pub fn binary(features: &[&str]) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    if let Some(path) = std::env::var_os("RELAY_TEST_BIN").filter(|_| features.is_empty()) {
        return PathBuf::from(path);
    }
    let features = [features, if cfg!(debug_assertions) { TEST_FEATURES } else { &[] }].concat().join(",");
    let mut built = BUILT.lock().expect("the list of binaries is not poisoned");
    built.get_or_insert_default().entry(features.clone()).or_insert_with(|| build(&features)).clone()
}

/// Whether a binary knows failpoints: the name of their variable is in it.
pub fn has_failpoints(binary: &Path) -> bool {
    let bytes = std::fs::read(binary).unwrap_or_else(|e| panic!("read {}: {e}", binary.display()));
    let name = b"RELAY_FAILPOINTS";
    bytes.windows(name.len()).any(|window| window == name)
}

/// A binary with just these features, as a release has them; see [`binary`].
pub fn plain_binary() -> PathBuf {
    build("")
}

fn build(features: &str) -> PathBuf {
    let start = Instant::now();
    let exe = std::env::current_exe().expect("a test knows its own path");
    let folder = exe.ancestors().nth(2).expect("a test lies two folders below its profile's");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "relay", "--bin", "relay", "--profile", profile]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target_dir());
    if !features.is_empty() {
        command.args(["--features", features]);
    }
    run("build the relay under test", &mut command);
    // A copy of our own: a build with other features would replace the original while tests run.
    let kept = folder.join("relay-test-bin");
    std::fs::create_dir_all(&kept).expect("create a folder for binaries");
    let name = format!("relay-{}-{}", if features.is_empty() { "plain" } else { features }, std::process::id());
    let (half, path) = (kept.join(format!("{name}.half")), kept.join(name));
    std::fs::copy(folder.join("relay"), &half).expect("copy the binary");
    std::fs::rename(&half, &path).expect("name the copy");
    crate::watchdog::remove_at_end(&path);
    println!("built relay ({profile}, features [{features}]) in {:.1?}", start.elapsed());
    path
}

fn launch(builder: &Builder, binary: &Path, config: &Path, scratch: &Scratch) -> Process {
    let mut command = Command::new(binary);
    command.args(["run", "-c"]).arg(config).args(&builder.args).current_dir(scratch.path());
    command.envs(builder.env.iter().cloned());
    Process::start("relay", &mut command, &scratch.join("relay.log"), "KILL")
}

fn one_shot(builder: &Builder, binary: &Path, config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary);
    command.args(args).arg("-c").arg(config).envs(builder.env.iter().cloned()).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("start {}: {e}", binary.display()))
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Sums the samples of a metric whose labels contain all those asked for.
fn sum_of(metrics: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let wanted: Vec<&str> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    let sample = |line: &str| {
        let (left, value) = line.rsplit_once(' ')?;
        let (its_name, its_labels) = left.split_once('{').unwrap_or((left, ""));
        let is_it = its_name == name && wanted.iter().all(|label| its_labels.contains(label));
        is_it.then(|| value.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(sample).reduce(|a, b| a + b)
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
