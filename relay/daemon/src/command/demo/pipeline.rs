//! Turns the demo's servers into settings, and the settings into the same pipeline that `relay run` runs.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::Halt;
use super::names::{Names, SLOT};
use crate::cli::Flags;
use crate::command::refusal::Refusal;
use crate::command::run::EXIT_CONFIG;
use crate::settings::{Inputs, Loaded, load, quoted};
use crate::supervise::{self, RunOptions};

/// relay on a thread of its own; it is stopped with its value.
#[derive(Debug)]
pub(super) struct Pipeline {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u8>>,
}

/// Where the two sides are.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) url: &'a str,
    /// The environment has the password that the URL lacks.
    pub(super) has_password_in_environment: bool,
    pub(super) brokers: &'a str,
    pub(super) is_mock: bool,
    pub(super) admin_port: u16,
}

/// The settings; the user's own `--set` come last and win.
pub(super) fn settings(flags: &Flags, names: &Names, places: &Places<'_>) -> Result<Loaded, Halt> {
    let mut sets = vec![
        format!("name={}", quoted(&names.pipeline)),
        format!("source.url={}", quoted(places.url)),
        format!("source.log.slot={SLOT}"),
        format!("source.log.publication={SLOT}"),
        format!("outbox=[{{ table = {} }}]", quoted(&names.outbox())),
        format!("delivery.checkpoint_topic={}", quoted(&names.checkpoint_topic)),
        format!("delivery.dlq_topic={}", quoted(&names.dlq_topic)),
        "delivery.on_poison=dlq".to_owned(),
        format!("sink.kafka.brokers={}", quoted(places.brokers)),
        format!("admin.listen=127.0.0.1:{}", places.admin_port),
        "shutdown.grace=10s".to_owned(),
        // The mock cluster cannot be asked for a topic's settings, and there is nobody to be warned of that.
        format!("log.level={}", if places.is_mock { "warn,relay_kafka=error" } else { "warn" }),
    ];
    if places.has_password_in_environment {
        sets.push("source.password_env=PGPASSWORD".to_owned());
    }
    sets.extend(flags.set.iter().cloned());
    load(&Inputs { files: Vec::new(), variables: Vec::new(), sets }).map_err(|report| {
        eprint!("{}", report.text(flags.is_coloured(std::io::stderr().is_terminal())));
        Halt::Told(EXIT_CONFIG)
    })
}

// === impl Pipeline ===

impl Pipeline {
    pub(super) fn start(loaded: Loaded) -> Result<Self, Refusal> {
        let stop = Arc::new(AtomicBool::new(false));
        let options = RunOptions { stop: Some(Arc::clone(&stop)), ..RunOptions::default() };
        let run = move || supervise::run(&loaded, &options);
        let thread = std::thread::Builder::new().name("demo-relay".into()).spawn(run);
        let thread = thread.map_err(|error| Refusal::refused(format!("start a thread: {error}"), ""))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    pub(super) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Lets it finish what is in flight. Returns its exit code.
    pub(super) fn stop(&mut self) -> u8 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map_or(0, |thread| thread.join().unwrap_or(1))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
    }
}
