//! Turns COPY statements into the time that PostgreSQL takes to send their rows to /dev/null.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::servers::Servers;

/// Runs the statements at the same time, each on a connection of its own.
pub(crate) fn copy_out(servers: &Servers, statements: &[String]) -> Result<Duration, String> {
    let psql = psql(&servers.recvlogical)?;
    let start = Instant::now();
    let spawn = |sql: &String| {
        let mut command = Command::new(&psql);
        command.args(["-X", "-q", "-d", &servers.db.url("relay"), "-c", sql]).stdout(Stdio::null());
        command.spawn().map_err(|e| format!("run psql: {e}"))
    };
    let children = statements.iter().map(spawn).collect::<Result<Vec<_>, String>>()?;
    for mut child in children {
        let status = child.wait().map_err(|e| format!("wait for psql: {e}"))?;
        if !status.success() {
            return Err(format!("psql: {status}"));
        }
    }
    Ok(start.elapsed())
}

/// psql lies beside pg_recvlogical.
fn psql(recvlogical: &Path) -> Result<PathBuf, String> {
    let psql = recvlogical.with_file_name("psql");
    if psql.is_file() { Ok(psql) } else { Err(format!("there is no psql beside {}", recvlogical.display())) }
}
