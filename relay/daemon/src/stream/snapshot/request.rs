//! Snapshots that somebody asks for while the stream runs: checked, owed durably, and only then acknowledged.

use crate::stream::Stream;
use crate::stream::jobs::Done;
use relay_core::Kind;
use relay_core::session::{Fault, State};
use std::fmt;
use std::sync::mpsc::Sender;

/// Something asked of the snapshots, and where the answer goes.
pub(crate) enum Request {
    /// Take one of these tables.
    Start {
        /// `schema.table`, exact.
        tables: Vec<String>,
        /// SQL condition that a row must meet.
        filter: Option<String>,
        /// Who asks.
        reply: Sender<Answer>,
    },
    /// Call all of them off.
    Stop {
        /// Who asks.
        reply: Sender<Answer>,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The snapshot of that number is owed, whatever crashes from here on.
    Started(u64),
    /// So many are called off.
    Stopped(usize),
    /// This instance does not stream.
    NotHere(String),
    /// It cannot be taken.
    Refused(Fault),
}

/// Whoever waits for a checkpoint to be durable.
#[derive(Debug)]
pub(super) struct Waiting {
    answer: Answer,
    reply: Sender<Answer>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Request::Start { .. } => "Start",
            Request::Stop { .. } => "Stop",
        })
    }
}

impl Stream {
    /// Takes a request up, or says why not.
    pub(in crate::stream) fn snapshot_requested(&mut self, request: Request) {
        let is_here = matches!(self.session.state(), State::Streaming | State::Snapshot) && self.session.is_leader();
        let reply = match &request {
            Request::Start { reply, .. } | Request::Stop { reply } => reply,
        };
        let Some(snapshots) = self.snapshots.as_mut() else {
            let message = "no table is captured by a [[capture]]: there is nothing to take a snapshot of".into();
            let _ = reply.send(Answer::Refused(Fault { kind: Kind::SnapshotRefused, message }));
            return;
        };
        if !is_here {
            let holder = self.status.slot().as_ref().and_then(|slot| slot.active_pid);
            let holder = holder.map_or_else(String::new, |pid| format!("; the slot is held by pid {pid}"));
            let _ = reply.send(Answer::NotHere(format!("this instance does not stream{holder}")));
            return;
        }
        match request {
            Request::Start { tables, filter, reply } => {
                let (source, wanted) = (self.source.clone(), std::sync::Arc::clone(&snapshots.config.captured));
                self.jobs.aside("relay-snapshot-check", move || {
                    let checked = source.check_captured(&tables, filter.as_deref(), &*wanted).map_err(|error| error.fault());
                    Done::Checked(Box::new(Checked { tables, filter, reply, result: checked }))
                });
            }
            Request::Stop { reply } => {
                let count = self.session.stop_snapshots();
                tracing::info!(event = "snapshot.stopped", count, "snapshots are called off");
                self.snapshot_owed(Answer::Stopped(count), reply);
            }
        }
    }

    /// The tables of a request were looked at.
    pub(in crate::stream) fn snapshot_checked(&mut self, checked: Checked) {
        let Checked { tables, filter, reply, result } = checked;
        if let Err(fault) = result {
            let _ = reply.send(Answer::Refused(fault));
            return;
        }
        if !matches!(self.session.state(), State::Streaming | State::Snapshot) {
            let _ = reply.send(Answer::NotHere("this instance does not stream any more".into()));
            return;
        }
        let number = self.session.request_snapshot(tables, filter);
        self.snapshot_owed(Answer::Started(number), reply);
    }

    fn snapshot_owed(&mut self, answer: Answer, reply: Sender<Answer>) {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.waiting.push(Waiting { answer, reply });
        }
        self.obey();
    }

    /// A claim begins with what is stored: a request that was not is not owed any more, whatever the record of the claim has.
    pub(in crate::stream) fn forget_waiting(&mut self) {
        for Waiting { reply, .. } in self.snapshots.iter_mut().flat_map(|snapshots| snapshots.waiting.drain(..)) {
            // Nobody may listen any more.
            let _ = reply.send(Answer::NotHere("the stream began anew before the request was stored: ask again".into()));
        }
    }

    pub(super) fn answer_waiting(&mut self) {
        if let Some(snapshots) = &mut self.snapshots
            && !snapshots.waiting.is_empty()
            && self.session.are_snapshots_stored()
        {
            for waiting in snapshots.waiting.drain(..) {
                // Nobody may listen any more.
                let _ = waiting.reply.send(waiting.answer);
            }
        }
    }
}

/// A request whose tables were looked at.
#[derive(Debug)]
pub(crate) struct Checked {
    tables: Vec<String>,
    filter: Option<String>,
    reply: Sender<Answer>,
    result: Result<(), Fault>,
}
