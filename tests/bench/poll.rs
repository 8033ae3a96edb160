//! Turns a table of committed rows into the time that polling takes to publish them, beside a COPY of the same rows to /dev/null.

use std::time::{Duration, Instant};

use postgres::NoTls;
use relay_tests::relay::Builder;
use relay_tests::{Outbox, secs};

use crate::backlog::{Backlog, Shape};
use crate::cpu::Meter;
use crate::servers::Servers;
use crate::settings::Settings;
use crate::watcher::Watcher;
use crate::watermarks::Watermarks;
use crate::{copy, pace, relay};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    /// Rows a second of each round: COPY, then polling with the rows kept.
    pub(crate) rounds: Vec<(f64, f64)>,
    /// relay's CPU time a row in microseconds, and its peak memory in MiB, rows kept.
    pub(crate) cost: Option<(f64, f64)>,
    /// Rows a second of each way to mark.
    pub(crate) marking: Vec<(&'static str, f64)>,
    /// p50 and p99 in milliseconds at 200 events a second, without and with LISTEN.
    pub(crate) latency: Vec<(&'static str, f64, f64)>,
    /// Percent of a core and statements a second while idle.
    pub(crate) idle: Option<(f64, f64)>,
    /// p50 of a poll in milliseconds before and after rows were written beside an open transaction.
    pub(crate) beside_open: Option<(f64, f64)>,
}

const PARTITIONS: i32 = 4;
/// Events a second of the latency rounds.
const RATE: u64 = 200;
/// Seconds at the start of each latency round that do not count.
const WARM_UP: u64 = 2;

/// Everything about polling.
pub(crate) fn measure(settings: &Settings, servers: &Servers) -> Result<Polled, String> {
    println!("\n# poll");
    let mut polled = Polled::default();
    let backlog = Backlog::write(&servers.db, &Shape::polled(settings.rows));
    servers.db.prepare_for_poll(&backlog.outbox);
    for round in 0..settings.rounds {
        let mut pair = (0.0, 0.0);
        for step in 0..2 {
            if (step + round) % 2 == 0 {
                pair.0 = copy(servers, &backlog)?;
                println!("poll {}: COPY {:.0} rows/s", round + 1, pair.0);
            } else {
                let (rate, cpu, rss) = drain(servers, &backlog, &format!("keep_{round}"), "")?;
                println!("poll {}: relay {rate:.0} rows/s, {cpu:.2} us/row, {rss:.1} MiB", round + 1);
                pair.1 = rate;
                let before = polled.cost.unwrap_or((0.0, 0.0));
                polled.cost = Some((before.0 + cpu / settings.rounds as f64, before.1.max(rss)));
            }
        }
        polled.rounds.push(pair);
    }
    let table = &backlog.outbox.table;
    servers.db.sql(&format!("ALTER TABLE {table} ADD COLUMN done timestamptz; GRANT UPDATE ON {table} TO relay"));
    // The claims' own order has an index of the rows without a mark.
    servers
        .db
        .sql(&format!("CREATE INDEX {}_open ON {table} (seq) WHERE done IS NULL; ANALYZE {table}", backlog.outbox.pipeline));
    let claim = "order = \"claim(seq)\"\nmatch = \"done is null\"\n";
    for (name, keys) in [
        ("tick, update", "after_publish = \"update:done=now()\"".to_owned()),
        ("claim, update", format!("{claim}after_publish = \"update:done=now()\"")),
        ("claim, delete", format!("{claim}after_publish = \"delete\"")),
        ("tick, delete", "after_publish = \"delete\"".to_owned()),
    ] {
        servers.db.sql(&format!("UPDATE {table} SET done = NULL WHERE done IS NOT NULL"));
        if servers.db.sql(&format!("SELECT count(*) FROM {table}")).number() == 0 {
            backlog.write_again(&servers.db);
        }
        servers.db.sql(&format!("VACUUM (FULL, ANALYZE) {table}"));
        let pipeline = name.replace([',', ' '], "");
        let (rate, _, _) = drain(servers, &backlog, &pipeline, &keys)?;
        println!("poll, {name}: {rate:.0} rows/s");
        polled.marking.push((name, rate));
    }
    backlog.remove(&servers.db);
    for (name, notify) in [("without LISTEN", false), ("with LISTEN", true)] {
        let (p50, p99) = latency(settings, servers, notify)?;
        println!("poll, latency {name}: p50 {p50:.2} ms, p99 {p99:.2} ms");
        polled.latency.push((name, p50, p99));
    }
    polled.idle = Some(idle(servers)?);
    polled.beside_open = Some(beside_open(settings, servers)?);
    Ok(polled)
}

/// PostgreSQL's own way of reading the rows in order and throwing them away.
fn copy(servers: &Servers, backlog: &Backlog) -> Result<f64, String> {
    let sql = format!("COPY (SELECT * FROM {} ORDER BY seq) TO STDOUT", backlog.outbox.table);
    let took = copy::copy_out(servers, &[sql])?;
    Ok(backlog.rows as f64 / took.as_secs_f64())
}

/// Publishes the table once; rows a second from the first look on, CPU a row, peak memory.
fn drain(servers: &Servers, backlog: &Backlog, name: &str, keys: &str) -> Result<(f64, f64, f64), String> {
    let [topic] = backlog.topics.as_slice() else { return Err("one topic is wanted".to_owned()) };
    servers.fresh_topic(topic, PARTITIONS);
    let marks = Watermarks::of(&servers.kafka.brokers(), &backlog.topics, PARTITIONS)?;
    let builder = polling(servers, name, &backlog.outbox, keys);
    let mut relay = builder.spawn();
    relay.until_state("streaming", secs(30));
    let start = Instant::now();
    let limit = secs(120 + backlog.rows / 2_000);
    let last = loop {
        let gained = marks.gained();
        if gained >= backlog.rows {
            break (Instant::now(), gained);
        }
        if !relay.process().is_running() || start.elapsed() > limit {
            return Err(format!("{gained} of {} rows\n{}", backlog.rows, relay.process().log_tail()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let cpu = relay.cpu_time().as_secs_f64() * 1e6 / backlog.rows as f64;
    let rss = relay.peak_rss_bytes() as f64 / 1_048_576.0;
    if last.1 > backlog.rows {
        println!("relay wrote {} records for {} rows", last.1, backlog.rows);
    }
    if !keys.is_empty() {
        until_marked(servers, backlog, keys)?;
    }
    // Rows that were marked and published: the marks are part of the work.
    let end = if keys.is_empty() { last.0 } else { Instant::now() };
    relay::stop(&mut relay);
    // From the first look on: the time until the first row is the server's sort, and counts for COPY too.
    Ok((backlog.rows as f64 / (end - start).as_secs_f64(), cpu, rss))
}

fn until_marked(servers: &Servers, backlog: &Backlog, keys: &str) -> Result<(), String> {
    let table = &backlog.outbox.table;
    let open = if keys.contains("delete") { String::new() } else { " WHERE done IS NULL".to_owned() };
    let left = format!("SELECT EXISTS (SELECT FROM {table}{open})::int");
    let end = Instant::now() + secs(300);
    while servers.db.sql(&left).number() > 0 {
        if Instant::now() > end {
            return Err("the rows are not marked after 5 minutes".to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn polling(servers: &Servers, name: &str, outbox: &Outbox, keys: &str) -> Builder {
    let entry = format!("[[outbox]]\ntable = {:?}\n{keys}", outbox.table);
    Builder::new(name)
        .url(&servers.db.url("relay"))
        .brokers(&servers.kafka.brokers())
        .toml("source.mode = \"poll\"")
        .toml(&entry)
        .binary(&servers.relay)
}

/// From INSERT to consumer at 200 events a second.
fn latency(settings: &Settings, servers: &Servers, notify: bool) -> Result<(f64, f64), String> {
    let name = if notify { "pollnotified" } else { "polltimed" };
    let topic = format!("outbox.event.{name}");
    servers.fresh_topic(&topic, PARTITIONS);
    let outbox = servers.db.prepare_outbox(name);
    servers.db.prepare_for_poll(&outbox);
    let watcher = Watcher::start(&servers.kafka.brokers(), &topic, PARTITIONS)?;
    let builder = polling(servers, name, &outbox, "");
    let builder = if notify { builder.toml("source.poll.notify = \"outbox\"") } else { builder };
    let mut relay = builder.spawn();
    let mut client = postgres::Client::connect(&servers.db.url("app"), NoTls).map_err(|e| format!("connect: {e:?}"))?;
    let tell = if notify { ", pg_notify('outbox', '')" } else { "" };
    let insert = format!(
        "WITH row AS (INSERT INTO {} (aggregate_type, key, type, payload) VALUES ('{name}', 'k', 'made', $1::text::jsonb) RETURNING id) \
         SELECT 1{tell} FROM row",
        outbox.table
    );
    let insert = client.prepare(&insert).map_err(|e| format!("prepare the INSERT: {e:?}"))?;
    let mut send = |n: u64| client.query(&insert, &[&pace::payload(n)]).map(drop).map_err(|e| format!("insert: {e:?}"));
    let flowing = watcher.until_flowing(secs(60), || send(0));
    flowing.map_err(|e| format!("{e}\n{}", relay.process().log_tail()))?;
    let events = (settings.seconds + WARM_UP) * RATE;
    pace::run_at(RATE, events, send)?;
    let mut ages = watcher.finish(events, WARM_UP * RATE)?;
    relay::stop(&mut relay);
    ages.sort_unstable();
    let at = |share: f64| ages.get(((ages.len() as f64 * share) as usize).min(ages.len() - 1)).map_or(f64::NAN, ms);
    Ok((at(0.5), at(0.99)))
}

fn ms(age: &Duration) -> f64 {
    age.as_secs_f64() * 1e3
}

/// A poller with nothing to do: its share of a core, and the statements a second that it asks.
fn idle(servers: &Servers) -> Result<(f64, f64), String> {
    let outbox = servers.db.prepare_outbox("pollidle");
    servers.db.prepare_for_poll(&outbox);
    let mut relay = polling(servers, "pollidle", &outbox, "").spawn();
    relay.until_state("streaming", secs(30));
    std::thread::sleep(secs(3));
    let (meter, start) = (Meter::start(relay.process().pid()), Instant::now());
    std::thread::sleep(secs(10));
    let percent = meter.spent().as_secs_f64() * 100.0 / start.elapsed().as_secs_f64();
    relay::stop(&mut relay);
    // The server's own log counts, for sessions that begin from now on; writing it is not in the share above.
    servers.db.sql("ALTER ROLE relay SET log_statement = 'all'");
    let mut relay = polling(servers, "pollidle", &outbox, "").spawn();
    relay.until_state("streaming", secs(30));
    std::thread::sleep(secs(3));
    let statements = || servers.db.logs().matches("statement: ").count();
    let (start, before) = (Instant::now(), statements());
    std::thread::sleep(secs(10));
    let rate = (statements() - before) as f64 / start.elapsed().as_secs_f64();
    relay::stop(&mut relay);
    servers.db.sql("ALTER ROLE relay RESET log_statement");
    Ok((percent, rate))
}

/// The tick query for a few new rows, before and after many were written while one transaction stayed open.
fn beside_open(settings: &Settings, servers: &Servers) -> Result<(f64, f64), String> {
    let outbox = servers.db.prepare_outbox("pollopen");
    servers.db.prepare_for_poll(&outbox);
    let topic = "outbox.event.pollopen".to_owned();
    servers.fresh_topic(&topic, PARTITIONS);
    let table = &outbox.table;
    let insert = |rows: u64| {
        format!(
            "INSERT INTO {table} (aggregate_type, key, type, payload) SELECT 'pollopen', 'k' || n % 100, 'made', \
             jsonb_build_object('n', n, 'pad', repeat('x', 280)) FROM generate_series(1, {rows}) AS n"
        )
    };
    let mut open = postgres::Client::connect(&servers.db.url("app"), NoTls).map_err(|e| format!("connect: {e:?}"))?;
    open.batch_execute(&format!("BEGIN; {}", insert(1))).map_err(|e| format!("the open transaction: {e:?}"))?;
    let marks = Watermarks::of(&servers.kafka.brokers(), &[topic], PARTITIONS)?;
    let mut relay = polling(servers, "pollopen", &outbox, "").spawn();
    relay.until_state("streaming", secs(30));
    let mut published = 0;
    let mut until = |rows: u64| -> Result<(), String> {
        published += rows;
        let end = Instant::now() + secs(300);
        while marks.gained() < published {
            if Instant::now() > end {
                return Err(format!("{} of {published} rows beside an open transaction", marks.gained()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    let one_by_one = |until: &mut dyn FnMut(u64) -> Result<(), String>| -> Result<f64, String> {
        let mut took = Vec::new();
        for _ in 0..50 {
            servers.db.sql(&insert(5));
            let start = Instant::now();
            until(5)?;
            took.push(start.elapsed());
        }
        took.sort_unstable();
        Ok(ms(&took[took.len() / 2]))
    };
    let before = one_by_one(&mut until)?;
    let mut left = settings.rows;
    while left > 0 {
        let rows = left.min(50_000);
        servers.db.sql(&insert(rows));
        left -= rows;
    }
    until(settings.rows)?;
    let after = one_by_one(&mut until)?;
    relay::stop(&mut relay);
    Ok((before, after))
}
