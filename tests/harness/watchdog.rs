//! Turns the end of the test process, however it comes, into the end of its servers and folders.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::scratch;

/// One shell per test process. It learns pids and folders on its standard input and acts when that closes, which the
/// system does even for a process killed with -9. A pid counts only while its start time is the one we were told, so a
/// reused number is never hit. Signals first (PostgreSQL frees its shared memory on QUIT), KILL after three seconds;
/// children too, because frozen ones do not notice that their parent has gone.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT PIPE
procs=" " dirs=" " below=
while read -r op what; do
  case "$op" in
    +p) procs="$procs$what " ;;
    -p) procs="${procs%% "$what" *} ${procs#* "$what" }" ;;
    +d) dirs="$dirs$what " ;;
    -d) dirs="${dirs%% "$what" *} ${dirs#* "$what" }" ;;
  esac
done
alive() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- "$2" ${stat##*) }
  [ "$1" = "${21}" ] && [ "$2" != Z ]
}
for p in $procs; do
  pid=${p%%:*} rest=${p#*:}
  if alive "$pid" "${rest%%:*}"; then
    below="$below $(cat "/proc/$pid/task/$pid/children")"
    kill -s "${rest#*:}" "$pid"
    kill -s CONT "$pid" $below
  fi
done
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  any=
  for p in $procs; do rest=${p#*:}; alive "${p%%:*}" "${rest%%:*}" && any=1; done
  [ -z "$any" ] && break
  sleep 0.2
done
for p in $procs; do rest=${p#*:}; alive "${p%%:*}" "${rest%%:*}" && kill -s KILL "${p%%:*}"; done
[ -n "$below" ] && kill -s KILL $below
for d in $dirs; do
  case "$d" in */relay-*) rm -rf -- "$d" || { sleep 0.5; rm -rf -- "$d"; } ;; esac
done
"#;

/// The shell and its standard input.
static SHELL: OnceLock<Mutex<(Child, ChildStdin)>> = OnceLock::new();

/// What the watchdog was told about one process; hand it back when that process is known to be gone.
#[derive(Debug, Clone)]
pub struct Watch(String);

/// Names a process to end with us, and the signal that ends it best.
pub fn end_with_us(pid: u32, signal: &str) -> Watch {
    let watch = Watch(format!("{pid}:{}:{signal}", start_time(pid).unwrap_or(0)));
    tell(&format!("+p {}", watch.0));
    watch
}

/// The process is gone and waited for.
pub fn already_ended(watch: &Watch) {
    tell(&format!("-p {}", watch.0));
}

/// Names a folder to remove with us.
pub fn remove_at_end(path: &Path) {
    if !scratch::keep() {
        let text = path.to_str().expect("a temporary folder has a plain name");
        assert!(!text.contains(char::is_whitespace), "the temporary folder must have no blanks in its path: {text:?}");
        tell(&format!("+d {}", path.display()));
    }
}

/// The folder is gone.
pub fn already_removed(path: &Path) {
    tell(&format!("-d {}", path.display()));
}

/// When a process started, in clock ticks since boot: with the pid, its identity.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields after the name, which may hold blanks: the start time is field 22, the first after the name is 3.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn tell(line: &str) {
    let mut shell = SHELL.get_or_init(start).lock().expect("watchdog is not poisoned");
    let told = writeln!(shell.1, "{line}").and_then(|()| shell.1.flush());
    told.expect("the watchdog shell is gone: something killed it");
}

fn start() -> Mutex<(Child, ChildStdin)> {
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "relay-test-watchdog"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // Out of the terminal's foreground group, so that Ctrl-C ends the tests and leaves the shell to tidy up.
        .process_group(0)
        .spawn()
        .expect("start `sh`, which ends the servers with the tests");
    let stdin = shell.stdin.take().expect("the watchdog's standard input is a pipe");
    Mutex::new((shell, stdin))
}
