//! The admin listener: probes, metrics and status over HTTP, from a thread of its own.

mod address;
mod host;
mod readiness;
mod routes;
mod serve;
mod snapshot;
mod summary;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use relay_core::error::Kind;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::settings::{Secret, Settings};
use crate::status::Status;
use crate::stream::Control;
use address::{Address, Bound};
use routes::State;

/// How the listener is set up.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `admin.listen`: addresses separated by commas, `unix:/path` among them; "" = off.
    pub(crate) listen: String,
    /// `admin.hosts`.
    pub(crate) hosts: Vec<String>,
    /// `admin.not_ready_after`.
    pub(crate) not_ready_after: Duration,
    /// Pipeline name.
    pub(crate) name: String,
    /// Slot name.
    pub(crate) slot: String,
    /// `source.mode`.
    pub(crate) mode: &'static str,
    /// `delivery.guarantee`.
    pub(crate) guarantee: &'static str,
    /// `admin.token`: what a request that changes something must show.
    pub(crate) token: Option<Secret>,
}

/// The listener, answering from the moment it is bound until it is closed.
#[derive(Debug)]
pub(crate) struct Admin {
    addresses: String,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// The listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A part of `admin.listen` is not an address.
    #[error("admin.listen: `{0}` is not an address such as `127.0.0.1:9464` or `unix:/run/relay/admin.sock`")]
    Address(String),
    /// The address is taken, or not ours to take.
    #[error("admin.listen: bind {address}: {source}")]
    Bind { address: String, source: io::Error },
    /// No thread or no poll set.
    #[error("start the admin listener: {0}")]
    Start(io::Error),
}

// === impl Config ===

impl Config {
    fn of(settings: &Settings) -> Self {
        Self {
            listen: settings.admin.listen.clone(),
            hosts: settings.admin.hosts.clone(),
            not_ready_after: settings.admin.not_ready_after,
            name: settings.name.clone(),
            slot: settings.source.log.slot.clone(),
            mode: settings.source.mode.as_str(),
            guarantee: settings.delivery.guarantee.as_str(),
            token: settings.admin.token.clone(),
        }
    }
}

// === impl Admin ===

impl Admin {
    /// Binds every address of the settings and answers from now on.
    pub(crate) fn bind(
        settings: &Settings,
        status: Status,
        metrics: Arc<Metrics>,
        control: Sender<Control>,
    ) -> Result<Self, Error> {
        Self::with(Config::of(settings), status, metrics, Some(control))
    }

    fn with(config: Config, status: Status, metrics: Arc<Metrics>, control: Option<Sender<Control>>) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let addresses = Address::list(&config.listen).map_err(Error::Address)?;
        if addresses.is_empty() {
            return Ok(Self { addresses: String::new(), stop, thread: None });
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
        let bound = bind_all(&runtime, &addresses)?;
        let names: Vec<String> = bound.iter().map(Bound::name).collect();
        let state = State { config, status, metrics, control };
        let run = move || runtime.block_on(serve::serve(bound, state, stopped));
        let thread = thread::Builder::new().name("relay-admin".into()).spawn(run).map_err(Error::Start)?;
        Ok(Self { addresses: names.join(","), stop, thread: Some(thread) })
    }

    /// The addresses it answers on, separated by commas, with the ports that the system chose; "" when it is off.
    pub(crate) fn addresses(&self) -> &str {
        &self.addresses
    }

    /// Takes no more connections, lets those that are being answered finish, and waits for the thread, for a second or two at most.
    pub(crate) fn close(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(event = "admin.panicked", "the admin listener ended with a panic");
        }
    }
}

fn bind_all(runtime: &Runtime, addresses: &[Address]) -> Result<Vec<Bound>, Error> {
    let _entered = runtime.enter();
    let bind = |address: &Address| address.bind().map_err(|source| Error::Bind { address: address.to_string(), source });
    addresses.iter().map(bind).collect()
}

// === impl Error ===

impl Error {
    /// The cure.
    #[expect(clippy::unused_self, reason = "each of them has the same one")]
    pub(crate) fn hint(&self) -> &'static str {
        Kind::AdminListen.directive().hint
    }
}
