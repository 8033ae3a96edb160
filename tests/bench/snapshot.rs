//! Turns a table into the time that its snapshot takes to reach Kafka, beside a COPY of the same table to /dev/null and a bare producer.

use std::time::{Duration, Instant};

use relay_tests::relay::Builder;
use relay_tests::secs;

use crate::backlog::drop_slot;
use crate::copy::copy_out;
use crate::cpu::Meter;
use crate::servers::Servers;
use crate::settings::Settings;
use crate::watermarks::Watermarks;
use crate::{producer, relay};

/// What came of one number of connections, all rounds together.
#[derive(Debug)]
pub(crate) struct Snapshotted {
    /// Connections that read at once, of either side.
    pub(crate) connections: u64,
    /// Rows a second of COPY.
    pub(crate) copy: f64,
    /// Rows a second of relay, from the state `snapshot` to the last record in Kafka.
    pub(crate) relay: f64,
    /// Rows a second of a bare producer that sends relay's records: no more than this goes into the broker on this machine.
    pub(crate) bare: f64,
    /// relay's CPU time a row in microseconds.
    pub(crate) cpu_us: f64,
    /// The broker's.
    pub(crate) broker_us: f64,
    /// Its most memory.
    pub(crate) rss_bytes: u64,
}

const TABLE: &str = "public.shelf";
const TOPIC: &str = "bench.public.shelf";
const PARTITIONS: i32 = 4;
/// The topic of the bare producer, and the most records that it holds in memory.
const BARE: &str = "bare";
const BARE_ROWS: u64 = 1_000_000;
/// Connections to compare with.
const CONNECTIONS: [u64; 2] = [1, 2];

/// Five times `RELAY_BENCH_ROWS` rows of about 100 bytes.
pub(crate) fn measure(settings: &Settings, servers: &Servers) -> Result<Vec<Snapshotted>, String> {
    println!("\n# snapshot");
    let rows = settings.rows * 5;
    let statements = [
        format!(
            "CREATE TABLE {TABLE} (id bigint PRIMARY KEY, owner integer NOT NULL, title text NOT NULL, price numeric(10,2) NOT NULL, \
             added_at timestamptz NOT NULL)"
        ),
        format!(
            "INSERT INTO {TABLE} SELECT i, i % 100000, 'a book that nobody has read yet, ' || i, 9.99 + i % 90, \
             '2026-01-02 03:04:05.678901+00'::timestamptz + i * interval '1 s' FROM generate_series(1, {rows}) AS i"
        ),
        format!("VACUUM (FREEZE, ANALYZE) {TABLE}"),
        format!("CREATE PUBLICATION relay_shelf FOR TABLE {TABLE}; GRANT SELECT ON {TABLE} TO relay"),
    ];
    for statement in &statements {
        servers.db.sql(statement);
    }
    servers.db.sql("CHECKPOINT");
    let mut found = Vec::new();
    for connections in CONNECTIONS {
        let (mut copied, mut published, mut cpu, mut broker, mut rss) =
            (Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO, 0);
        for round in 0..settings.rounds {
            for step in 0..2 {
                if (step + round) % 2 == 0 {
                    let took = copy_out(servers, &parts(servers, connections))?;
                    println!("snapshot {}: COPY on {connections}: {:.0} rows/s", round + 1, rows as f64 / took.as_secs_f64());
                    copied += took;
                } else {
                    let meter = Meter::start(servers.broker_pid);
                    let (took, spent, peak) = publish(servers, connections, rows)?;
                    broker += meter.spent();
                    println!("snapshot {}: relay on {connections}: {:.0} rows/s", round + 1, rows as f64 / took.as_secs_f64());
                    (published, cpu, rss) = (published + took, cpu + spent, peak.max(rss));
                }
            }
        }
        servers.fresh_topic(BARE, PARTITIONS);
        let bare = producer::run(servers, Some(TOPIC), BARE, rows.min(BARE_ROWS))?.flow_rate();
        println!("snapshot: the bare producer {bare:.0} rows/s");
        let all = (rows * settings.rounds) as f64;
        found.push(Snapshotted {
            connections,
            copy: all / copied.as_secs_f64(),
            relay: all / published.as_secs_f64(),
            bare,
            cpu_us: cpu.as_secs_f64() * 1e6 / all,
            broker_us: broker.as_secs_f64() * 1e6 / all,
            rss_bytes: rss,
        });
    }
    servers.db.sql(&format!("DROP PUBLICATION relay_shelf; DROP TABLE {TABLE}"));
    servers.kafka.delete_topic(TOPIC);
    Ok(found)
}

/// The table in as many statements as there are connections.
fn parts(servers: &Servers, connections: u64) -> Vec<String> {
    if connections == 1 {
        return vec![format!("COPY {TABLE} TO STDOUT")];
    }
    let blocks = servers.db.sql(&format!("SELECT pg_relation_size('{TABLE}') / 8192")).number().unsigned_abs();
    let bound = |part: u64| blocks * part / connections;
    (0..connections)
        .map(|part| {
            let to = if part + 1 == connections { u64::from(u32::MAX) - 1 } else { bound(part + 1) };
            format!("COPY (SELECT * FROM {TABLE} WHERE ctid >= '({},0)' AND ctid < '({to},0)') TO STDOUT", bound(part))
        })
        .collect()
}

/// Publishes the table once: the time, relay's CPU time, its most memory.
fn publish(servers: &Servers, connections: u64, rows: u64) -> Result<(Duration, Duration, u64), String> {
    servers.fresh_topic(TOPIC, PARTITIONS);
    let name = format!("shelf_{connections}");
    for topic in servers.kafka.topics().iter().filter(|topic| topic.starts_with(&name)) {
        servers.kafka.delete_topic(topic);
    }
    let marks = Watermarks::of(&servers.kafka.brokers(), &[TOPIC.to_owned()], PARTITIONS)?;
    let mut relay = Builder::new(&name)
        .url(&servers.db.url("relay"))
        .brokers(&servers.kafka.brokers())
        .toml(&format!(
            "format.topic_prefix = \"bench\"\nsource.log.publication = \"relay_shelf\"\n[[capture]]\ntables = [{TABLE:?}]"
        ))
        .toml(&format!("[snapshot]\nmode = \"only\"\nthreads = {connections}"))
        .binary(&servers.relay)
        .spawn();
    relay.until_state("snapshot", secs(60));
    let start = Instant::now();
    let limit = secs(120 + rows / 2_000);
    while marks.gained() < rows {
        if start.elapsed() > limit {
            return Err(format!("{} of {rows} rows after {limit:?}\n{}", marks.gained(), relay.process().log_tail()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = start.elapsed();
    // It ends by itself within a checkpoint's time; its last figures are those it had by now.
    let (cpu, peak) = (relay.cpu_time(), relay.peak_rss_bytes());
    relay::stop(&mut relay);
    drop_slot(&servers.db, &format!("relay_{name}"));
    Ok((took, cpu, peak))
}
