//! Turns a command into a process that can be killed, frozen and measured, and that never outlives the tests.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::scratch::{SERVER_UID, are_we_root, give};
use crate::wait;
use crate::watchdog::{self, Watch};

/// How a process ended, and how long that took from the request.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// The exit code, or `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Time from the request to the end.
    pub took: Duration,
}

/// A running process of ours: dies on drop, and with the test process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    watch: Watch,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts a command with its output appended to `log`.
    ///
    /// `end_signal` is what ends it best when the tests die: `QUIT` for PostgreSQL, `KILL` for the others.
    pub fn start(name: &str, command: &mut Command, log: &Path, end_signal: &str) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("open the log file");
        give(log);
        let spawned = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the log file"))
            .stderr(file)
            .process_group(0)
            .spawn();
        let child = spawned.unwrap_or_else(|e| panic!("start {name} ({:?}): {e}", command.get_program()));
        let watch = watchdog::end_with_us(child.id(), end_signal);
        Self { name: name.to_owned(), child, watch, ended: None, log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet (a frozen one counts as running).
    pub fn is_running(&mut self) -> bool {
        self.look().is_none()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_child(&self.child);
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it at once, as the kernel's out-of-memory killer would, and waits for it.
    pub fn kill_9(&mut self) -> Exit {
        self.end_by(Signal::KILL, Duration::from_secs(20))
    }

    /// Freezes it: the system keeps its connections open and nobody answers on them.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        println!("{}: frozen", self.name);
    }

    /// Lets it run on.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        println!("{}: thawed", self.name);
    }

    /// Sends a signal and waits for the end; panics when it does not come.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal, limit: Duration) -> Exit {
        let start = Instant::now();
        self.signal(signal);
        self.wait_from(start, limit)
    }

    /// Waits for an end that comes by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Exit {
        self.wait_from(Instant::now(), limit)
    }

    #[track_caller]
    fn wait_from(&mut self, start: Instant, limit: Duration) -> Exit {
        let Some(status) = wait::try_until(limit, || self.look()) else {
            panic!("{} (pid {}) did not end within {limit:?}; its log ends with\n{}", self.name, self.pid(), self.log_tail());
        };
        let exit = Exit { code: status.code(), signal: status.signal(), took: start.elapsed() };
        println!("{}: ended with {status} after {:?}", self.name, exit.took);
        exit
    }

    /// Its children, such as the backends of a PostgreSQL server.
    pub fn children(&self) -> Vec<Pid> {
        let pid = self.pid();
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// User and system CPU time so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The most memory it has ever had resident, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory it has resident now, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// All that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of what it has printed, for a panic message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    fn look(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("ask for the state of a child");
            if self.ended.is_some() {
                watchdog::already_ended(&self.watch);
            }
        }
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.look().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            watchdog::already_ended(&self.watch);
        }
    }
}

/// A command that runs as the servers' user when we are root, and as us otherwise.
pub fn as_server(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if are_we_root() {
        command.uid(SERVER_UID).gid(SERVER_UID);
    }
    command
}

/// Runs a command to its end; panics with its output when it fails.
pub fn run(what: &str, command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{what}: start {:?}: {e}", command.get_program()));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {:?} ended with {}\n{text}", command.get_program(), output.status);
    text
}
