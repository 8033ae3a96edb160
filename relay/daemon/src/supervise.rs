//! Builds the parts from the settings, starts their threads, waits for signals, and takes everything down again.

use crate::admin::Admin;
use crate::metrics::Metrics;
use crate::monitor;
use crate::parts;
use crate::retention;
use crate::settings::{Drain, Loaded, Settings, SinkKind, SourceMode};
use crate::status::Status;
use crate::stream::{self, Control, Ended, Parts, Routes, Store, Stream};
use relay_core::checkpoint::ReadCheckpoint;
use relay_core::error::Action;
use relay_core::session::{self, Fault, Session, State};
use relay_core::window::{Limits, Window};
use relay_core::{Acks, Kind, Lsn, Sink};
use relay_postgres::Source;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// What `relay run` was told beyond the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOptions {
    /// Give up when nothing was reached for so long.
    pub(crate) start_limit: Option<Duration>,
    /// The gap to accept.
    pub(crate) accept_gap: Option<Lsn>,
    /// Takes the place of signals: once it is true the pipeline drains (`relay demo`, whose service must end first).
    pub(crate) stop: Option<Arc<AtomicBool>>,
}

/// Exit code when a dependency was not reached within the start limit.
const EXIT_UNREACHED: u8 = 69;
const EXIT_FAILURE: u8 = 1;
/// How often `RunOptions::stop` is looked at.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// Runs the pipeline until a signal or a fault ends it. Returns the exit code.
pub(crate) fn run(loaded: &Loaded, options: &RunOptions) -> u8 {
    let settings = &loaded.settings;
    let status = Status::new();
    let metrics = Arc::new(Metrics::new(settings));
    let (sender, control) = mpsc::channel();
    let admin = match Admin::bind(settings, status.clone(), Arc::clone(&metrics), sender.clone()) {
        Ok(admin) => admin,
        Err(error) => {
            tracing::error!(
                event = "admin.failed",
                error.code = Kind::AdminListen.directive().code,
                hint = error.hint(),
                "{error}"
            );
            return EXIT_FAILURE;
        }
    };
    let source = match parts::source(settings) {
        Ok(source) => source,
        Err(message) => return refused(&message),
    };
    let routes = match parts::routes(settings) {
        Ok(routes) => Arc::new(routes),
        Err(message) => return refused(&message),
    };
    tracing::info!(
        event = "relay.started",
        version = env!("CARGO_PKG_VERSION"),
        name = settings.name,
        sink = if settings.sink.kind == SinkKind::Kafka { "kafka" } else { "stdout" },
        admin = admin.addresses(),
        "relay started"
    );
    for (preset, words) in routes.notes() {
        tracing::warn!(event = "preset.note", preset, "{words}");
    }
    let grace = settings.shutdown.grace;
    let caught_up = settings.shutdown.drain == Drain::CaughtUp;
    let signals = match Signals::new(if options.stop.is_some() { &[][..] } else { &[SIGTERM, SIGINT] }) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(event = "signals.failed", error = %error, "signals cannot be received");
            return EXIT_FAILURE;
        }
    };
    let signals_of = signals.handle();
    watch_signals(signals, sender.clone(), grace, caught_up);
    if let Some(limit) = options.start_limit {
        watch_start(limit, status.clone());
    }
    if let Some(stop) = options.stop.clone() {
        let sender = sender.clone();
        start("relay-stop", move || {
            while !stop.load(Ordering::SeqCst) {
                thread::sleep(STOP_LOOK);
            }
            let _ = sender.send(Control::Drain { grace, caught_up });
        });
    }
    let pairs = (settings.source.mode == SourceMode::Log).then(|| sender.clone());
    let monitor = monitor::start(source.clone(), status.clone(), Arc::clone(&metrics), Arc::clone(&routes), pairs);
    let is_log = settings.source.mode == SourceMode::Log;
    let retention = retention::start(source.clone(), Arc::clone(&routes), status.clone(), Arc::clone(&metrics), is_log);
    let pipeline = Pipeline { settings, options, source, routes, metrics, status: status.clone(), sender };
    let code = pipeline.run(control);
    signals_of.close();
    monitor.stop();
    retention.stop();
    let left = status.progress().in_flight_events;
    if left > 0 {
        tracing::warn!(event = "shutdown.late", unacknowledged = left, "the grace ran out; these events will be sent again");
    }
    tracing::info!(event = "relay.ended", code, "relay ended");
    admin.close();
    code
}

