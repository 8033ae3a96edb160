//! Provokes each check of `relay doctor` on real servers, compares the cure, and where the cure is SQL runs it and looks again.

mod capture;
mod poll;

use crate::scene::Scene;
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::ports::free_port;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::Value;

/// What one call of doctor answered.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    findings: Vec<Value>,
    text: String,
}

// === impl Answer ===

impl Answer {
    #[track_caller]
    fn of(relay: &Builder, args: &[&str]) -> Answer {
        let args: Vec<&str> = ["doctor", "--json"].iter().chain(args).copied().collect();
        let output = relay.run(&args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        let findings = json["findings"].as_array().expect("findings is a list").clone();
        assert_eq!(json["ok"], !findings.iter().any(|finding| finding["status"] == "fail"), "{text}");
        Answer { code: output.status.code(), findings, text }
    }

    /// The worst finding of a check.
    #[track_caller]
    fn worst(&self, id: &str) -> &Value {
        let rank = |finding: &&Value| ["ok", "skip", "warn", "fail"].iter().position(|status| finding["status"] == **status);
        let found = self.findings.iter().filter(|finding| finding["id"] == id).max_by_key(rank);
        found.unwrap_or_else(|| panic!("no {id} in {}", self.text))
    }

    #[track_caller]
    fn is(&self, id: &str, status: &str) -> &Value {
        let worst = self.worst(id);
        assert_eq!(worst["status"], status, "{}", self.text);
        worst
    }

    /// Sees to it that the check has that status, and that observation and cure say what they should; answers the cure.
    #[track_caller]
    fn says(&self, id: &str, status: &str, observed: &str, fix: &str) -> String {
        let worst = self.is(id, status);
        let (seen, cure) = (worst["observed"].as_str().unwrap(), worst["fix"].as_str().unwrap());
        assert!(seen.contains(observed), "{id}: {observed:?} is not in {seen:?}");
        assert!(cure.contains(fix), "{id}: {fix:?} is not in {cure:?}");
        assert!(worst["cause"] != "" && worst["effect"] != "", "{worst}");
        cure.to_owned()
    }
}

/// Runs a cure as an administrator would paste it: one statement a call, because ALTER SYSTEM stands alone.
fn paste(db: &Postgres, fix: &str) {
    for line in fix.lines() {
        let sql = line.split("  -- ").next().unwrap_or_default();
        sql.split(';').filter(|statement| !statement.trim().is_empty()).for_each(|statement| drop(db.sql(statement)));
    }
}

/// A relay on the server that writes to stdout, for checks that need no broker.
fn alone(db: &Postgres, outbox: &Outbox) -> Builder {
    Builder::new(&outbox.pipeline).url(&db.url("relay")).table(&outbox.table).toml("sink.kind = \"stdout\"")
}

fn create_slot(db: &Postgres, slot: &str) {
    db.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
}

#[test]
fn a_good_database_passes_as_the_role_of_least_privilege() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let outbox = db.prepare_outbox("good");
        let relay = alone(&db, &outbox);
        let answer = Answer::of(&relay, &[]);
        assert_eq!(answer.code, Some(0), "{}", answer.text);
        for id in ["PG001", "PG002", "PG003", "PG004", "PG005", "PG006", "PG010", "PG012", "PG023", "PG025"] {
            answer.is(id, "ok");
        }
        for id in ["KF001", "KF002", "KF003", "KF009", "RL001", "PG007"] {
            answer.is(id, "skip");
        }
        let gate = if version.major() >= 18 { "has row filters" } else { "lacks origin filter" };
        assert!(answer.is("PG002", "ok")["observed"].as_str().unwrap().contains(gate), "{}", answer.text);
        // The only warning is about the server's default.
        let fix = answer.says("PG008", "warn", "max_slot_wal_keep_size is -1", "ALTER SYSTEM SET max_slot_wal_keep_size = '");
        assert_eq!(Answer::of(&relay, &["--strict"]).code, Some(4));
        paste(&db, &fix);
        create_slot(&db, &outbox.slot);
        let answer = Answer::of(&relay, &["--strict"]);
        assert_eq!(answer.code, Some(0), "{}", answer.text);
        answer.is("PG007", "ok");
        // For people: a line each, and nothing else on stdout.
        let output = relay.run(&["doctor", "--only", "PG003,PG004"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "PostgreSQL\n  ok   PG003  wal_level is logical\n  ok   PG004  role \"relay\" may replicate\n");
        assert!(String::from_utf8_lossy(&output.stderr).contains("0 fail, 0 warn, 0 skip, 2 ok"));
        assert_eq!(relay.run(&["doctor", "--only", "PG099"]).status.code(), Some(64));
    }
}

