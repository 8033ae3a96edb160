//! `relay init` on real servers: what it makes can be checked, doctored, run, and asked for a second time.

use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, binary};
use relay_tests::scratch::Scratch;
use relay_tests::versions::Version;
use std::process::{Command, Output, Stdio};

pub(crate) fn run(args: &[&str]) -> Output {
    let mut command = Command::new(binary(&[]));
    command.args(args).stdin(Stdio::null()).env_remove("PGPASSWORD");
    command.output().unwrap_or_else(|error| panic!("start relay: {error}"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn good(output: &Output) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    (out, err)
}

#[test]
fn apply_makes_everything_once_and_doctor_agrees() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        for preset in ["relay", "debezium", "pgmq", "tomorrow-one", "wal-message"] {
            apply_twice(&db, preset);
        }
    }
}

fn apply_twice(db: &Postgres, preset: &str) {
    let scratch = Scratch::new("init");
    let name = format!("made_{}_{}", db.version().major(), preset.replace('-', "_"));
    let role = format!("publisher_{}", preset.replace('-', "_"));
    let file = scratch.join("relay.toml").display().to_string();
    let admin = db.url("postgres");
    let apply = |file: &str, more: &[&str]| {
        let wish = ["init", "--name", &name, "--preset", preset, "--role", &role, "--apply", &admin, "-o", file];
        run(&wish.iter().chain(more).copied().collect::<Vec<_>>())
    };
    // A dry run changes nothing and writes nothing.
    let (sql, _) = good(&apply(&file, &["--dry-run"]));
    assert!(sql.contains(&format!("CREATE ROLE {role} ")) && !std::path::Path::new(&file).exists());
    assert_eq!(db.sql(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).number(), 0);
    let (_, told) = good(&apply(&file, &[]));
    assert!(told.contains(&format!("role {role} was created")), "{told}");
    assert!(told.contains(&format!("publication relay_{name} was created")), "{told}");
    // The same again: everything is kept, and the file is refused.
    let again = scratch.join("again.toml").display().to_string();
    let (sql, told) = good(&apply(&again, &[]));
    assert!(told.contains(&format!("role {role} exists and was kept")), "{told}");
    assert!(sql.contains(&format!("-- role {role} exists: kept")), "{sql}");
    let refused = apply(&file, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("exists and stays as it is"));
    // The file passes check, and doctor finds nothing wrong as the new role.
    let (out, _) = good(&run(&["check", "--deny-warnings", &file]));
    assert_eq!(out, "");
    let brokers = format!("sink.kafka.brokers={}", Kafka::shared().brokers());
    let (report, _) = good(&run(&["doctor", "-c", &file, "--set", &brokers]));
    assert!(report.contains("ok   PG010") && report.contains("ok   PG012") && !report.contains("\n  fail "), "{report}");
}

#[test]
fn captured_tables_are_named_by_the_server_and_one_without_key_is_refused() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        db.sql(
            "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE loose (a int); CREATE SCHEMA \"S%_\"; \
             CREATE TABLE \"S%_\".\"It's\" (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE \"S%_\".leaf PARTITION OF \"S%_\".\"It's\" DEFAULT; CREATE UNLOGGED TABLE other (id int PRIMARY KEY)",
        );
        let scratch = Scratch::new("init");
        let file = scratch.join("relay.toml").display().to_string();
        let admin = db.url("postgres");
        let init = |more: &[&str]| {
            let wish = ["init", "--name", "seen", "--role", "o'relay", "-o", &file, "--capture", "public.*,S%_.*"];
            run(&wish.iter().chain(more).copied().collect::<Vec<_>>())
        };
        let refused = init(&["--apply", &admin]);
        assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("UPDATE and DELETE of \"public\".\"loose\""));
        assert_eq!(db.sql("SELECT count(*) FROM pg_publication").number(), 0);
        db.sql("ALTER TABLE loose REPLICA IDENTITY FULL");
        let (sql, _) = good(&init(&["--apply", &admin]));
        assert!(sql.contains("FOR TABLE \"S%_\".\"It's\", public.loose, public.users WITH"), "{sql}");
        assert_eq!(good(&run(&["check", "--deny-warnings", &file])).0, "");
        // No publication takes an unlogged table, and doctor would name it.
        db.sql("DROP TABLE other");
        let brokers = format!("sink.kafka.brokers={}", Kafka::shared().brokers());
        let (report, _) = good(&run(&["doctor", "-c", &file, "--set", &brokers]));
        assert!(report.contains("ok   PG010") && report.contains("ok   PG022") && !report.contains("\n  fail "), "{report}");
        // By name nobody need look, and an outbox stands beside them where it is asked for.
        let (sql, _) = good(&init(&["--dry-run", "--capture", "public.third", "--table", "public.outbox"]));
        assert!(sql.contains("CREATE TABLE public.outbox (") && sql.contains("\\gexec"), "{sql}");
        let by_name = ["init", "--name", "named", "--capture", "public.users", "--role", "o'relay", "--dry-run"];
        let (sql, _) = good(&run(&by_name));
        assert!(!sql.contains("\\gexec") && !sql.contains("public.outbox"), "{sql}");
        db.sql(&sql.replace("CREATE ROLE", "-- CREATE ROLE"));
        assert_eq!(db.sql("SELECT count(*) FROM pg_publication WHERE pubname = 'relay_named' AND pubupdate").number(), 1);
    }
}

#[test]
fn the_printed_sql_makes_the_same_by_hand_on_every_version() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let scratch = Scratch::new("init");
        let file = scratch.join("relay.toml").display().to_string();
        let (sql, told) = good(&run(&["init", "--name", "hand", "--table", "public.Hand Made", "-o", &file]));
        assert!(told.contains("wrote ") && sql.starts_with("-- Pipeline hand"), "{told}");
        db.sql(&sql);
        let relay = Builder::new("hand").url(&db.url("relay")).table("public.Hand Made").toml("sink.kind = \"stdout\"");
        let output = relay.run(&["doctor"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
}

#[test]
fn a_refused_administrator_changes_nothing_and_writes_nothing() {
    let db = Postgres::builder(Version::V15).hba("host all locked 127.0.0.1/32 scram-sha-256").start();
    db.sql("CREATE ROLE plain LOGIN; CREATE ROLE locked LOGIN PASSWORD 'canary-1'");
    let scratch = Scratch::new("init");
    let file = scratch.join("relay.toml").display().to_string();
    let plain = run(&["init", "--apply", &db.url("plain"), "-o", &file]);
    assert_eq!(plain.status.code(), Some(77), "{}", text(&plain.stderr));
    let locked = format!("postgres://locked:canary-2@127.0.0.1:{}/postgres", db.port());
    let locked = run(&["init", "--apply", &locked, "-o", &file]);
    assert_eq!(locked.status.code(), Some(77));
    assert!(!text(&locked.stderr).contains("canary"));
    let nowhere = run(&["init", "--apply", "postgres://p@127.0.0.1:1/postgres", "-o", &file]);
    assert_eq!(nowhere.status.code(), Some(69));
    assert_eq!(run(&["init", "--apply", "nonsense", "-o", &file]).status.code(), Some(64));
    assert!(!std::path::Path::new(&file).exists());
    assert_eq!(db.sql("SELECT count(*) FROM pg_class WHERE relname = 'outbox'").number(), 0);
}
