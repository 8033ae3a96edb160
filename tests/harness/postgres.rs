//! Turns a version and some settings into a running PostgreSQL server that tests may stop, kill and start again.

mod standby;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls, SimpleQueryMessage};
use rustix::process::{Signal, kill_process};

use crate::fetch;
use crate::ports::free_port;
use crate::process::{Exit, Process, as_server, run};
use crate::scratch::{Scratch, give};
use crate::versions::Version;
use crate::wait::{secs, until};

/// How long a start may take, crash recovery included, on a busy machine of two cores.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What a server is to be before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    version: Version,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    tls: Option<(String, String, Option<String>)>,
}

/// A server of its own in a folder of its own, on 127.0.0.1 and on a unix socket. Gone on drop.
#[derive(Debug)]
pub struct Postgres {
    version: Version,
    home: PathBuf,
    port: u16,
    process: Option<Process>,
    scratch: Scratch,
}

/// The rows of a query, every value as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

// === impl Builder ===

impl Builder {
    /// A setting of postgresql.conf, over the harness's own.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With fsync: for tests that measure, or that pull the plug.
    pub fn durable(self) -> Self {
        self.setting("fsync", "on").setting("full_page_writes", "on")
    }

    /// A line of pg_hba.conf, before the ones that let everybody in from loopback. The first match counts.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// TLS with a certificate and key in PEM; `client_ca` makes the server ask for client certificates of that CA.
    pub fn tls(mut self, cert_pem: &str, key_pem: &str, client_ca: Option<&str>) -> Self {
        self.tls = Some((cert_pem.to_owned(), key_pem.to_owned(), client_ca.map(str::to_owned)));
        self
    }

    /// Makes the cluster and starts it.
    pub fn start(self) -> Postgres {
        let start = Instant::now();
        let home = fetch::postgres(self.version);
        let scratch = Scratch::new("pg");
        let data = scratch.join("data");
        let mut initdb = as_server(home.join("bin/initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        run("initdb", &mut initdb);
        let server = Postgres { version: self.version, home, port: free_port(), process: None, scratch };
        self.write_files(&server, &data);
        let mut server = server;
        server.start_again();
        println!("{} ready on port {} after {:.2?}", server.version, server.port, start.elapsed());
        server
    }

    fn write_files(&self, server: &Postgres, data: &Path) {
        let mut conf = String::from(DEFAULTS);
        let folder = server.scratch.path().display();
        conf.push_str(&format!("port = {}\nunix_socket_directories = '{folder}'\n", server.port));
        if let Some((cert, key, client_ca)) = &self.tls {
            let cert = server.scratch.write("server.pem", cert);
            let key = server.scratch.write("server.key", key);
            conf.push_str("ssl = on\n");
            conf.push_str(&format!("ssl_cert_file = '{}'\nssl_key_file = '{}'\n", cert.display(), key.display()));
            if let Some(ca) = client_ca {
                conf.push_str(&format!("ssl_ca_file = '{}'\n", server.scratch.write("clients.pem", ca).display()));
            }
        }
        for (name, value) in &self.settings {
            conf.push_str(&setting_line(name, value));
        }
        let mut hba = String::from("local all postgres trust\n");
        self.hba.iter().for_each(|line| hba.push_str(&format!("{line}\n")));
        for (kind, address) in [("local", ""), ("host", "127.0.0.1/32")] {
            hba.push_str(&format!("{kind} all all {address} trust\n{kind} replication all {address} trust\n"));
        }
        append(&data.join("postgresql.conf"), &conf);
        std::fs::write(data.join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        give(&data.join("pg_hba.conf"));
    }
}

/// Loopback only, logical decoding on, quick rather than durable.
const DEFAULTS: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 100
shared_buffers = '64MB'
max_prepared_transactions = 20
fsync = off
full_page_writes = off
log_min_messages = info
log_replication_commands = on
log_line_prefix = '%m [%p] %q%u@%d %a '
";

// === impl Postgres ===

impl Postgres {
    /// A server with the harness's defaults.
    pub fn start(version: Version) -> Postgres {
        Self::builder(version).start()
    }

    /// A server to be described further.
    pub fn builder(version: Version) -> Builder {
        Builder { version, settings: Vec::new(), hba: Vec::new(), tls: None }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its TCP port on 127.0.0.1, the same after each start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// The postmaster, for signals and measurements; panics while the server is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server is running")
    }

    /// All that the server has logged.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(self.scratch.join("server.log")).unwrap_or_default()
    }

    /// A URL over TCP for a role, database `postgres`.
    pub fn url(&self, user: &str) -> String {
        self.url_through(user, self.port)
    }

    /// The same through another port of loopback: the fault proxy's.
    pub fn url_through(&self, user: &str, port: u16) -> String {
        format!("postgres://{user}@127.0.0.1:{port}/postgres")
    }

    /// A URL over the unix socket.
    pub fn unix_url(&self, user: &str) -> String {
        format!("postgres://{user}@/postgres?host={}&port={}", self.scratch.path().display(), self.port)
    }

    /// An ordinary connection over the unix socket.
    pub fn connect(&self, user: &str, database: &str) -> Result<Client, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(self.scratch.path()).port(self.port).user(user).dbname(database);
        config.connect_timeout(secs(10)).application_name("relay-tests").connect(NoTls)
    }

    /// A connection as superuser.
    pub fn superuser(&self) -> Client {
        self.connect("postgres", "postgres").unwrap_or_else(|e| panic!("connect as superuser: {e:?}"))
    }

    /// Runs statements as superuser, in one implicit transaction as psql's `-c` does; answers the rows.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Rows {
        self.try_sql(statements).unwrap_or_else(|e| panic!("{e}\nin {statements}"))
    }

