//! Where keys live after a take-over from another client, and what an empty one means.

use super::{Both, load, records_once_there, spawn};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::versions::Version;

#[test]
fn keys_stay_in_the_partitions_of_another_client() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("placed");
    let kafka = Kafka::shared();
    // The partitions of `k1` to `k8`: CRC-32 and FNV-1a as those clients write them, Java's murmur2 by default.
    let expected = [("murmur2_random", murmur2 as fn(&[u8]) -> u32), ("consistent_random", crc32), ("fnv1a_random", fnv1a)];
    for (partitioner, hash) in expected {
        let topic = format!("placed.{partitioner}");
        kafka.create_topic(&topic, 8, &[]);
        db.sql(&format!("CREATE PUBLICATION relay_placed_{partitioner} FOR TABLE {} WITH (publish = 'insert')", outbox.table));
        let pipeline = format!("placed_{partitioner}");
        let entry = format!("[[outbox]]\ntable = {:?}\ntopic = \"placed.{partitioner}\"", outbox.table);
        let relay = spawn(&db, &pipeline, &format!("sink.kafka.partitioner = {partitioner:?}\n{entry}"));
        db.sql(&format!(
            "INSERT INTO {} (topic, key, type, payload) SELECT 'x', 'k' || n, 'T', '{{}}' FROM generate_series(1, 8) n",
            outbox.table
        ));
        let placed = records_once_there(&topic, 8);
        for record in &placed {
            let key = record.key.as_deref().expect("a key");
            assert_eq!(record.partition, (hash(key) % 8) as i32, "{partitioner}: {record:?}");
        }
        let mut partitions: Vec<_> =
            placed.iter().map(|record| (record.key_text().unwrap_or_default(), record.partition)).collect();
        partitions.sort_unstable();
        println!("{partitioner}: {partitions:?}");
        drop(relay);
    }
}

/// As zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)));
    !bytes.iter().fold(!0, step)
}

/// 32 bits, the sign taken off as Sarama's `hash % partitions` made positive does.
fn fnv1a(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)) as i32;
    hash.unsigned_abs()
}

/// Kafka's own, for keys shorter than four bytes, which is all that is needed here.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    for (at, byte) in bytes.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[test]
fn an_empty_key_is_as_the_preset_says() {
    let both = Both::start("keyless", Version::V15, "");
    both.insert("key, type, payload", &["'', 'T', '{}'", "NULL, 'T', '{}'"]);
    for records in both.records(2) {
        let mut keys: Vec<Option<Vec<u8>>> = records.into_iter().map(|record| record.key).collect();
        keys.sort();
        assert_eq!(keys, [None, Some(Vec::new())], "preset relay: an empty key is a key");
    }
    let db = &both.db;
    db.sql("CREATE SCHEMA brighter; GRANT USAGE ON SCHEMA brighter TO relay");
    load(db, "brighterkeys", "brighter", "brighter.outbox", "log");
    let entry = "[[outbox]]\npreset = \"brighter\"\ntable = \"brighter.outbox\"\ntopic = \"keyless.{topic}\"";
    let relay = spawn(db, "brighterkeys", entry);
    db.sql(
        "INSERT INTO brighter.outbox (messageid, topic, timestamp, partitionkey, body) \
            VALUES ('1', 'brighter', now(), '', '{}'), ('2', 'brighter', now(), NULL, '{}'), ('3', 'brighter', now(), 'p', '{}')",
    );
    let mut keys: Vec<_> = records_once_there("keyless.brighter", 3).into_iter().map(|record| record.key).collect();
    keys.sort();
    assert_eq!(keys, [None, None, Some(b"p".to_vec())], "brighter: empty is none");
    drop(relay);
}