#[test]
fn a_server_that_does_not_let_relay_in_is_one_fail_and_the_rest_is_skipped() {
    let db = Postgres::builder(Version::V15).hba("host all guarded 127.0.0.1/32 scram-sha-256").start();
    let outbox = db.prepare_outbox("closed");
    db.sql("CREATE ROLE guarded LOGIN REPLICATION PASSWORD 'canary-1'");
    let nobody = alone(&db, &outbox).url(&format!("postgres://relay:canary-2@127.0.0.1:{}/postgres", free_port()));
    let answer = Answer::of(&nobody, &[]);
    assert_eq!(answer.code, Some(3));
    answer.says("PG001", "fail", "connect to 127.0.0.1", "set host and port in source.url");
    for id in ["PG003", "PG006", "PG010", "PG012", "RL001"] {
        answer.is(id, "skip");
    }
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    let wrong = alone(&db, &outbox).url(&format!("postgres://guarded:canary-2@127.0.0.1:{}/postgres", db.port()));
    let answer = Answer::of(&wrong, &[]);
    answer.says("PG001", "fail", "28P01", "source.password_file");
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    let tls = alone(&db, &outbox).url(&format!("{}?sslmode=require", db.url("relay")));
    Answer::of(&tls, &[]).says("PG001", "fail", "does not offer TLS", "sslmode and sslrootcert");
}

#[test]
fn settings_of_the_server_fail_with_the_statement_that_cures_them() {
    let mut db = Postgres::builder(Version::V15)
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("max_wal_senders", "0")
        .start();
    let outbox = db.prepare_outbox("bare");
    db.sql("SELECT pg_create_physical_replication_slot('taken')");
    db.sql("ALTER ROLE relay NOREPLICATION");
    let relay = alone(&db, &outbox);
    let answer = Answer::of(&relay, &[]);
    assert_eq!(answer.code, Some(3));
    let level = answer.says("PG003", "fail", "wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical';");
    let right = answer.says("PG004", "fail", "may not replicate", "ALTER ROLE \"relay\" REPLICATION;");
    let limits: Vec<&Value> = answer.findings.iter().filter(|finding| finding["id"] == "PG005").collect();
    assert_eq!(limits.len(), 2, "{}", answer.text);
    let fixes: Vec<&str> = limits.iter().map(|finding| finding["fix"].as_str().unwrap()).collect();
    assert!(fixes[0].contains("SET max_replication_slots = 5;") && fixes[1].contains("SET max_wal_senders = 4;"), "{fixes:?}");
    [level.as_str(), right.as_str(), fixes[0], fixes[1]].iter().for_each(|fix| paste(&db, fix));
    db.restart();
    let answer = Answer::of(&relay, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    // A superuser passes all checks, and is told so.
    let admin = alone(&db, &outbox).url(&db.url("postgres"));
    Answer::of(&admin, &[]).says("PG023", "warn", "is a superuser", "WITH LOGIN REPLICATION;");
    // From here on no commit returns.
    let name_standbys = |names: &str| {
        db.set("synchronous_standby_names", names);
        until("the new setting", secs(60), || (db.sql("SHOW synchronous_standby_names").one() == names).then_some(()));
    };
    name_standbys("FIRST 1 (s1, relay_bare)");
    let answer = Answer::of(&relay, &["--only", "PG025"]);
    answer.says("PG025", "fail", "relay_bare", "ALTER SYSTEM SET synchronous_standby_names = ");
    name_standbys("s1");
    Answer::of(&relay, &["--only", "PG025"]).is("PG025", "ok");
}

#[test]
fn a_slot_that_is_missing_foreign_held_or_lost_is_told_apart() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("held");
    let relay = alone(&db, &outbox);
    let never = relay.clone().toml("source.log.create = \"never\"");
    let create = "SELECT pg_create_logical_replication_slot('relay_held', 'pgoutput');";
    Answer::of(&never, &[]).says("PG006", "fail", "does not exist", create);
    db.sql("SELECT pg_create_physical_replication_slot('relay_held')");
    let fix = Answer::of(&relay, &[]).says("PG006", "fail", "physical slot", "SELECT pg_drop_replication_slot('relay_held');");
    paste(&db, fix.split("nobody needs it: ").nth(1).unwrap());
    create_slot(&db, "relay_held");
    // Held by this pipeline, and by somebody else.
    let mut holder = relay.clone().spawn();
    holder.until_state("streaming", secs(60));
    let answer = Answer::of(&relay, &[]);
    assert!(answer.is("PG006", "ok")["observed"].as_str().unwrap().contains("this pipeline's relay"), "{}", answer.text);
    let other = relay.clone().url(&format!("{}?application_name=other", db.url("relay")));
    Answer::of(&other, &[]).says("PG006", "fail", "application relay_held", "SELECT pg_terminate_backend(");
    holder.terminate();
    // WAL that hangs on it: above the budget, then past the server's limit.
    let fill = || {
        for _ in 0..4 {
            db.sql("CREATE TABLE filler AS SELECT generate_series(1, 50000) AS n");
            db.sql("DROP TABLE filler");
            db.sql("SELECT pg_switch_wal()");
        }
        db.sql("CHECKPOINT");
    };
    fill();
    let frugal = relay.clone().toml("source.log.wal_budget = \"1MiB\"");
    Answer::of(&frugal, &[]).says("PG007", "warn", "above source.log.wal_budget", "start relay");
    db.set("max_slot_wal_keep_size", "1MB");
    fill();
    let answer = Answer::of(&relay, &[]);
    answer.says("PG007", "fail", "wal_status lost", "--accept-gap LSN");
    assert_eq!(answer.code, Some(3));
}