/// What each stream of the process is built from.
struct Pipeline<'a> {
    settings: &'a Settings,
    options: &'a RunOptions,
    source: Source,
    routes: Arc<Routes>,
    metrics: Arc<Metrics>,
    status: Status,
    sender: Sender<Control>,
}

impl Pipeline<'_> {
    /// One stream after the other: a checkpoint of the other mode needs another one first.
    fn run(&self, mut control: Receiver<Control>) -> u8 {
        let is_polling = self.settings.source.mode == SourceMode::Poll;
        let mut ends_in_log = false;
        loop {
            let polling = (is_polling || ends_in_log).then(|| parts::polling(self.settings, &self.routes, ends_in_log));
            let stream = match self.stream(polling, control) {
                Ok(stream) => stream,
                Err(Fault { kind, message }) => {
                    let directive = kind.directive();
                    let Action::StopProcess(code) = directive.action else {
                        tracing::error!(event = "sink.failed", error.code = directive.code, "{message}");
                        return EXIT_FAILURE;
                    };
                    tracing::error!(event = "sink.failed", error.code = directive.code, hint = directive.hint, "{message}");
                    return code;
                }
            };
            match stream.run() {
                Ended::Code(code) => return code,
                Ended::Switch(rest) => control = rest,
            }
            ends_in_log = !ends_in_log;
        }
    }

    fn stream(
        &self,
        polling: Option<(stream::poll::Config, session::Reads)>,
        control: Receiver<Control>,
    ) -> Result<Stream, Fault> {
        let settings = self.settings;
        let limits = Limits { bytes: settings.delivery.in_flight.bytes(), events: settings.delivery.in_flight_events as usize };
        let acks = Acks::new(limits.events);
        let (sink, store, reader) = parts::sink(settings, Arc::clone(&acks))?;
        let window_events = acks.capacity();
        let (polling, reads) = polling.unzip();
        let config = parts::session(settings, &self.routes, reads.unwrap_or_default(), self.options.accept_gap);
        Ok(Stream::new(Parts {
            config: parts::stream(settings),
            session: Session::new(config, Window::new(acks, limits)),
            source: self.source.clone(),
            sink,
            store,
            reader,
            routes: Arc::clone(&self.routes),
            metrics: Arc::clone(&self.metrics),
            status: self.status.clone(),
            control,
            control_sender: self.sender.clone(),
            window_events,
            snapshots: parts::snapshot(settings, &self.routes).filter(|_| polling.is_none()),
            polling,
        }))
    }
}

fn refused(message: &str) -> u8 {
    tracing::error!(event = "config.refused", "{message}");
    78
}

/// The first signal drains, the second ends at once.
fn watch_signals(mut signals: Signals, sender: Sender<Control>, grace: Duration, caught_up: bool) {
    start("relay-signals", move || {
        let mut seen = 0;
        for signal in signals.forever() {
            seen += 1;
            if seen > 1 {
                std::process::exit(128 + signal);
            }
            tracing::info!(event = "shutdown.signal", signal, "signal received");
            let _ = sender.send(Control::Drain { grace, caught_up });
        }
    });
}

fn watch_start(limit: Duration, status: Status) {
    start("relay-start-limit", move || {
        thread::sleep(limit);
        let state = status.progress().state;
        if matches!(state, State::Connecting | State::Failed) {
            tracing::error!(event = "start.limit", limit = ?limit, "a dependency was not reached within the start limit");
            std::process::exit(EXIT_UNREACHED.into());
        }
    });
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        tracing::error!(event = "thread.failed", error = %error, "a thread cannot be started");
    }
}

/// A sink with its checkpoint store and that store's reader.
pub(crate) type SinkParts = (Box<dyn Sink + Send>, Store, Box<dyn ReadCheckpoint>);