    /// As [`Postgres::sql`], with the server's refusal as an answer.
    pub fn try_sql(&self, statements: &str) -> Result<Rows, String> {
        let tell = |e: postgres::Error| e.as_db_error().map_or_else(|| format!("{e:?}"), |e| format!("{}: {e}", e.code().code()));
        let mut client = self.connect("postgres", "postgres").map_err(tell)?;
        let messages = client.simple_query(statements).map_err(tell)?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(Rows(messages.iter().filter_map(row).collect()))
    }

    /// Changes a setting and reloads; for settings that need no restart.
    pub fn set(&self, name: &str, value: &str) {
        append(&self.data().join("postgresql.conf"), &setting_line(name, value));
        self.sql("SELECT pg_reload_conf()");
    }

    /// Starts the server on the data directory and port it had; nothing happens while it runs.
    pub fn start_again(&mut self) {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return;
        }
        let log = self.scratch.join("server.log");
        let begin = Instant::now();
        until("PostgreSQL to accept connections", START_LIMIT, || {
            if !self.process.as_mut().is_some_and(Process::is_running) {
                let early = self.process.take().map(|p| p.log_tail());
                // The dying backends of a killed server hold its shared memory a moment longer.
                let held = early.as_ref().is_none_or(|log| log.contains("shared memory block") || log.contains("lock file"));
                let held = held && begin.elapsed() < secs(30);
                assert!(held, "PostgreSQL ended while starting\n{}", early.unwrap_or_default());
                if early.is_some() {
                    std::thread::sleep(Duration::from_millis(100));
                }
                let mut command = as_server(self.home.join("bin/postgres"));
                command.arg("-D").arg(self.data());
                self.process = Some(Process::start("PostgreSQL", &mut command, &log, "QUIT"));
            }
            let mut client = self.connect("postgres", "postgres").ok()?;
            client.simple_query("SELECT 1").ok()
        });
    }

    /// Fast shutdown: sessions are ended and walsenders wait until their clients have confirmed all WAL. The time it
    /// took is in the answer: a client that holds it up shows there.
    #[track_caller]
    pub fn stop_fast(&mut self) -> Exit {
        self.stop_fast_within(secs(120))
    }

    /// As [`Postgres::stop_fast`]; panics when it takes longer.
    #[track_caller]
    pub fn stop_fast_within(&mut self, limit: Duration) -> Exit {
        let exit = self.process().end_by(Signal::INT, limit);
        self.process = None;
        exit
    }

    /// Immediate shutdown: as a crash, with recovery at the next start.
    pub fn stop_immediate(&mut self) -> Exit {
        let exit = self.process().end_by(Signal::QUIT, secs(30));
        self.process = None;
        exit
    }

    /// Kills the postmaster and all its children with -9.
    pub fn kill_9(&mut self) -> Exit {
        let children = self.process().children();
        let exit = self.process().kill_9();
        for pid in children {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.process = None;
        exit
    }

    /// Fast shutdown and start.
    pub fn restart(&mut self) {
        self.stop_fast();
        self.start_again();
    }

    /// Freezes every process of the server: connections stay open, nothing answers.
    pub fn pause(&mut self) {
        self.process().pause();
        self.signal_children(Signal::STOP);
    }

    /// Lets every process of the server run on.
    pub fn resume(&mut self) {
        self.signal_children(Signal::CONT);
        self.process().resume();
    }

    fn signal_children(&mut self, signal: Signal) {
        for pid in self.process().children() {
            let _ = kill_process(pid, signal);
        }
    }

    /// A killed postmaster leaves its System V segment, 56 bytes that count towards a limit of the machine.
    fn free_shared_memory(&self) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let id = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
        if let Some(id) = id {
            let _ = Command::new("ipcrm").args(["-m", &id]).output();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal_children(Signal::CONT);
        }
        if let Some(process) = &mut self.process {
            process.signal(Signal::CONT);
            process.signal(Signal::QUIT);
            let end = Instant::now() + secs(5);
            while process.is_running() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.process = None;
        self.free_shared_memory();
    }
}

// === impl Rows ===

impl Rows {
    /// The only value of the only row; panics when there is another shape or a NULL.
    #[track_caller]
    pub fn one(&self) -> &str {
        match self.0.as_slice() {
            [row] if row.len() == 1 => row[0].as_deref().expect("the value is not NULL"),
            other => panic!("wanted one value, got {other:?}"),
        }
    }

    /// The only value as a number.
    #[track_caller]
    pub fn number(&self) -> i64 {
        self.one().parse().unwrap_or_else(|_| panic!("not a number: {:?}", self.one()))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

fn append(path: &Path, text: &str) {
    let old = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    std::fs::write(path, old + text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}
