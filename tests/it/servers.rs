//! Shows that the harness's servers start, serve, restart, fail on request, and agree with its oracle.

use postgres::config::SslMode;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use relay_tests::{
    Certs, Direction, Event, Isolation, Kafka, Load, Postgres, Proxy, Reader, Version, read_all, secs, unique_topic, until,
};

fn producer(brokers: &str, more: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.timeout.ms", "60000").set("linger.ms", "0");
    config.set("reconnect.backoff.max.ms", "200").set("log_level", "0");
    for (name, value) in more {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

fn produce(producer: &BaseProducer, topic: &str, key: &str, value: &str) {
    producer.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(e, _)| e).unwrap();
}

#[test]
fn postgres_starts_restarts_and_survives_a_kill() {
    for version in Version::ALL {
        let mut db = Postgres::start(version);
        assert!(db.sql("SHOW server_version").one().starts_with(&version.major().to_string()));
        assert_eq!(db.sql("SHOW wal_level").one(), "logical");
        let outbox = db.prepare_outbox("orders");
        db.prepare_for_poll(&outbox);
        let deep = db.prepare_partitioned_outbox("deep");
        let insert = |table| format!("INSERT INTO {table} (topic, key, type, payload) VALUES ('t', 'k', 'made', '{{}}')");
        db.sql(&insert(&deep.table));
        db.sql(&insert(&outbox.table));
        assert_eq!(db.stop_fast().code, Some(0));
        db.start_again();
        db.sql(&insert(&outbox.table));
        db.kill_9();
        db.start_again();
        db.stop_immediate();
        db.start_again();
        assert_eq!(db.sql(&format!("SELECT count(*) FROM {}", outbox.table)).number(), 2);
        // Role relay may read the table and use a slot, and no more.
        let mut relay = db.connect("relay", "postgres").unwrap();
        relay.simple_query(&format!("SELECT * FROM {}", outbox.table)).unwrap();
        relay.simple_query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
        assert!(relay.simple_query(&insert(&outbox.table)).is_err());
        db.set("wal_sender_timeout", "5s");
        until("the new setting", secs(60), || (db.sql("SHOW wal_sender_timeout").one() == "5s").then_some(()));
    }
}

#[test]
fn postgres_asks_for_tls_and_passwords() {
    let certs = Certs::new();
    let db = Postgres::builder(Version::V15)
        .tls(&certs.server.cert_pem, &certs.server.key_pem, None)
        .hba("hostssl all all 127.0.0.1/32 scram-sha-256")
        .hba("hostnossl all all 127.0.0.1/32 reject")
        .start();
    db.prepare_roles();
    db.sql("ALTER ROLE relay PASSWORD 'secret'");
    let mut config: postgres::Config = db.url("relay").parse().unwrap();
    let refused = config.ssl_mode(SslMode::Disable).connect(postgres::NoTls).err().unwrap();
    assert!(refused.as_db_error().is_some_and(|e| e.message().contains("rejects connection")), "{refused:?}");
    assert_eq!(db.sql("SHOW ssl").one(), "on");
}

#[test]
fn kafka_starts_restarts_and_keeps_its_records() {
    let mut kafka = Kafka::builder().proxied().start();
    kafka.create_topic("kept", 3, &[("cleanup.policy", "compact")]);
    let client = producer(&kafka.brokers(), &[]);
    (0..100).for_each(|i| produce(&client, "kept", &format!("k{i}"), "v"));
    client.flush(secs(60)).unwrap();
    assert_eq!(kafka.kill_9().signal, Some(9));
    kafka.start_again();
    assert_eq!(kafka.topics(), ["kept"]);
    kafka.alter_topic("kept", &[("max.message.bytes", "1000")]);
    kafka.stop();
    kafka.start_again();
    let records = read_all(&kafka.brokers(), &["kept"], Isolation::Committed);
    assert_eq!(records.len(), 100);
    assert!(records.iter().all(|record| record.value_text() == Some("v") && record.timestamp_ms.is_some()));
    // The proxied listener keeps its clients behind the proxy, whose faults they feel and get over.
    let client = producer(&kafka.proxied_brokers(), &[]);
    produce(&client, "kept", "late", "1");
    client.flush(secs(60)).unwrap();
    let before = kafka.proxy().counts();
    assert!(before.bytes_up > 0 && before.connections >= 2, "{before:?}");
    kafka.proxy().stall(Direction::Down);
    produce(&client, "kept", "later", "2");
    assert!(client.flush(secs(1)).is_err());
    until("the stall to take hold", secs(60), || (kafka.proxy().counts().stalls > 0).then_some(()));
    kafka.proxy().cut();
    kafka.proxy().heal();
    client.flush(secs(60)).unwrap();
    let counts = kafka.proxy().counts();
    assert!(counts.stalls > 0 && counts.cuts > 0, "{counts:?}");
    kafka.pause();
    produce(&client, "kept", "latest", "3");
    assert!(client.flush(secs(1)).is_err());
    kafka.resume();
    client.flush(secs(60)).unwrap();
    let records = read_all(&kafka.brokers(), &["kept"], Isolation::Uncommitted);
    assert!(records.iter().any(|record| record.key_text() == Some("latest")));
    kafka.delete_topic("kept");
    println!("Kafka: {} MiB resident at most", kafka.process().peak_rss_bytes() >> 20);
}

#[test]
fn readers_of_both_levels_see_what_they_should() {
    let kafka = Kafka::shared();
    let topic = unique_topic("levels");
    kafka.create_topic(&topic, 2, &[]);
    let tail = Reader::new(&kafka.brokers()).tail(&[&topic], Isolation::Committed);
    let client = producer(&kafka.brokers(), &[("transactional.id", &topic)]);
    // A coordinator that has just come back asks to be asked again.
    until("a coordinator", secs(60), || client.init_transactions(secs(60)).ok());
    for (value, is_kept) in [("kept", true), ("undone", false), ("kept", true)] {
        client.begin_transaction().unwrap();
        produce(&client, &topic, "k", value);
        client.flush(secs(60)).unwrap();
        if is_kept { client.commit_transaction(secs(60)).unwrap() } else { client.abort_transaction(secs(60)).unwrap() }
    }
    client.begin_transaction().unwrap();
    produce(&client, &topic, "k", "open");
    client.flush(secs(60)).unwrap();
    let count = |isolation| read_all(&kafka.brokers(), &[&topic], isolation).len();
    assert_eq!((count(Isolation::Committed), count(Isolation::Uncommitted)), (2, 4));
    assert_eq!(tail.take(2, secs(60)).len(), 2);
    assert_eq!(tail.next(secs(1)), None);
    client.commit_transaction(secs(60)).unwrap();
    assert_eq!(tail.until("the last one", secs(60), |_| true).value_text(), Some("open"));
}

#[test]
fn kafka_speaks_tls_and_scram_and_knows_who_may_write() {
    let certs = Certs::new();
    let kafka = Kafka::builder()
        .secured("SASL_SSL", "SCRAM-SHA-512")
        .user("relay", "secret")
        .tls(&certs.server.cert_pem, &certs.server.key_pem, &certs.ca_pem, false)
        .authorizer()
        .start();
    ["allowed", "denied"].iter().for_each(|topic| kafka.create_topic(topic, 1, &[]));
    kafka.acl(&["--add", "--allow-principal", "User:relay", "--operation", "All", "--topic", "allowed"]);
    let ca = certs.file("ca.pem").display().to_string();
    let client = |password| {
        let security = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("ssl.ca.location", ca.as_str())];
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.secured_brokers()).set("log_level", "0");
        for (name, value) in security {
            config.set(name, value);
        }
        config.set("sasl.username", "relay").set("sasl.password", password).create::<BaseConsumer>().unwrap()
    };
    let metadata = client("secret").fetch_metadata(None, secs(60)).unwrap();
    let names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    assert_eq!(names, ["allowed"]);
    assert!(client("wrong").fetch_metadata(None, secs(3)).is_err());
}

