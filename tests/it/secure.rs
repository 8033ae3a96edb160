//! TLS and authentication against real servers: what must be let in, and what must not.

use crate::scene::QUICK;
use relay_tests::certs::{Certs, Pair};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

/// A server that takes relay over TLS and SCRAM alone.
fn server(version: Version, certs: &Certs, pair: &Pair, client_ca: bool) -> (Postgres, Outbox) {
    let cert = if client_ca { " clientcert=verify-ca" } else { "" };
    let db = Postgres::builder(version)
        .tls(&pair.cert_pem, &pair.key_pem, client_ca.then_some(certs.ca_pem.as_str()))
        .hba(&format!("hostssl all relay 127.0.0.1/32 scram-sha-256{cert}"))
        .hba("hostnossl all relay 127.0.0.1/32 reject")
        .start();
    let outbox = db.prepare_outbox(&unique_topic("secure").replace('-', "_"));
    db.sql("ALTER ROLE relay PASSWORD 'canary-pw'");
    (db, outbox)
}

fn relay(db: &Postgres, outbox: &Outbox, parameters: &str) -> Builder {
    // By name, so that verify-full has one to compare.
    let url = format!("postgres://relay:canary-pw@localhost:{}/postgres?{parameters}", db.port());
    Builder::new(&outbox.pipeline).url(&url).brokers(&Kafka::shared().brokers()).table(&outbox.table).toml(QUICK)
}

#[track_caller]
fn until_refused(mut relay: Relay, words: &str) {
    until(&format!("a refusal that says `{words}`"), secs(60), || {
        let logs = relay.logs();
        assert!(!logs.contains("canary-pw"), "a password in the log");
        (logs.contains("R0203") && logs.to_lowercase().contains(words)).then_some(())
    });
    assert!(relay.process().is_running(), "refused is not a crash");
}

#[test]
fn verify_full_with_scram_plus_streams_and_what_cannot_be_verified_does_not() {
    let certs = Certs::new();
    let ca = format!("sslrootcert={}", certs.file("ca.pem").display());
    for version in [Version::V15, Version::V18] {
        let (db, outbox) = server(version, &certs, &certs.server, false);
        let mut good =
            relay(&db, &outbox, &format!("sslmode=verify-full&{ca}&channel_binding=require&require_auth=scram-sha-256")).spawn();
        good.until_state("streaming", secs(60));
        let facts = db.sql("SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)");
        println!("{version}: {facts:?}");
        assert_eq!(facts.0[0][0].as_deref(), Some("t"), "the stream is encrypted");
        good.terminate();
        // Without the CA the chain cannot be verified; verify-full is the default for hosts that are not loopback, so ask for it.
        until_refused(relay(&db, &outbox, "sslmode=verify-full").spawn(), "certificate");
    }
}

#[test]
fn a_wrong_host_name_and_an_expired_certificate_are_refused() {
    let certs = Certs::new();
    let ca = format!("sslrootcert={}", certs.file("ca.pem").display());
    let (db, outbox) = server(Version::V18, &certs, &certs.wrong_host, false);
    until_refused(relay(&db, &outbox, &format!("sslmode=verify-full&{ca}")).spawn(), "name");
    // verify-ca does not ask for the name.
    let mut by_ca = relay(&db, &outbox, &format!("sslmode=verify-ca&{ca}")).spawn();
    by_ca.until_state("streaming", secs(60));
    by_ca.terminate();
    let (db, outbox) = server(Version::V15, &certs, &certs.expired, false);
    until_refused(relay(&db, &outbox, &format!("sslmode=verify-full&{ca}")).spawn(), "expired");
}

#[test]
fn client_certificates_and_wrong_passwords() {
    let certs = Certs::new();
    let (db, outbox) = server(Version::V18, &certs, &certs.server, true);
    let file = |name: &str| certs.file(name).display().to_string();
    let tls = format!(
        "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    let mut good = relay(&db, &outbox, &tls).spawn();
    good.until_state("streaming", secs(60));
    good.terminate();
    let url = format!("postgres://relay:wrong@localhost:{}/postgres?{tls}", db.port());
    let wrong = relay(&db, &outbox, &tls).url(&url).spawn();
    until("28P01", secs(60), || wrong.logs().contains("R0202").then_some(()));
}

#[test]
fn kafka_by_sasl_ssl_takes_events_and_refuses_a_wrong_password() {
    let certs = Certs::new();
    let kafka = Kafka::builder()
        .secured("SASL_SSL", "SCRAM-SHA-512")
        .user("relay", "canary-kafka")
        .tls(&certs.server.cert_pem, &certs.server.key_pem, &certs.ca_pem, false)
        .start();
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("sasl");
    let topic = unique_topic("sasl");
    kafka.create_topic(&topic, 1, &[]);
    let security = format!(
        "[sink.kafka.security]\nprotocol = \"sasl_ssl\"\nmechanism = \"SCRAM-SHA-512\"\nusername = \"relay\"\nca_file = {:?}\npassword = ",
        certs.file("ca.pem")
    );
    let builder = |password: &str| {
        Builder::new(&outbox.pipeline)
            .url(&db.url("relay"))
            .brokers(&kafka.secured_brokers())
            .table(&outbox.table)
            .toml(QUICK)
            .toml(&format!("{security}{password:?}"))
    };
    let mut wrong = builder("wrong").spawn();
    until("a refusal", secs(60), || wrong.logs().to_lowercase().contains("authentication").then_some(()));
    wrong.kill_9();
    let mut relay = builder("canary-kafka").spawn();
    relay.until_state("streaming", secs(60));
    db.sql(&format!("INSERT INTO {} (topic, key, type, payload) VALUES ('{topic}', 'k', 'T', '{{\"n\": 1}}')", outbox.table));
    until("the event", secs(60), || {
        (relay_tests::consumer::read_all(&kafka.brokers(), &[&topic], relay_tests::consumer::Isolation::Committed).len() == 1)
            .then_some(())
    });
    assert!(!relay.logs().contains("canary-kafka"));
}
