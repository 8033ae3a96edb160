//! Shows that a test process killed with -9 leaves no server, no relay and no folder behind.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use relay_tests::{Kafka, Postgres, Scratch, Version, relay, secs, until};

/// Set in the process that is to be killed; it is this same test, started once more.
const CHILD: &str = "RELAY_TEST_ORPHANS";

#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    if std::env::var_os(CHILD).is_some() {
        return live_until_killed();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "orphans::a_killed_test_process_leaves_nothing_behind", "--nocapture"])
        .env(CHILD, "1")
        .env_remove("RELAY_TEST_KEEP")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut pids, mut folders) = (Vec::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        match line.split_once(' ') {
            Some(("pid", pid)) => pids.push(pid.parse::<u32>().unwrap()),
            Some(("folder", path)) => folders.push(path.to_owned()),
            _ if line == "ready" => break,
            _ => println!("child: {line}"),
        }
    }
    assert!(pids.len() >= 8 && folders.len() == 4, "{pids:?} {folders:?}");
    assert!(pids.iter().all(|pid| is_alive(*pid)) && folders.iter().all(|path| Path::new(path).exists()));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    until("the end of every server", secs(60), || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    until("the end of every folder", secs(60), || folders.iter().all(|path| !Path::new(path).exists()).then_some(()));
    println!("gone: {} processes and {} folders", pids.len(), folders.len());
}

/// Starts one of everything, one PostgreSQL of them frozen, says what there is, and sleeps.
fn live_until_killed() {
    // No process of theirs may end by itself between being told of and being looked for.
    let start = |version| Postgres::builder(version).setting("autovacuum", "off").start();
    let (mut db, mut frozen) = (start(Version::V18), start(Version::V15));
    let mut kafka = Kafka::start();
    let scratch = Scratch::new("fake");
    let script = scratch.write("fake", "#!/bin/sh\nwhile :; do sleep 600; done\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut relay = relay::Builder::new("orders").binary(&script).spawn();
    for process in [db.process(), frozen.process(), kafka.process(), relay.process()] {
        println!("pid {}", process.pid());
        process.children().iter().for_each(|child| println!("pid {}", child.as_raw_nonzero()));
    }
    for path in [db.data().parent().unwrap(), frozen.data().parent().unwrap(), scratch.path(), relay.config().parent().unwrap()] {
        println!("folder {}", path.display());
    }
    frozen.pause();
    println!("ready");
    std::thread::sleep(secs(120));
}

/// A zombie is dead, though the machine's first process may be slow to bury it.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