#[test]
fn the_load_and_the_oracle_agree_with_the_table_across_a_crash() {
    let mut db = Postgres::builder(Version::V18).durable().start();
    let outbox = db.prepare_outbox("load");
    let proxy = Proxy::start(db.port());
    let mut load = Load::on(&db.url_through("app", proxy.port()), &outbox).padding(20).rollbacks(0.2, 0.2).start();
    load.until_committed(500, secs(60));
    proxy.cut();
    load.until_committed(load.committed() + 500, secs(60));
    db.kill_9();
    db.start_again();
    load.until_committed(load.committed() + 500, secs(60));
    let told = load.stop();
    assert!(told.committed >= 1_500 && told.aborted > 100, "{told:?}");
    assert!(proxy.counts().cuts >= 1, "{:?}", proxy.counts());
    // The table itself, in the order of insertion, is what a perfect relay would have published.
    let rows = db.sql(&format!("SELECT key, payload FROM {} ORDER BY seq", outbox.table)).0;
    let record = |row: &Vec<Option<String>>, offset| relay_tests::Rec {
        topic: "t".into(),
        partition: 0,
        offset,
        key: row[0].clone().map(String::into_bytes),
        value: row[1].clone().map(String::into_bytes),
        headers: Vec::new(),
        timestamp_ms: None,
    };
    let records: Vec<_> = rows.iter().zip(0..).map(|(row, offset)| record(row, offset)).collect();
    load.oracle().check(&records).assert_exactly_once();
    assert_eq!(load.oracle().check(&records[1..]).missing.len() + load.oracle().check(&records[1..]).torn.len(), 1);
    let first = Event::of(&records[0]).unwrap();
    assert!(first.key.starts_with('w'));
}
