//! Turns this machine's folders into PostgreSQL's server programs, of a version that has what relay needs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::account::{self, Account};

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    /// The folder that holds them.
    pub(super) folder: PathBuf,
    pub(super) version: Version,
}

/// A version, such as `15.14` or `18beta1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) text: String,
}

/// The oldest version that relay reads from.
const MAJOR_MIN: u32 = 14;
/// What must be in the folder.
const NEEDED: [&str; 2] = ["initdb", "postgres"];
/// Where packages put servers; `*` stands for a version.
const USUAL: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// The programs to use: the first on PATH, else the newest of the usual places, else what was fetched before.
///
/// `search` replaces PATH and the usual places.
pub(super) fn find(search: Option<&str>, cache: &Path, account: Option<&Account>) -> Option<Programs> {
    let look = |folder: PathBuf| look(folder, account);
    let newest = |folders: Vec<PathBuf>| folders.into_iter().filter_map(look).max_by_key(|found| found.version.major);
    let fetched = || newest(expand(&format!("{}/postgresql-*/bin", cache.display())));
    match search {
        Some(search) => std::env::split_paths(search).filter(|path| !path.as_os_str().is_empty()).find_map(look),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).find_map(look).or_else(|| newest(USUAL.iter().flat_map(|usual| expand(usual)).collect()))
        }
    }
    .or_else(fetched)
}

/// The programs of that folder, if they are there, run as that user and are new enough.
pub(super) fn look(folder: PathBuf, account: Option<&Account>) -> Option<Programs> {
    if !folder.is_absolute() || !NEEDED.iter().all(|name| folder.join(name).is_file()) {
        return None;
    }
    let ask = |name| {
        let mut command = account::command(&folder.join(name), account);
        command.arg("--version").stdin(Stdio::null()).output().ok().filter(|output| output.status.success())
    };
    // A library that initdb lacks shows only when it runs.
    ask("initdb")?;
    let version = Version::parse(std::str::from_utf8(&ask("postgres")?.stdout).ok()?)?;
    (version.major >= MAJOR_MIN).then_some(Programs { folder, version })
}

/// The folders that a path with one `*` in it stands for.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| name.starts_with(prefix));
    names.map(|name| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

// === impl Version ===

impl Version {
    /// Reads what `postgres --version` prints.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("postgres (PostgreSQL) ")?;
        let text = rest.split_whitespace().next()?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        Some(Self { major: text.get(..digits)?.parse().ok()?, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        let parse = |text| Version::parse(text).map(|version| (version.major, version.text));
        assert_eq!(parse("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some((15, "15.14".into())));
        assert_eq!(parse("postgres (PostgreSQL) 18.1\n"), Some((18, "18.1".into())));
        assert_eq!(parse("postgres (PostgreSQL) 19beta2"), Some((19, "19beta2".into())));
        assert_eq!(parse("postgres (PostgreSQL) 9.6.24"), Some((9, "9.6.24".into())));
        assert_eq!(parse("postgres (PostgreSQL) devel"), None);
        assert_eq!(parse("psql (PostgreSQL) 15.14"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_star_stands_for_every_entry() {
        let folder = std::env::temp_dir().join(format!("relay-programs-{}", std::process::id()));
        for name in ["pg-14", "pg-15", "other"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut found = expand(&format!("{}/pg-*/bin", folder.display()));
        found.sort();
        assert_eq!(found, [folder.join("pg-14/bin"), folder.join("pg-15/bin")]);
        assert_eq!(expand("/nowhere-at-all/*/bin"), Vec::<PathBuf>::new());
        assert_eq!(look(folder.join("pg-15"), None), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