#[test]
fn a_publication_that_does_not_carry_the_outbox_is_cured_by_the_statement_shown() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let outbox = db.prepare_partitioned_outbox("pub");
        let relay = alone(&db, &outbox);
        let see = || Answer::of(&relay, &["--only", "PG010"]);
        see().is("PG010", "ok");
        for (breaks, observed) in [
            ("ALTER PUBLICATION relay_pub SET (publish_via_partition_root = false)", "under the names of its partitions"),
            ("ALTER PUBLICATION relay_pub SET (publish = 'delete')", "does not send inserts"),
            ("ALTER PUBLICATION relay_pub DROP TABLE public.pub_outbox", "lacks table public.pub_outbox"),
            ("DROP PUBLICATION relay_pub", "does not exist"),
        ] {
            db.sql(breaks);
            let fix = see().says("PG010", "fail", observed, "PUBLICATION \"relay_pub\"");
            paste(&db, &fix);
            see().is("PG010", "ok");
        }
        // Where the role may, the first start makes it.
        db.sql("DROP PUBLICATION relay_pub; GRANT CREATE ON DATABASE postgres TO relay; GRANT app TO relay");
        let answer = see();
        assert!(answer.is("PG010", "ok")["observed"].as_str().unwrap().contains("relay creates it"), "{}", answer.text);
        // The wrong order: slot, then publication.
        create_slot(&db, &outbox.slot);
        see().says("PG010", "fail", "does not exist", "SELECT pg_drop_replication_slot('relay_pub');");
        db.sql("CREATE PUBLICATION relay_pub FOR TABLE public.pub_outbox WITH (publish_via_partition_root = true)");
        let effect = if version.major() >= 18 { "silently not sent" } else { "for ever" };
        let answer = see();
        answer.says("PG010", "warn", "may be younger", "SELECT pg_drop_replication_slot('relay_pub');");
        assert!(answer.worst("PG010")["effect"].as_str().unwrap().contains(effect), "{}", answer.text);
    }
}

#[test]
fn a_column_that_the_preset_needs_is_proposed_in_its_true_case() {
    let db = Postgres::start(Version::V15);
    let outbox = db.prepare_outbox("cols");
    let relay = alone(&db, &outbox);
    let see = |relay: &Builder| Answer::of(relay, &["--only", "PG012"]);
    see(&relay).is("PG012", "ok");
    db.sql("ALTER TABLE public.cols_outbox RENAME COLUMN payload TO \"Payload\"");
    see(&relay).says("PG012", "fail", "payload", "Payload");
    // A column list that leaves one out is as good as a missing column.
    db.sql("ALTER TABLE public.cols_outbox RENAME COLUMN \"Payload\" TO payload");
    db.sql(
        "ALTER PUBLICATION relay_cols SET TABLE public.cols_outbox (id, topic, aggregate_type, key, type, headers, created_at)",
    );
    see(&relay).says("PG012", "fail", "payload", "");
    let gone = Builder::new("cols").url(&db.url("relay")).table("public.nowhere").toml("sink.kind = \"stdout\"");
    see(&gone).says(
        "PG012",
        "fail",
        "there is no table `public.nowhere`",
        "relay init --dry-run --preset relay --table public.nowhere",
    );
}

