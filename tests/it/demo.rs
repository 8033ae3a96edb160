//! `relay demo` from the outside: it shows events, ends with a summary, and leaves neither process nor folder nor slot behind.

use relay_tests::consumer::{Isolation, read_all};
use relay_tests::fetch;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::process::Process;
use relay_tests::relay::binary;
use relay_tests::scratch::Scratch;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use rustix::process::Signal;
use std::process::Command;

/// A demo with a temporary folder of its own to leave things behind in.
struct Demo {
    process: Process,
    scratch: Scratch,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let scratch = Scratch::new("demo");
        let mut command = Command::new(binary(&[]));
        command.arg("demo").args(args).env("TMPDIR", scratch.path());
        // Another server than the machine's own, if there is one: the same for everybody who runs this.
        command.env("RELAY_DEMO_SEARCH", fetch::postgres(Version::V18).join("bin"));
        let process = Process::start("relay demo", &mut command, &scratch.join("demo.log"), "KILL");
        Self { process, scratch }
    }

    fn until_text(&mut self, text: &str) -> &mut Self {
        until(&format!("`{text}` in the demo's output"), secs(120), || {
            assert!(self.process.is_running() || self.process.log().contains(text), "{}", self.process.log_tail());
            self.process.log().contains(text).then_some(())
        });
        self
    }

    /// Waits for the end; the exit code and all that was printed.
    fn end(&mut self) -> (Option<i32>, String) {
        let exit = self.process.wait(secs(180));
        (exit.code, self.process.log())
    }

    /// Folders, and processes that were told of one.
    fn remains(&self) -> Vec<String> {
        let folder = self.scratch.path().display().to_string();
        let entries = std::fs::read_dir(self.scratch.path()).expect("list the temporary folder");
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut found: Vec<String> = names.filter(|name| name != "demo.log").collect();
        for process in std::fs::read_dir("/proc").expect("list the processes").flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&format!("{folder}/relay-demo-")) {
                found.push(line);
            }
        }
        found
    }
}

#[test]
fn the_owner_of_a_database_can_run_the_demo_in_it() {
    let db = Postgres::start(Version::V18);
    db.sql("CREATE ROLE owner LOGIN REPLICATION");
    db.sql("CREATE DATABASE shop OWNER owner");
    let url = format!("postgres://owner@127.0.0.1:{}/shop", db.port());
    let mut demo = Demo::start(&["--postgres", &url, "--for", "2s", "--json"]);
    let (code, text) = demo.end();
    assert_eq!((code, demo.remains()), (Some(0), Vec::new()), "{text}");
    assert!(text.contains("\"missing\":0") && text.contains("dropped slot, publication and schema"), "{text}");
    assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots").number(), 0);
}

#[track_caller]
fn assert_complete(text: &str) {
    assert!(text.contains("summary: every committed row arrived, in order"), "{text}");
    assert!(text.contains("missing 0, duplicates 0, not committed 0, out of order 0"), "{text}");
    assert!(!text.contains("rows committed   0 "), "{text}");
}

#[test]
fn the_demo_needs_nothing_and_ends_by_itself() {
    let mut demo = Demo::start(&["--for", "10s", "--rate", "300"]);
    let (code, text) = demo.end();
    assert_eq!((code, demo.remains()), (Some(0), Vec::new()), "{text}");
    assert_complete(&text);
    for part in ["kcat -b 127.0.0.1:", "OrderPlaced", "OrderPaid", "OrderShipped", " events/s ", "nothing is left behind"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for level in ["\"level\":\"warn\"", "\"level\":\"error\""] {
        assert!(!text.contains(level), "{text}");
    }
}

#[test]
fn a_signal_ends_the_demo_with_the_same_summary() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&[]);
        demo.until_text("OrderShipped");
        // The broker is there for every client of this machine.
        let log = demo.process.log();
        let brokers = log.split("kcat -b ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the broker's address");
        assert!(!read_all(brokers, &["outbox.event.order"], Isolation::Committed).is_empty());
        demo.process.signal(signal);
        let (code, text) = demo.end();
        assert_eq!((code, demo.remains()), (Some(0), Vec::new()), "{text}");
        assert_complete(&text);
    }
}

#[test]
fn a_killed_demo_leaves_nothing_behind() {
    for moment in ["starting a throw-away PostgreSQL", "OrderShipped"] {
        let mut demo = Demo::start(&[]);
        demo.until_text(moment);
        demo.process.kill_9();
        until("the shell to tidy up", secs(60), || demo.remains().is_empty().then_some(()));
    }
}

#[test]
fn the_demo_takes_servers_that_are_there_and_gives_them_back() {
    let (db, kafka) = (Postgres::start(Version::V15), Kafka::shared());
    let (url, brokers) = (db.url("postgres"), kafka.brokers());
    let args = ["--postgres", &url, "--brokers", &brokers, "--for", "8s"];
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication) \
                + (SELECT count(*) FROM pg_namespace WHERE nspname = 'relay_demo')";
    let mut killed = Demo::start(&args[..4]);
    killed.until_text("OrderShipped");
    // Nobody else may use the names meanwhile.
    let (code, text) = Demo::start(&args).end();
    assert_eq!(code, Some(75), "{text}");
    killed.process.kill_9();
    until("the server to see that its client has gone", secs(60), || {
        (db.sql("SELECT count(*) FROM pg_replication_slots WHERE active").number() == 0).then_some(())
    });
    assert_eq!((db.sql(left).number(), killed.remains()), (3, Vec::new()));
    let mut demo = Demo::start(&args);
    let (code, text) = demo.end();
    assert_eq!((code, demo.remains()), (Some(0), Vec::new()), "{text}");
    assert_complete(&text);
    assert!(text.contains("dropped what an earlier demo had left") && text.contains("outbox.event.demo_order"), "{text}");
    assert_eq!(db.sql(left).number(), 0, "{text}");
    // What is not the demo's stays.
    db.sql("SELECT pg_create_logical_replication_slot('relay_demo', 'pgoutput')");
    let (code, text) = Demo::start(&args).end();
    assert_eq!((code, db.sql(left).number()), (Some(1), 1), "{text}");
}
