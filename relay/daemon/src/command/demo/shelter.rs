//! Turns the end of this process, however it comes, into the end of what the demo has started and of its folder.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::account::{self, Account};
use super::ending::Ending;
use super::{Halt, PAUSE};
use crate::command::refusal::Refusal;

/// A folder of our own, and a shell that tidies up once we are gone.
///
/// The shell holds one end of a pipe. When the pipe closes, and the system closes it even after a SIGKILL, the shell ends the
/// process that it was told about last, with the children of that process, and removes the folder. A normal end takes the same
/// way.
#[derive(Debug)]
pub(super) struct Shelter {
    folder: PathBuf,
    shell: Child,
    account: Option<Account>,
}

/// A process that the shelter's shell ends if we do not.
#[derive(Debug)]
pub(super) struct Guest {
    child: Child,
}

/// One line, `SIGNAL GROUP`, replaces the line before it; `none 0` forgets it.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT PIPE
signal=none group=0
while read -r signal_now group_now; do signal=$signal_now group=$group_now; done
is_alive() { kill -s 0 -- "-$group"; }
if [ "$signal" != none ]; then
  kill -s "$signal" -- "-$group"
  round=0
  while is_alive && [ $round -lt 60 ]; do sleep 0.05; round=$((round + 1)); done
  is_alive && kill -s KILL -- "-$group"
fi
case $1 in */relay-demo-*) rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; } ;; esac
"#;

/// Room for the name of a unix socket in the 104 bytes that the smallest system has for its path.
const PATH_MAX: usize = 104 - ".s.PGSQL.65535.lock".len() - 1;
/// How long what was started may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

// === impl Shelter ===

impl Shelter {
    /// Makes the folder and starts the shell.
    pub(super) fn new() -> Result<Self, Refusal> {
        let failed = |what: &str, error: io::Error| Refusal::refused(format!("{what}: {error}"), "");
        let name = format!("relay-demo-{}", std::process::id());
        let mut folder = std::env::temp_dir().join(&name);
        if folder.as_os_str().len() > PATH_MAX {
            folder = Path::new("/tmp").join(&name);
        }
        // Fails when somebody else has made it, and lets nobody else in.
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| failed("make a temporary folder", error))?;
        let owner = folder.metadata().map_or(1, |metadata| metadata.uid());
        let account = account::for_servers(owner);
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "relay-demo-shelter"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Out of the terminal's foreground group: Ctrl-C is for us alone.
            .process_group(0)
            .spawn();
        let shell = shell.map_err(|error| {
            let _ = std::fs::remove_dir(&folder);
            failed("start `sh`", error)
        })?;
        let shelter = Self { folder, shell, account };
        shelter.give("").map_err(|error| failed("give the temporary folder to the server's user", error))?;
        Ok(shelter)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The user that servers run as, where we are root.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Writes a file that only we and the servers can read.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.join(name);
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        self.give(name)?;
        Ok(path)
    }

    /// Makes the servers' user own a file of the folder.
    fn give(&self, name: &str) -> io::Result<()> {
        match &self.account {
            Some(account) => std::os::unix::fs::chown(self.join(name), Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// Starts a process in a group of its own; `signal` ends it best.
    pub(super) fn start(&mut self, command: &mut Command, signal: &str) -> io::Result<Guest> {
        let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        self.tell(&format!("{signal} {}", child.id()));
        Ok(Guest { child })
    }

    /// Runs a process to its end, or to ours.
    pub(super) fn run(&mut self, command: &mut Command, ending: &Ending) -> Result<ExitStatus, Halt> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error: io::Error| Refusal::refused(format!("run `{program}`: {error}"), "");
        let mut guest = self.start(command, "TERM").map_err(failed)?;
        loop {
            if let Some(status) = guest.child.try_wait().map_err(failed)? {
                self.tell("none 0");
                return Ok(status);
            }
            ending.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends what was started last, and removes the folder.
    pub(super) fn close(&mut self, guest: Option<&mut Guest>) {
        drop(self.shell.stdin.take());
        if let Some(guest) = guest
            && !wait(&mut guest.child)
        {
            let _ = guest.child.kill();
            let _ = guest.child.wait();
        }
        wait(&mut self.shell);
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.shell.stdin {
            // Without the shell we still end things by ourselves, as long as we live.
            let _ = writeln!(pipe, "{line}").and_then(|()| pipe.flush());
        }
    }
}

impl Drop for Shelter {
    fn drop(&mut self) {
        self.close(None);
    }
}

// === impl Guest ===

impl Guest {
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Whether the process has ended within the limit.
fn wait(child: &mut Child) -> bool {
    let end = Instant::now() + END_LIMIT;
    while Instant::now() < end {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
