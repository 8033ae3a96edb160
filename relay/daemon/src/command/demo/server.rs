//! Turns server programs into a throw-away PostgreSQL on loopback, which is gone when its value is.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use relay_pgwire::{Config, Connection};

use super::ending::Ending;
use super::programs::{self, Programs};
use super::shelter::{Guest, Shelter};
use super::words::Words;
use super::{Halt, PAUSE, account, fetch};
use crate::command::refusal::Refusal;

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// How to reach it, password included: it guards no secret, but keeps the other users of this machine out.
    pub(super) url: String,
    /// Its version.
    pub(super) version: String,
    guest: Guest,
    shelter: Shelter,
}

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody else took ours.
const PORTS_TRIED: u32 = 3;
/// Loopback only, logical decoding on, quick rather than durable. Commits stay synchronous: what is not flushed is not streamed.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "wal_level=logical",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=40",
    "max_wal_size=256MB",
];

// === impl Server ===

impl Server {
    /// Makes a cluster in a temporary folder and starts it; fetches the programs first where there are none.
    pub(super) fn start(search: Option<&str>, ending: &Ending, words: Words) -> Result<Self, Halt> {
        let mut shelter = Shelter::new()?;
        let cache = fetch::cache(shelter.account().is_some());
        let programs = match programs::find(search, &cache, shelter.account()) {
            Some(programs) => programs,
            None => fetch::fetch(&cache, &mut shelter, ending, words)?,
        };
        words.say(&format!("starting a throw-away PostgreSQL {} ({})", programs.version.text, programs.folder.display()));
        let failed = |error: io::Error| Refusal::refused(format!("prepare the throw-away PostgreSQL: {error}"), "");
        let password = password().map_err(failed)?;
        shelter.write("password", &password).map_err(failed)?;
        shelter.write("server.log", "").map_err(failed)?;
        init(&programs, &mut shelter, ending)?;
        for attempt in 1.. {
            let port = free_port().map_err(failed)?;
            let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
            let mut guest = launch(&programs, &mut shelter, port).map_err(failed)?;
            if is_up(&mut guest, &url, ending)? {
                return Ok(Self { url, version: programs.version.text, guest, shelter });
            }
            let said = tail(&shelter.join("server.log"));
            if !said.contains("could not bind") || attempt == PORTS_TRIED {
                return Err(Refusal::refused(format!("the throw-away PostgreSQL does not start\n{said}"), "").into());
            }
        }
        Err(Halt::Asked)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shelter.close(Some(&mut self.guest));
    }
}

fn init(programs: &Programs, shelter: &mut Shelter, ending: &Ending) -> Result<(), Halt> {
    let failed = |error: io::Error| Refusal::refused(format!("start initdb: {error}"), "");
    let log = shelter.join("server.log");
    let mut initdb = account::command(&programs.folder.join("initdb"), shelter.account());
    initdb.args(["--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]);
    initdb.arg("--pwfile").arg(shelter.join("password")).arg("-D").arg(shelter.join("data"));
    let (out, err) = outputs(&log).map_err(failed)?;
    if !shelter.run(initdb.stdout(out).stderr(err), ending)?.success() {
        return Err(Refusal::refused(format!("initdb failed\n{}", tail(&log)), "").into());
    }
    let _ = std::fs::remove_file(shelter.join("password"));
    Ok(())
}

fn launch(programs: &Programs, shelter: &mut Shelter, port: u16) -> io::Result<Guest> {
    let mut postgres = account::command(&programs.folder.join("postgres"), shelter.account());
    postgres.arg("-D").arg(shelter.join("data")).args(["-c", &format!("port={port}")]);
    postgres.args(["-c", &format!("unix_socket_directories={}", shelter.folder().display())]);
    for setting in SETTINGS {
        postgres.args(["-c", setting]);
    }
    let (out, err) = outputs(&shelter.join("server.log"))?;
    // QUIT is the immediate shutdown: nothing here is worth a checkpoint.
    shelter.start(postgres.stdout(out).stderr(err), "QUIT")
}

/// Waits until it answers. `false` when it has ended instead.
fn is_up(guest: &mut Guest, url: &str, ending: &Ending) -> Result<bool, Halt> {
    let config = Config::parse(url)?;
    let end = Instant::now() + START_LIMIT;
    loop {
        ending.check()?;
        if !guest.is_running() {
            return Ok(false);
        }
        match Connection::connect(&config) {
            // Another program on the port would not know the password.
            Ok(connection) => {
                connection.close();
                return Ok(true);
            }
            Err(error) if Instant::now() > end => return Err(Refusal::from(error).into()),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn outputs(log: &Path) -> io::Result<(File, File)> {
    let out = File::options().append(true).open(log)?;
    Ok((out.try_clone()?, out))
}

/// A port of loopback that nobody listens on.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn password() -> io::Result<String> {
    let mut bytes = [0; 12];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