#[test]
fn kafka_is_looked_at_from_here() {
    let scene = Scene::new("doctored", Version::V15);
    let relay = scene.relay();
    let answer = Answer::of(&relay, &[]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    answer.is("KF001", "ok");
    answer.says("KF003", "warn", "1 brokers", "3 brokers");
    answer.is("KF012", "skip");
    let exactly = relay.clone().toml("delivery.guarantee = \"exactly-once\"");
    let only = ["--only", "KF012"];
    let found = Answer::of(&exactly, &only);
    assert!(found.text.contains("transactions of up to 60 s") || found.text.contains("has 1 replicas"), "{}", found.text);
    let long = exactly.toml("sink.kafka.properties = { \"transaction.timeout.ms\" = 2000000 }");
    Answer::of(&long, &only).says("KF012", "fail", "transaction.max.timeout.ms is 900000 ms", "2000000 ms");
    assert!(answer.is("RL001", "ok")["observed"].as_str().unwrap().contains("has not been started"), "{}", answer.text);
    // Nobody there: what a missing slot means is then unknown.
    let deaf = relay.clone().brokers(&format!("127.0.0.1:{}", free_port()));
    let answer = Answer::of(&deaf, &[]);
    answer.says("KF001", "fail", "127.0.0.1", "sink.kafka.brokers");
    answer.is("KF009", "skip");
    answer.is("RL001", "skip");
    answer.says("PG006", "warn", "does not exist", "findings about Kafka first");
    // Topics that relay may not make, or cannot use.
    let strict = relay.clone().toml("sink.kafka.create_topics = \"never\"");
    Answer::of(&strict, &["--only", "KF009"]).says("KF009", "fail", "doctored.checkpoint", "kafka-topics.sh --create");
    Kafka::shared().create_topic("doctored.checkpoint", 1, &[("cleanup.policy", "delete")]);
    let answer = Answer::of(&relay, &[]);
    answer.says("KF009", "fail", "cleanup.policy = delete", "add-config cleanup.policy=compact");
    answer.is("RL001", "fail");
}

#[test]
fn kafka_that_refuses_the_password_is_not_called_unreachable() {
    let kafka = Kafka::builder().secured("SASL_PLAINTEXT", "SCRAM-SHA-256").user("relay", "secret").start();
    let db = Postgres::start(Version::V15);
    let outbox = db.prepare_outbox("login");
    let security = "[sink.kafka.security]\nprotocol = \"sasl_plaintext\"\nmechanism = \"SCRAM-SHA-256\"\nusername = \"relay\"\n";
    let relay = |password: &str| {
        let relay = Relay::on(&db, &kafka, &outbox).brokers(&kafka.secured_brokers());
        relay.toml(&format!("{security}password = {password:?}\n"))
    };
    let answer = Answer::of(&relay("canary"), &[]);
    answer.is("KF001", "ok");
    answer.says("KF002", "fail", "", "[sink.kafka.security]");
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    Answer::of(&relay("secret"), &[]).is("KF002", "ok");
}

#[test]
fn the_position_is_compared_as_a_start_would() {
    let scene = Scene::new("placed", Version::V18);
    let mut relay = scene.streaming();
    scene.write(1, 5);
    scene.numbers(5, secs(60));
    let builder = scene.relay();
    let see = || Answer::of(&builder, &["--only", "RL001,PG006"]);
    // Beside the daemon that holds the slot, too.
    let answer = see();
    assert!(answer.is("RL001", "ok")["observed"].as_str().unwrap().contains("epoch 1, position "), "{}", answer.text);
    relay.terminate();
    see().is("RL001", "ok");
    scene.write(6, 7);
    until("the slot to be free", secs(60), || {
        scene.db.try_sql("SELECT pg_replication_slot_advance('relay_placed', pg_current_wal_lsn())").ok()
    });
    let lsn = scene.db.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots").one().to_owned();
    see().says("RL001", "fail", "past the checkpoint at", &format!("relay run --accept-gap {lsn} "));
    scene.db.sql("SELECT pg_drop_replication_slot('relay_placed')");
    let answer = see();
    answer.says("RL001", "fail", "slot relay_placed does not exist", "--accept-gap");
    answer.says("PG006", "fail", "does not exist", "pg_create_logical_replication_slot('relay_placed', 'pgoutput');");
    // Another server with the same names.
    let other = Scene::on(Postgres::start(Version::V18), "placed_elsewhere");
    let foreign = scene.relay().url(&other.db.url("relay"));
    Answer::of(&foreign, &["--only", "RL001"]).says("RL001", "fail", "system id", "");
}
