//! Turns the machine and the programs on it into the lines that belong above every figure.

use std::path::Path;
use std::process::Command;

use relay_tests::versions::KAFKA;

use crate::servers::Servers;
use crate::settings::Settings;

/// The load average, as the system writes it; to be read before the bench itself adds to it.
pub(crate) fn load_average() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Versions, machine and method, one a line.
pub(crate) fn describe(settings: &Settings, servers: &Servers, load_average: &str) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let mut lines = vec![
        format!(
            "machine: {cores} cores, {}, Linux {}",
            model.trim_start_matches([' ', '\t', ':']),
            read("/proc/sys/kernel/osrelease").trim()
        ),
        format!("load average at the start: {load_average}"),
        format!("relay: {} ({})", version_of(&servers.relay), servers.relay.display()),
        format!("pg_recvlogical: {} ({})", version_of(&servers.recvlogical), servers.recvlogical.display()),
        format!("{}: fsync off, wal_level logical, all on this machine", servers.db.version()),
        format!("Apache Kafka {KAFKA}: one node, acks=all on one replica; bare producer: librdkafka {librdkafka}"),
        format!(
            "{} rows (others {}), {} rounds, {} s of paced load",
            settings.rows,
            settings.rows * 3 / 10,
            settings.rounds,
            settings.seconds
        ),
    ];
    let one_minute: f64 = load_average.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    if one_minute > 0.5 {
        lines.push("**The machine was busy when this run began: take the figures for noise.**".to_owned());
    }
    if cfg!(debug_assertions) {
        lines.push("**The bench itself was built without optimisation: the bare producer's figures are too high.**".to_owned());
    }
    lines
}

fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("version unknown").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
