//! Turns "we are root" into another user for PostgreSQL, which refuses to run as root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// `nobody` where the list of users does not name it.
const NOBODY: u32 = 65534;

/// The user that servers run as when ours, `uid`, is root: `postgres` if there is one, else `nobody`.
pub(super) fn for_servers(uid: u32) -> Option<Account> {
    let users = || std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    (uid == 0).then(|| choose(&users()))
}

/// A command that such a user runs: in a folder that it can enter, with messages that we can read.
pub(super) fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn choose(users: &str) -> Account {
    let find = |name| users.lines().find_map(|line| read(line, name));
    find("postgres").or_else(|| find("nobody")).unwrap_or(Account { uid: NOBODY, gid: NOBODY })
}

/// `name:password:uid:gid:…`; a negative number is how some systems write the highest ones.
fn read(line: &str, name: &str) -> Option<Account> {
    let mut fields = line.split(':');
    if fields.next() != Some(name) {
        return None;
    }
    let mut number = |skip| fields.nth(skip)?.parse::<i64>().ok().map(|number| number as u32);
    let account = Account { uid: number(1)?, gid: number(0)? };
    (account.uid != 0).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_comes_before_nobody() {
        let nobody = "root:x:0:0:root:/root:/bin/sh\nnobody:*:-2:-2::/:/bin/false\n";
        assert_eq!(choose(nobody), Account { uid: u32::MAX - 1, gid: u32::MAX - 1 });
        let both = format!("{nobody}postgres:x:101:104::/var:/bin/sh\n");
        assert_eq!(choose(&both), Account { uid: 101, gid: 104 });
        assert_eq!(choose("postgres:x:0:0::/:/bin/sh\npostgres2:x:5:5::/:/bin/sh\n"), Account { uid: NOBODY, gid: NOBODY });
    }
}
