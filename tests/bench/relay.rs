//! Turns a backlog into the time that relay takes to publish it, and an outbox into a running relay.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use relay_tests::{Postgres, Relay, Scratch, relay, secs, wait};
use rustix::process::Signal;

use crate::backlog::{Backlog, drop_slot};
use crate::cpu::Meter;
use crate::run::{Contender, Run};
use crate::servers::Servers;
use crate::walsender::Walsender;
use crate::watermarks::Watermarks;

/// How a client reaches PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// TCP on loopback.
    Tcp,
    /// The unix socket.
    Unix,
}

/// What was seen while the backlog went through.
struct Seen {
    first: (Instant, u64),
    last: (Instant, u64),
}

// === impl Wire ===

impl Wire {
    /// The URL of role `relay`, for relay and for libpq alike.
    pub(crate) fn url(self, db: &Postgres) -> String {
        match self {
            Wire::Tcp => db.url("relay"),
            Wire::Unix => db.unix_url("relay"),
        }
    }
}

/// Publishes the backlog once, with default settings but for the guarantee, into Kafka or to standard output.
pub(crate) fn drain(
    servers: &Servers,
    backlog: &Backlog,
    url: &str,
    name: &str,
    who: Contender,
    is_stdout: bool,
) -> Result<Run, String> {
    let slot = format!("relay_{name}");
    backlog.copy_slot(&servers.db, &slot);
    let marks = match is_stdout {
        true => None,
        false => Some(Watermarks::of(&servers.kafka.brokers(), &backlog.topics, backlog.partitions)?),
    };
    let publication = &backlog.outbox.publication;
    let builder = relay::Builder::new(name).url(url).toml(&backlog.route);
    let builder = builder.toml(&format!("source.log.publication = {publication:?}"));
    let scratch = Scratch::new("bench");
    let builder = match is_stdout {
        true => builder.toml("sink.kind = \"stdout\"").binary(&silenced(servers, &scratch)),
        false => builder.brokers(&servers.kafka.brokers()).binary(&servers.relay),
    };
    let builder = match who {
        Contender::Exactly => builder.toml("delivery.guarantee = \"exactly-once\""),
        _ => builder,
    };
    if who == Contender::Exactly {
        // A slot without a checkpoint is refused.
        let init = builder.run(&["checkpoint", "init", "--yes"]);
        if !init.status.success() {
            return Err(format!("relay checkpoint init: {}", String::from_utf8_lossy(&init.stderr)));
        }
    }
    let mut walsender = Walsender::of(&servers.db, &slot);
    let broker = Meter::start(servers.broker_pid);
    let start = Instant::now();
    let mut relay = builder.spawn();
    let seen = watch(&mut relay, &mut walsender, backlog, marks.as_ref(), start);
    let (cpu, peak, broker) = (relay.cpu_time(), relay.peak_rss_bytes(), broker.spent());
    let tail = relay.process().log_tail();
    stop(&mut relay);
    drop_slot(&servers.db, &slot);
    let seen = seen.map_err(|e| format!("relay: {e}\n{tail}"))?;
    Ok(Run {
        who,
        rows: backlog.rows,
        whole: seen.last.0 - start,
        flow_rows: seen.last.1 - seen.first.1,
        flow: seen.last.0 - seen.first.0,
        cpu,
        walsender: Some(walsender.cpu()),
        broker: Some(broker),
        peak_rss_bytes: Some(peak),
    })
}

/// Ends a relay that is not needed any more; one that does not want to is killed, and that is said.
pub(crate) fn stop(relay: &mut Relay) {
    relay.process().signal(Signal::TERM);
    if wait::try_until(secs(30), || (!relay.process().is_running()).then_some(())).is_none() {
        println!("relay did not end within 30 s of SIGTERM and is killed");
        relay.kill_9();
    }
}

/// Watches until every row is in Kafka; to standard output, until the slot has confirmed the end.
fn watch(
    relay: &mut Relay,
    walsender: &mut Walsender,
    backlog: &Backlog,
    marks: Option<&Watermarks>,
    start: Instant,
) -> Result<Seen, String> {
    let limit = secs(120 + backlog.rows / 2_000);
    let mut first = None;
    loop {
        walsender.look();
        let gained = match marks {
            Some(marks) => marks.gained(),
            None if walsender.has_confirmed(&backlog.end) => backlog.rows,
            None => 0,
        };
        let now = Instant::now();
        if marks.is_none() {
            // Nothing can be counted behind standard output: the flow begins with the connection.
            first = walsender.since().map(|since| (since, 0));
        } else if first.is_none() && gained > 0 {
            first = Some((now, gained));
            // What the walsender has done by now shows how far relay had read ahead of the first record.
            let (after, ahead) = (now - start, walsender.cpu());
            println!("relay: first {gained} records after {after:.2?}, walsender at {ahead:.0?} of CPU time");
        }
        if gained >= backlog.rows {
            if gained > backlog.rows {
                println!("relay wrote {gained} records for {} rows", backlog.rows);
            }
            return Ok(Seen { first: first.unwrap_or((start, 0)), last: (now, gained) });
        }
        if !relay.process().is_running() {
            return Err(format!("it ended after {gained} of {} rows", backlog.rows));
        }
        if start.elapsed() > limit {
            return Err(format!("{gained} of {} rows after {limit:?}", backlog.rows));
        }
        std::thread::sleep(marks.map_or(Duration::from_millis(20), Watermarks::pause));
    }
}

/// A program that becomes relay with its standard output thrown away, which the harness would keep.
fn silenced(servers: &Servers, scratch: &Scratch) -> PathBuf {
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" >/dev/null\n", servers.relay.display());
    let path = scratch.write("relay-silenced", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make the script executable");
    path
}
