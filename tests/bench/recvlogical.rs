//! Turns a backlog into the time that PostgreSQL's own client takes to read it and throw it away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use relay_tests::{Process, Scratch, secs};

use crate::backlog::{Backlog, drop_slot};
use crate::cpu;
use crate::run::{Contender, Run};
use crate::servers::Servers;
use crate::walsender::Walsender;

/// Where Debian puts each major version. `/usr/bin/pg_recvlogical` is a Perl wrapper there, so it is the last choice.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The newest pg_recvlogical of this machine.
pub(crate) fn find() -> Result<PathBuf, String> {
    let folders = std::fs::read_dir(DEBIAN).into_iter().flatten().filter_map(Result::ok);
    let major = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<(u32, PathBuf)> = folders.filter_map(|e| Some((major(&e.path())?, e.path()))).collect();
    versions.sort();
    let of_debian = versions.into_iter().rev().map(|(_, folder)| folder.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = of_debian.chain(std::env::split_paths(&path)).map(|folder| folder.join("pg_recvlogical"));
    all.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        "there is no pg_recvlogical here, the yardstick of this bench; it is in Debian's package postgresql-15 (or a newer \
         postgresql-NN)"
            .to_owned()
    })
}

/// Reads the backlog once over a URL.
pub(crate) fn drain(servers: &Servers, backlog: &Backlog, url: &str, name: &str) -> Result<Run, String> {
    let slot = format!("recv_{name}");
    backlog.copy_slot(&servers.db, &slot);
    let scratch = Scratch::new("recv");
    let mut walsender = Walsender::of(&servers.db, &slot);
    let mut command = command(servers, backlog, url, &slot);
    let start = Instant::now();
    let mut process = Process::start("pg_recvlogical", &mut command, &scratch.join("log"), "KILL");
    let limit = secs(120 + backlog.rows / 2_000);
    let last = loop {
        walsender.look();
        let look = cpu::look(process.pid());
        if look.is_none_or(|look| look.has_ended) {
            break look;
        }
        if start.elapsed() > limit {
            return Err(format!("pg_recvlogical has not ended after {limit:?}\n{}", process.log_tail()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let end = Instant::now();
    let exit = process.wait(secs(5));
    drop_slot(&servers.db, &slot);
    if exit.code != Some(0) {
        return Err(format!("pg_recvlogical ended with {exit:?}\n{}", process.log_tail()));
    }
    let cpu = last.ok_or("pg_recvlogical was gone before it could be measured")?.cpu;
    Ok(Run {
        who: Contender::Recvlogical,
        rows: backlog.rows,
        whole: end - start,
        flow_rows: backlog.rows,
        flow: end - walsender.since().unwrap_or(start),
        cpu,
        walsender: Some(walsender.cpu()),
        broker: None,
        peak_rss_bytes: None,
    })
}

fn command(servers: &Servers, backlog: &Backlog, url: &str, slot: &str) -> Command {
    let mut command = Command::new(&servers.recvlogical);
    command.args(["--start", "--no-loop", "-f", "/dev/null", "-d", url, "--slot", slot, "--endpos", &backlog.end]);
    let publication = format!("publication_names=\"{}\"", backlog.outbox.publication);
    command.args(["-o", "proto_version=1", "-o", &publication, "-o", "messages=true"]);
    command
}
