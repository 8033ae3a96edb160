//! Turns rows of 200 columns and values of 16 MiB into the most memory that relay needs for them, from the log and from a snapshot.

use std::time::{Duration, Instant};

use relay_tests::relay::Builder;
use relay_tests::secs;

use crate::backlog::drop_slot;
use crate::relay;
use crate::servers::Servers;
use crate::settings::Settings;
use crate::watermarks::Watermarks;

const TABLE: &str = "public.wide";
const TOPIC: &str = "bench.public.wide";
const PARTITIONS: i32 = 4;
const COLUMNS: usize = 200;
const VALUE_BYTES: u64 = 16 << 20;
/// Rows with such a value.
const LARGE_ROWS: u64 = 12;

/// Name, most memory and bytes of the largest row.
pub(crate) fn measure(settings: &Settings, servers: &Servers) -> Result<Vec<(&'static str, u64, u64)>, String> {
    println!("\n# wide");
    let rows = settings.rows / 50;
    let columns: String = (1..COLUMNS).map(|n| format!(", c{n} {}", if n % 2 == 0 { "integer" } else { "text" })).collect();
    let values: String =
        (1..COLUMNS).map(|n| if n % 2 == 0 { format!(", i + {n}") } else { format!(", 'text {n} of ' || i") }).collect();
    servers.db.sql(&format!(
        "CREATE TABLE {TABLE} (id bigint PRIMARY KEY{columns}, large text); CREATE PUBLICATION relay_wide FOR TABLE {TABLE}; \
         GRANT SELECT ON {TABLE} TO relay"
    ));
    let name = "wide";
    servers.db.sql(&format!("SELECT pg_create_logical_replication_slot('relay_{name}', 'pgoutput')"));
    servers.db.sql(&format!("INSERT INTO {TABLE} SELECT i{values} FROM generate_series(1, {rows}) AS i"));
    for n in 1..=LARGE_ROWS {
        // Hexadecimal that hardly compresses, so that it is large on its way, too.
        servers.db.sql(&format!(
            "INSERT INTO {TABLE} (id, large) SELECT {}, string_agg(md5({n}::text || g), '') FROM generate_series(1, {}) AS g",
            rows + n,
            VALUE_BYTES / 32
        ));
    }
    servers.db.sql(&format!("VACUUM (FREEZE, ANALYZE) {TABLE}"));
    let log = publish(servers, name, "never", rows + LARGE_ROWS)?;
    println!("wide: from the log {:.1} MiB", log as f64 / 1_048_576.0);
    let snapshot = publish(servers, "widesnap", "initial", rows + LARGE_ROWS)?;
    println!("wide: by snapshot {:.1} MiB", snapshot as f64 / 1_048_576.0);
    servers.db.sql(&format!("DROP PUBLICATION relay_wide; DROP TABLE {TABLE}"));
    Ok(vec![("from the log", log, VALUE_BYTES), ("by snapshot", snapshot, VALUE_BYTES)])
}

fn publish(servers: &Servers, name: &str, snapshot: &str, records: u64) -> Result<u64, String> {
    if servers.kafka.topics().iter().any(|topic| topic == TOPIC) {
        servers.kafka.delete_topic(TOPIC);
        std::thread::sleep(Duration::from_millis(1_500));
    }
    servers.kafka.create_topic(TOPIC, PARTITIONS, &[("max.message.bytes", "40000000")]);
    let marks = Watermarks::of(&servers.kafka.brokers(), &[TOPIC.to_owned()], PARTITIONS)?;
    let mut relay = Builder::new(name)
        .url(&servers.db.url("relay"))
        .brokers(&servers.kafka.brokers())
        .toml(&format!(
            "format.topic_prefix = \"bench\"\nsource.log.publication = \"relay_wide\"\n[[capture]]\ntables = [{TABLE:?}]"
        ))
        .toml(&format!("snapshot.mode = {snapshot:?}"))
        .toml("[sink.kafka.properties]\n\"message.max.bytes\" = \"40000000\"")
        .binary(&servers.relay)
        .spawn();
    let start = Instant::now();
    while marks.gained() < records {
        if start.elapsed() > secs(300) {
            return Err(format!("{} of {records} records\n{}", marks.gained(), relay.process().log_tail()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let peak = relay.peak_rss_bytes();
    relay::stop(&mut relay);
    drop_slot(&servers.db, &format!("relay_{name}"));
    Ok(peak)
}
